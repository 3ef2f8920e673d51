"""The service's application around hubs of a test's own."""

from __future__ import annotations

from typing import Any

from falcon import App

from sse_core import Hub
from sse_kit.app import create_app
from sse_kit.namespaces import Namespaces
from sse_kit.settings import Settings


def app_of(hub: Hub, settings: Settings | None = None, **others: Hub) -> App[Any, Any]:
    """Return the application with ``hub`` as its default namespace, and ``others`` by their names."""
    settings = settings or Settings()
    return create_app(settings, namespaces=Namespaces(settings, {"default": hub, **others}))
