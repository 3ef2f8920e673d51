"""The interface of the package flask-sse on a hub: change the import, and what the application does stays as it is.

    from sse_core.contrib.flask import sse

    app.config["REDIS_URL"] = "redis://localhost:6379/0"
    app.register_blueprint(sse, url_prefix="/stream")
    ...
    sse.publish({"message": "Hello!"}, type="greeting")

Clients then resume where they were, and open streams hold neither a thread nor a connection to Redis. The one difference
to know of: an event's id on the wire is the hub's, and ``id=`` is an idempotency key. docs/flask-sse.md has the rest.
"""

from __future__ import annotations

import json as standard_json
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, abort, current_app, json, request

from sse_core import (
    ConfigurationError,
    Event,
    EventParser,
    EventStream,
    ForbiddenError,
    Hub,
    HubClosedError,
    Receipt,
    TopicError,
    frame,
)

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["Message", "ServerSentEventsBlueprint", "sse"]

#: What ``SSE_REDIS_URL`` is set to where there is one process and no Redis.
MEMORY = "memory"
#: Where the hubs of an application are kept, in ``app.extensions``.
_EXTENSION = "sse_core"
#: The comment of an event whose data is a str that reads like other JSON; `ServerSentEventsBlueprint.messages` goes by it.
_IS_TEXT = "str"
#: Seconds until `ServerSentEventsBlueprint.messages` asks again where there is no room, or no Redis.
_RETRY_AFTER = 1.0
_CHUNK = 65536


@dataclass
class Message:
    """What is published as one event: any JSON value, and optionally the event's type, id and reconnection time (ms).

    ``str(message)`` is the event's bytes on the wire, as text. It raises `EventError` for what cannot be put there.
    """

    data: Any
    type: str | None = None
    id: str | None = None
    retry: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """``data``, and of the other three those that are set."""
        others = {"type": self.type, "id": self.id, "retry": self.retry}
        return {"data": self.data, **{name: value for name, value in others.items() if value}}

    def to_event(self) -> Event:
        """The event that a client receives. Raises `EventError`; TypeError for data that the application cannot serialize.

        A str is sent as it is, and anything else as the JSON that the application's provider makes of it.
        """
        # There and back, as what is published with flask-sse travels: a date has then become a str, a key of a dict too.
        plain: dict[str, Any] = json.loads(json.dumps(self.to_dict()))
        data, retry = plain["data"], plain.get("retry")
        is_text = isinstance(data, str)
        return Event(
            data if is_text else json.dumps(data),
            event=str(plain["type"]) if "type" in plain else None,
            id=str(plain["id"]) if "id" in plain else None,
            retry=int(retry) if isinstance(retry, str) and retry.isdecimal() else retry,
            comment=_IS_TEXT if is_text and not isinstance(_value(data), str) else None,
        )

    def __str__(self) -> str:
        return frame(self.to_event()).decode()


class ServerSentEventsBlueprint(Blueprint):
    """A Flask blueprint that publishes events and streams them. Make one, give it a rule for `stream`, and register it::

        orders = ServerSentEventsBlueprint("orders", __name__)
        orders.add_url_rule("", endpoint="stream", view_func=orders.stream)

    `sse` is one with that rule. Blueprints keep nothing of their own: in an application all of them share one hub for each
    URL. The application's configuration says where it is:

    * ``SSE_REDIS_URL``, or else ``REDIS_URL``: any URL that `RedisBackplane` takes; ``"memory"`` for one process alone;
    * ``SSE_REDIS_OPTIONS``, ``SSE_HUB_OPTIONS``: dicts of further arguments of `RedisBackplane` and of `Hub`.

    A subclass with a ``hub`` of its own needs none of these. All methods need an application context and are thread-safe.
    """

    @property
    def hub(self) -> Hub:
        """The current application's hub, for all that flask-sse has no name for. It starts with its first use.

        Raises KeyError where no URL is configured, and `ConfigurationError` for one that is none.
        """
        return _hubs().hub(_url())

    @property
    def redis(self) -> Redis:
        """A client of the Redis that the configuration names, one for each application. It is not the hub's own."""
        return _hubs().client(_url())

    def publish(
        self,
        data: Any,
        type: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        channel: str = "sse",
    ) -> Receipt:
        """Publish one event on a channel and return its receipt; it never waits for a client.

        A str is sent as it is, anything else as JSON. ``type`` is the event's name, ``retry`` the reconnection time in
        milliseconds. ``id`` is an idempotency key: within the key window (120 s) the same one again publishes nothing and
        returns the first event's receipt, whose ``id`` is the one on the wire. Falsy ones count as not given.

        Raises what `Hub.publish` does, TypeError for data that is no JSON, KeyError where no URL is configured.
        """
        return self.hub.publish(_topic(channel), Message(data, type, id, retry).to_event())

    def messages(self, channel: str = "sse", last_event_id: str | None = None) -> Iterator[Message]:
        """Yield what is published on a channel from the first ``next`` on, or after ``last_event_id``; it blocks between.

        ``data`` is what was published, JSON decoded; ``id`` is the event's id on the wire, to go on after later. A reader
        that is too slow is told what it missed by a message of type ``gap``. It ends when the hub is closed or drained.
        Raises `TopicError`; KeyError where no URL is configured; `BackplaneError` where Redis is away at the beginning.
        """
        hub = self.hub
        # It starts the hub, so that a Redis that is not there is an error and no endless wait.
        _ = hub.horizon
        while True:
            try:
                stream = hub.subscribe(_topic(channel), last_event_id=last_event_id)
                if stream.over:
                    return
                for block in _blocks(hub, stream):
                    parser = EventParser(max_event_bytes=max(len(block), 64))
                    for event in parser.feed(block):
                        # Before the message is taken: it may be the last one that is.
                        last_event_id = event.id
                        yield _message(event, is_text=block.startswith(b": %b\n" % _IS_TEXT.encode()))
                    last_event_id = parser.last_event_id or last_event_id
            except HubClosedError:
                return
            if hub.draining:
                return

    def stream(self) -> Response:
        """The view: the stream of the channel that the query names (``?channel=``), ``sse`` if it names none.

        A client that comes back with an id gets what it missed. The stream is handed over to the hub where the server can.
        """
        channel = request.args.get("channel") or "sse"
        try:
            body = self.hub.subscribe(channel, environ=request.environ)
        except TopicError as error:
            abort(400, f"channel: {error}")
        except ForbiddenError:
            abort(403)
        except HubClosedError:
            abort(503, "The server is stopping.")
        return current_app.response_class(body, status=body.status, headers=body.headers)


