"""URLs and bodies as templates: ``{topic}`` and its like are replaced, every other brace is text, so that JSON stays JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"\{([a-z]+)\}")


class TemplateError(ValueError):
    """A template names what nobody fills in."""


def fill(template: str, values: Mapping[str, object]) -> str:
    """Return the template with each ``{name}`` replaced. Values are put in as they are: ours need no quoting anywhere.

    Raises `TemplateError` for a name that is none of ``values``.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            known = ", ".join(f"{{{each}}}" for each in sorted(values))
            raise TemplateError(f"{{{name}}} is nothing that is known here; there is {known}: {template!r}")
        return str(values[name])

    return _NAME.sub(value, template)
