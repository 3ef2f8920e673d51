"""`sse_core.contrib.flask` in one process: configuration, hubs, messages, what is refused."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, Response, url_for

from sse_core import BackplaneError, ConfigurationError, EventError, Hub, HubClosedError, TopicError, TopicOptions
from sse_core.contrib.flask import Message, ServerSentEventsBlueprint, sse

TIMEOUT = 10.0
NOWHERE = "redis://127.0.0.1:1/0"


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"SSE_REDIS_URL": "memory", **config})
    app.register_blueprint(sse, url_prefix="/stream")
    return app


@pytest.fixture
def app() -> Iterator[Flask]:
    app = create_app()
    with app.app_context():
        yield app
        sse.hub.close()


def published(app: Flask, path: str = "/stream?last_event_id=0-0") -> str:
    """All that a client of the path is sent at once."""
    response = app.test_client().get(path)
    chunks = iter(response.response)
    sent = b""
    while b"data:" not in sent:
        sent += next(chunks)
    response.close()
    return sent.decode()


class Reader:
    """A thread that iterates `sse.messages` from now on."""

    def __init__(self, app: Flask, **options: Any) -> None:
        self.messages: list[Message] = []
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(app, options))
        self._thread.start()

    def _read(self, app: Flask, options: dict[str, Any]) -> None:
        with app.app_context():
            for message in sse.messages(**options):
                with self._came:
                    self.messages.append(message)
                    self._came.notify()

    def take(self, count: int) -> list[Message]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.messages) >= count, TIMEOUT), self.messages
            return self.messages

    def has_ended(self) -> bool:
        self._thread.join(TIMEOUT)
        return not self._thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestConfiguration:
    """Where the hub is: the names of flask-sse, and two more."""

    def test_no_url_is_a_key_error(self) -> None:
        """Publishing, listening and iterating say at once that no URL is configured, by the error that flask-sse raises."""
        app = create_app(SSE_REDIS_URL=None)
        app.testing = True
        with app.app_context():
            with pytest.raises(KeyError, match="SSE_REDIS_URL or REDIS_URL"):
                sse.publish("x")
            with pytest.raises(KeyError, match="SSE_REDIS_URL or REDIS_URL"):
                next(iter(sse.messages()))
        with pytest.raises(KeyError, match="SSE_REDIS_URL or REDIS_URL"):
            app.test_client().get("/stream")

    def test_the_url_of_its_own_goes_first(self) -> None:
        """`SSE_REDIS_URL` beats `REDIS_URL`, which counts where the other is not set or empty."""
        for own, other, expected in (
            ("memory", NOWHERE, False),
            (NOWHERE, "memory", True),
            (None, NOWHERE, True),
            ("", NOWHERE, True),
        ):
            app = create_app(SSE_REDIS_URL=own, REDIS_URL=other)
            with app.app_context():
                # A hub that nobody has used has not connected.
                assert ("backplane_up" in sse.hub.stats()) is expected
                assert sse.hub is sse.hub

    def test_the_client_of_redis_is_that_of_the_url(self) -> None:
        """`sse.redis` is a client of the configured server; with memory there is none, and it says so."""
        with create_app(SSE_REDIS_URL=NOWHERE).app_context():
            assert sse.redis is sse.redis
            assert sse.redis.connection_pool.connection_kwargs["port"] == 1
        with create_app().app_context(), pytest.raises(ConfigurationError, match="memory"):
            sse.redis

    def test_a_url_that_is_none_is_told(self) -> None:
        """A URL that no backplane takes is a configuration error which names the forms."""
        url = "http://example.com"
        with create_app(SSE_REDIS_URL=url).app_context(), pytest.raises(ConfigurationError, match="redis://"):
            sse.publish("x")

    def test_options_go_to_the_hub_and_its_backplane(self) -> None:
        """`SSE_HUB_OPTIONS` and `SSE_REDIS_OPTIONS` are arguments of both; one that does not exist is named."""
        app = create_app(
            SSE_REDIS_URL=NOWHERE, SSE_HUB_OPTIONS={"drain_seconds": 7}, SSE_REDIS_OPTIONS={"namespace": "shop"}
        )
        with app.app_context():
            assert sse.hub.drain_seconds == 7
            assert sse.hub.namespace == "shop"
        for name in ("SSE_HUB_OPTIONS", "SSE_REDIS_OPTIONS"):
            app = create_app(SSE_REDIS_URL=NOWHERE, **{name: {"colour": "red"}})
            with app.app_context(), pytest.raises(ConfigurationError, match="colour"):
                sse.hub

    def test_a_redis_that_is_away_is_told(self) -> None:
        """Publishing and iterating raise, while a browser is told when to come back: any error would end it for good."""
        app = create_app(SSE_REDIS_URL=NOWHERE, SSE_REDIS_OPTIONS={"timeout": 0.1})
        with app.app_context():
            with pytest.raises(BackplaneError):
                sse.publish("x")
            with pytest.raises(BackplaneError):
                next(iter(sse.messages()))
            response = app.test_client().get("/stream")
            sse.hub.close()

        assert response.status_code == 200
        assert response.data.startswith(b"retry: ")

    def test_it_needs_an_application_context(self) -> None:
        """Outside of any application Flask says so, as with flask-sse."""
        with pytest.raises(RuntimeError, match="application context"):
            sse.publish("x")


class TestHubs:
    """One hub for an application and URL, whatever happens around it."""

    def test_applications_of_one_process_are_apart(self) -> None:
        """Each application of a factory has its own hub, and what one publishes no other sends."""
        one, two = create_app(), create_app()
        with one.app_context():
            sse.publish("of one")
            hub = sse.hub
        with two.app_context():
            sse.publish("of two")
            assert sse.hub is not hub
            assert "of one" not in published(two)
            sse.hub.close()
        assert "of two" not in published(one)
        hub.close()

    def test_blueprints_of_one_application_share_its_hub(self, app: Flask) -> None:
        """A blueprint of one's own, with a rule of its own, streams what any other publishes."""
        orders = ServerSentEventsBlueprint("orders", __name__)
        orders.add_url_rule("/stream", endpoint="stream", view_func=orders.stream)
        app.register_blueprint(orders, url_prefix="/orders")

        sse.publish("by another")

        assert orders.hub is sse.hub
        assert "data: by another\n" in published(app, "/orders/stream?last_event_id=0-0")

    def test_a_subclass_may_bring_its_hub(self, app: Flask) -> None:
        """What overrides `hub` needs no configuration: all goes to that one."""
        with Hub() as hub:
            own = type("Own", (ServerSentEventsBlueprint,), {"hub": hub})("own", __name__)
            app.config["SSE_REDIS_URL"] = None

            receipt = own.publish("x", channel="news")

            assert hub.horizon == receipt.id
            app.config["SSE_REDIS_URL"] = "memory"

    def test_threads_that_come_at_once_get_one_hub(self) -> None:
        """First requests on many threads make one hub, so that none of them publishes for itself."""
        app = create_app()
        ready = threading.Barrier(8)

        def first(number: int) -> Hub:
            ready.wait(TIMEOUT)
            with app.app_context():
                sse.publish(number)
                return sse.hub

        with ThreadPoolExecutor(8) as pool:
            hubs = set(pool.map(first, range(8)))
        (hub,) = hubs
        assert hub.stats()["events_published"] == 8
        hub.close()

    def test_nothing_starts_before_the_first_use(self) -> None:
        """Registering the blueprint and asking for the hub starts no thread: an application may be made before a fork."""
        with create_app().app_context():
            before = os.listdir("/proc/self/task")
            assert sse.hub.topics() == {}
            assert sse.hub.stats()["streams"] == 0
            assert os.listdir("/proc/self/task") == before

    def test_an_application_that_is_gone_takes_its_hub_along(self) -> None:
        """The hub of an application that nobody has any more is closed: a test suite makes hundreds."""
        app = create_app()
        with app.app_context():
            sse.publish("x")
            hub = sse.hub
        del app
        gc.collect()

        def is_closed() -> bool:
            try:
                hub.publish("sse", "y")
            except HubClosedError:
                return True
            return False

        until(is_closed)

    def test_a_child_of_fork_has_a_hub_that_works(self) -> None:
        """An application that was used before the fork publishes and streams in the child, as under gunicorn --preload."""
        program = (
            "import os, sys\n"
            "from tests.contrib.test_flask import create_app, published, sse\n"
            "app = create_app()\n"
            "with app.app_context():\n"
            "    sse.publish('before')\n"
            "    pid = os.fork()\n"
            "    sse.publish('parent' if pid else 'child')\n"
            "    sent = published(app)\n"
            "    sse.hub.close()\n"
            "expected = ['before', 'parent'] if pid else ['child']\n"
            "found = [line[6:] for line in sent.split('\\n') if line.startswith('data: ')]\n"
            "found = [line for line in found if not line.startswith('{')]\n"
            "status = os.waitpid(pid, 0)[1] if pid else 0\n"
            "os._exit(0 if found == expected and not status else 1)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)

        assert done.returncode == 0, done.stderr


class TestStream:
    """The view."""

    def test_its_place_has_the_name_that_pages_ask_for(self, app: Flask) -> None:
        """`url_for("sse.stream")` is the blueprint's root."""
        with app.test_request_context():
            assert url_for("sse.stream") == "/stream"
            assert url_for("sse.stream", channel="orders") == "/stream?channel=orders"

    def test_it_resumes(self, app: Flask) -> None:
        """A browser that names its last id is sent what came after it."""
        first = sse.publish("seen")
        sse.publish("missed")
        response = app.test_client().get("/stream", headers={"Last-Event-ID": first.id})
        chunks = iter(response.response)
        sent = next(chunks) + next(chunks)
        response.close()

        assert response.headers["Content-Type"] == "text/event-stream"
        assert "missed" in sent.decode()
        assert "seen" not in sent.decode()

    def test_head_is_answered_without_a_body(self, app: Flask) -> None:
        """A HEAD request ends after its head."""
        response = app.test_client().head("/stream")

        assert (response.status_code, response.data) == (200, b"")

    def test_a_channel_that_cannot_be_is_the_client_s_fault(self, app: Flask) -> None:
        """A channel that is no topic is answered with 400 and the reason, before any stream."""
        response = app.test_client().get("/stream?channel=%0d%0a")

        assert response.status_code == 400
        assert "white space" in response.text

    def test_a_channel_that_the_hub_refuses_is_forbidden(self) -> None:
        """What the hub's ``authorize`` refuses is answered with 403, before any stream; other channels are streamed."""
        app = create_app(SSE_HUB_OPTIONS={"authorize": lambda topic, environ: topic == "open"})
        with app.app_context():
            assert app.test_client().get("/stream?channel=secret").status_code == 403
            assert app.test_client().head("/stream?channel=open").status_code == 200
            sse.hub.close()

    def test_what_has_ended_is_answered_with_204(self, app: Flask) -> None:
        """A channel may be a run of the hub; who has seen its end is told not to come back."""
        run = sse.hub.produce(lambda: iter(["token"]))
        assert run.wait(TIMEOUT)
        response = app.test_client().get(f"/stream?channel={run.topic}")
        body = response.data.decode()
        last = [line for line in body.split("\n") if line.startswith("id: ")][-1][4:]
        again = app.test_client().get(f"/stream?channel={run.topic}", headers={"Last-Event-ID": last})

        assert "data: token\n" in body
        assert (again.status_code, again.data) == (204, b"")

    def test_a_hub_that_is_closed_is_no_error_of_the_client(self, app: Flask) -> None:
        """While the server stops a new stream is answered with 503."""
        sse.hub.close()

        assert app.test_client().get("/stream").status_code == 503

    def test_the_response_is_of_the_application_s_class(self) -> None:
        """An application's own response class is used, so that its hooks see what they expect."""
        app = create_app()
        app.response_class = type("Own", (Response,), {})
        with app.test_request_context("/stream"):
            response = sse.stream()
            assert type(response) is app.response_class
            response.close()
            sse.hub.close()


class TestPublish:
    """What goes in."""

    def test_what_cannot_be_on_the_wire_is_refused(self, app: Flask) -> None:
        """A line end in a type or an id, and a time that is none, would be injected or ignored: the field is named."""
        for fields, name in (
            ({"type": "a\ndata: b"}, "event"),
            ({"id": "a\nb"}, "id"),
            ({"retry": -1}, "retry"),
            ({"retry": "soon"}, "retry"),
            ({"retry": 2.5}, "retry"),
        ):
            with pytest.raises(EventError) as caught:
                sse.publish("x", **fields)
            assert caught.value.field == name
        assert sse.hub.topics() == {}

    def test_what_is_no_json_is_a_type_error(self, app: Flask) -> None:
        """Data that the application's provider cannot serialize is refused by the error that flask-sse raises."""
        for data in (b"bytes", object(), {1, 2}):
            with pytest.raises(TypeError):
                sse.publish(data)

    def test_a_channel_may_be_a_number(self, app: Flask) -> None:
        """A user's number is a channel, as it is for redis-py; anything else that is no str is refused."""
        sse.publish("for seven", channel=7)

        assert "for seven" in published(app, "/stream?channel=7&last_event_id=0-0")
        for channel in (None, True, b"sse", ""):
            with pytest.raises(TopicError):
                sse.publish("x", channel=channel)

    def test_the_same_id_again_is_told(self, app: Flask) -> None:
        """The receipt says whether the id was published before, and which id is on the wire."""
        first = sse.publish("paid", id="order-7")
        again = sse.publish("paid", id="order-7")

        assert (first.duplicate, again.duplicate) == (False, True)
        assert first.id == again.id
        assert f"id: {first.id}\n" in published(app)


class TestMessages:
    """`sse.messages`, and what it yields."""

    def test_data_comes_back_as_it_was_published(self, app: Flask) -> None:
        """Values of JSON are values again; a str stays one, even if it reads like a number, an object or a quotation."""
        values = [{"a": [1, None]}, [], 5, 1.5, True, None, "text", "5", '{"a": 1}', '"quoted"', "null", "a\nb", ""]
        reader = Reader(app, last_event_id="0-0")
        for value in values:
            sse.publish(value)

        messages = reader.take(len(values))
        sse.hub.close()
        assert [message.data for message in messages] == values
        assert [type(message.data) for message in messages] == [type(value) for value in values]
        assert reader.has_ended()

    def test_a_message_has_all_fields(self, app: Flask) -> None:
        """Type and retry are those published; the id is the one on the wire, to go on after later."""
        reader = Reader(app, last_event_id="0-0")
        receipt = sse.publish({"a": 1}, type="update", id="mine", retry=500)

        assert reader.take(1) == [Message({"a": 1}, type="update", id=receipt.id, retry=500)]
        sse.publish("next")
        later = Reader(app, last_event_id=receipt.id)
        assert [message.data for message in later.take(1)] == ["next"]
        sse.hub.close()

    def test_it_begins_with_the_first_next(self, app: Flask) -> None:
        """What was published before is not yielded, and what comes from then on all is."""
        sse.publish("before")
        reader = Reader(app)
        until(lambda: sse.hub.streams == 1)
        sse.publish("after")

        assert [message.data for message in reader.take(1)] == ["after"]
        sse.hub.close()

    def test_a_reader_that_is_cut_off_goes_on_where_it_was(self) -> None:
        """One that falls behind is disconnected like any client, comes back, and misses nothing."""
        bounds = TopicOptions(history_bytes=8 << 20, lag_bytes=300_000)
        with create_app(SSE_HUB_OPTIONS={"topics": {"*": bounds}}).app_context():
            first = sse.publish("first")
            sse.publish("second")
            messages = sse.messages(last_event_id=first.id)
            assert next(messages).data == "second"
            texts = [str(number) * 100_000 for number in range(10)]
            for text in texts[:-1]:
                sse.publish(text)
            until(lambda: sse.hub.stats()["blocked"])
            sse.publish(texts[-1])
            until(lambda: sse.hub.stats()["streams_ended_lagging"])

            assert [next(messages).data for _ in texts] == texts
            sse.hub.close()

    def test_who_leaves_is_no_stream_any_more(self, app: Flask) -> None:
        """Closing the iterator closes its stream."""
        sse.publish("x")
        messages = sse.messages(last_event_id="0-0")
        # From an id of no feed it is told a gap, and then what is left.
        next(messages)
        assert sse.hub.streams == 1
        messages.close()
        until(lambda: sse.hub.streams == 0)

    def test_a_message_is_a_value(self) -> None:
        """`to_dict` has what is set, equality compares all, and str is the event on the wire."""
        message = Message({"b": 1, "a": "x\ny"}, type="t", id="7", retry=5)

        assert message.to_dict() == {"data": {"b": 1, "a": "x\ny"}, "type": "t", "id": "7", "retry": 5}
        assert Message("x", id="", retry=0).to_dict() == {"data": "x"}
        assert message == Message({"b": 1, "a": "x\ny"}, "t", "7", 5) != Message("x")
        assert str(Message("two\nlines", "t", "7", 5)) == ("event: t\nid: 7\nretry: 5\ndata: two\ndata: lines\n\n")
