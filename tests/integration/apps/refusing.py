"""An application that refuses everything before it has read anything of it."""

from __future__ import annotations

from tests.integration.apps.wsgi import refused as application

__all__ = ["application"]
