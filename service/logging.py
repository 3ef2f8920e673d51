"""Our own log, and gunicorn's, in one format on standard error: JSON lines for machines, or a console's for people."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from gunicorn import glogging
from structlog.typing import Processor

from .request_id import add_request_id
from .settings import Settings

# For our own events and for records of the standard library alike.
SHARED: list[Processor] = [
    add_request_id,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


class Handler(logging.StreamHandler[TextIO]):
    """A class of its own, so that `configure` finds what it has attached, and leaves what others have."""


def configure(settings: Settings) -> None:
    """Route structlog and the standard library's root logger to standard error. Repeating it replaces the handler."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, Handler)]:
        root.removeHandler(handler)
    root.addHandler(_handler(settings))
    root.setLevel(settings.log_level.upper())
    # It tells each change of a folder that holds a log: a line of ours for each line of that one.
    logging.getLogger("watchfiles").setLevel(max(logging.WARNING, root.level))


# All that a terminal takes for more than text (ECMA-48): C0, DEL, C1; and what turns the direction of what follows.
_CONTROLS = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(32), *range(127, 160), *range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}
_CONTROLS_OF_LINES = {code: text for code, text in _CONTROLS.items() if code != ord("\n")}
# Written by us in several lines.
_BLOCKS = ("exception", "stack")


def escape_controls(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor: what a client sent must not move the cursor, clear the screen or begin a line of its own."""
    for key, value in event.items():
        if isinstance(value, int | float | None):
            continue
        text = value if isinstance(value, str) else repr(value)
        event[key] = text.translate(_CONTROLS_OF_LINES if key in _BLOCKS else _CONTROLS)
    return event


# A token where one is sent: in an address, in the two header fields, and a JSON Web Token wherever it is.
_SECRETS = re.compile(
    r"""(access(?:_|%5f)token=|\bsse-kit=|\bbearer\s+(?=[^\s'"]{16}))[^\s&;,'"]+|()eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?""",
    re.IGNORECASE,
)


def redact(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor: gunicorn quotes what it cannot read of a request, its line and its head, and so what is secret in there."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _SECRETS.sub(lambda match: (match[1] or "") + "...", value)
    return event


def _handler(settings: Settings) -> Handler:
    handler = Handler(sys.stderr)
    last: list[Processor] = (
        [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            # A traceback without the values of local variables: prompts, tokens and bodies are among them.
            structlog.processors.format_exc_info,
            redact,
            escape_controls,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *SHARED],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    return handler


class GunicornLogger(glogging.Logger):  # type: ignore[misc] # gunicorn ships no types
    """Gunicorn's logger with its messages passed on to the root logger.

    Not done by gunicorn's ``logconfig_dict``, because that switches the access log on: a line composed for each request,
    the hot path of publishing included. nginx, in front, writes that log.
    """

    def setup(self, cfg: Any) -> None:
        """Drop the handler that gunicorn attaches, and let the records propagate."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