class _Hubs:
    """What one application has: a hub and a client for each URL. Thread-safe; its hubs are closed when it is gone."""

    def __init__(self) -> None:
        self._made: dict[str, Hub] = {}
        self._clients: dict[str, Redis] = {}
        # Applications come and go in test suites, and each hub has threads.
        weakref.finalize(self, _close, self._made).atexit = False

    def hub(self, url: str) -> Hub:
        found = self._made.get(url)
        # Two threads may both make one, of which the first stays: a hub that nobody used has started nothing.
        return found if found is not None else self._made.setdefault(url, _make_hub(url))

    def client(self, url: str) -> Redis:
        from redis import Redis

        if url == MEMORY:
            raise ConfigurationError("SSE_REDIS_URL is 'memory': there is no Redis")
        found = self._clients.get(url)
        return found if found is not None else self._clients.setdefault(url, Redis.from_url(url))


def _close(hubs: dict[str, Hub]) -> None:
    def close_all() -> None:
        for hub in hubs.values():
            hub.close()

    # Not here: the collector runs on any thread, which may hold a lock of that very hub.
    if hubs:
        threading.Thread(target=close_all, daemon=True).start()


def _hubs() -> _Hubs:
    found: _Hubs | None = current_app.extensions.get(_EXTENSION)
    # Two threads may both make one; the first stays.
    return found if found is not None else current_app.extensions.setdefault(_EXTENSION, _Hubs())


def _url() -> str:
    url: str | None = current_app.config.get("SSE_REDIS_URL") or current_app.config.get("REDIS_URL")
    if not url:
        raise KeyError("SSE_REDIS_URL or REDIS_URL must be set in the application's configuration")
    return url


def _make_hub(url: str) -> Hub:
    options = current_app.config.get("SSE_HUB_OPTIONS") or {}
    of_redis = current_app.config.get("SSE_REDIS_OPTIONS") or {}
    try:
        if url == MEMORY:
            return Hub(**options)
        from sse_core import RedisBackplane

        return Hub(RedisBackplane(url, **of_redis), **options)
    except TypeError as error:
        raise ConfigurationError(f"SSE_HUB_OPTIONS or SSE_REDIS_OPTIONS: {error}") from None


def _topic(channel: object) -> Any:
    """The topic of a channel: numbers are names, too, as they are for redis-py. What is neither the hub refuses."""
    return str(channel) if isinstance(channel, int | float) and not isinstance(channel, bool) else channel


def _value(text: str) -> Any:
    """The JSON value of a text, or the text itself where it is none."""
    try:
        return standard_json.loads(text)
    except (ValueError, RecursionError):
        return text


def _message(event: Event, *, is_text: bool) -> Message:
    data: Any = event.data
    if not is_text:
        value = _value(data)
        # A str is never sent as JSON, so one in quotation marks was published with them.
        data = data if isinstance(value, str) else value
    return Message(data, type=event.event, id=event.id, retry=event.retry)


def _blocks(hub: Hub, stream: EventStream) -> Iterator[bytes]:
    """Read a stream in this process, event by event, whatever the server of the current request can do with streams."""
    opening = hub.open_stream(stream)
    if opening is None:
        time.sleep(_RETRY_AFTER)
        return
    # Looked up now, since gevent may have patched the module after this one was imported.
    ours, theirs = socket.socketpair()
    with ours:
        try:
            theirs.setblocking(False)
            hub.adopt(stream, theirs)
        except BaseException:
            theirs.close()
            raise
        # It has the id that a fresh stream begins after.
        yield opening
        rest = b""
        while chunk := ours.recv(_CHUNK):
            *blocks, rest = (rest + chunk).split(b"\n\n")
            yield from (block + b"\n\n" for block in blocks)


#: A blueprint that is ready to be registered: its root is the stream, and `url_for("sse.stream")` leads there.
sse = ServerSentEventsBlueprint("sse", __name__)
sse.add_url_rule(rule="", endpoint="stream", view_func=sse.stream)
