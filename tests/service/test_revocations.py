"""Shutting out: the list of one process over the application, and of several over a real Redis."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient

from sse_core import BackplaneError, Event, Hub, LimitError
from sse_core.testing import StreamReader
from sse_kit import revocations
from sse_kit.app import create_app
from sse_kit.grants import EVERYTHING, Identity
from sse_kit.namespaces import Namespaces
from sse_kit.revocations import Entry, Revocations
from sse_kit.settings import Settings
from sse_kit.topics import REVOCATION_TOPIC
from tests.fanout.harness import eventually
from tests.nginx_server import Nginx
from tests.redisserver import redis_server, wait_until
from tests.servers import TIMEOUT, Server, running_service
from tests.service.keys import SECRET, token
from tests.service.test_auth import problem
from tests.wsgi_client import Client

JWT: dict[str, Any] = {"jwt_keys": {"k": SECRET}, "jwt_algorithms": ["HS256"]}
ADMIN = {"Authorization": f"Bearer {token(sub='root', sse={'admin': True})}"}
JSON = {"Content-Type": "application/json"}


def bearer(**claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(**({'sse': {'subscribe': ['**'], 'publish': ['**']}} | claims))}"}


def listed(hub: Hub, *, most: int = 100) -> Revocations:
    settings = Settings(max_revocations=most)
    return Revocations(Namespaces(settings, {"default": hub}), most=most)


def entry(kind: Any, value: str, seconds: int = 3600) -> Entry:
    return Entry(kind, value, int(time.time()) + seconds)


def who(subject: str = "ann", token_id: str | None = None) -> Identity:
    return Identity(subject, EVERYTHING, None, token_id)


class TestList:
    """In one process."""

    def test_what_an_entry_is_about(self, hub: Hub) -> None:
        """An entry shuts out its subject, its token, or the listeners of its topics; and nobody else."""
        revoked = listed(hub)
        assert revoked.are_known()
        revoked.add(entry("subject", "bob"))
        revoked.add(entry("jti", "1"))
        revoked.add(entry("topic", "room/*"))

        assert [revoked.refuse(who(*each)) for each in (("ann", "2"), ("bob", None), ("ann", "1"))] == [
            False,
            True,
            True,
        ]
        assert revoked.refuse_topics(["a", "room/7"]) == "room/7"
        assert revoked.refuse_topics(["room", "a"]) is None

    def test_there_is_always_room_for_the_topic_of_the_list(self) -> None:
        """Who fills a process with topics is shut out all the same: the list has had its place since the first request."""
        with Hub(max_topics=2) as hub:
            revoked = listed(hub)
            assert revoked.are_known()
            hub.publish("a", "x")
            with pytest.raises(LimitError):
                hub.publish("b", "x")
            revoked.add(entry("subject", "ann"))

            assert revoked.refuse(who("ann"))

    def test_an_entry_ends(self, hub: Hub) -> None:
        """After its end an entry shuts nobody out, makes room, and is not listed; a later end of the same one counts."""
        now = [1000.0]
        revoked = Revocations(Namespaces(Settings(), {"default": hub}), most=2, clock=lambda: now[0])
        assert revoked.are_known()
        revoked.add(Entry("subject", "ann", 1010))
        revoked.add(Entry("subject", "ann", 1020))
        revoked.add(Entry("subject", "ann", 1005))
        assert revoked.entries() == [Entry("subject", "ann", 1020)]
        now[0] = 1020.0

        assert not revoked.refuse(who("ann"))
        assert revoked.entries() == []

    def test_a_bound(self, hub: Hub) -> None:
        """There are as many entries as the setting says, one more is refused by its name, and nobody comes in again."""
        app = create_app(Settings(**JWT, max_revocations=2), namespaces=Namespaces(Settings(), {"default": hub}))

        def revoke(value: str) -> Any:
            return TestClient(app).simulate_post("/revocations", json={"jti": value}, headers=ADMIN)

        assert [revoke(value).status_code for value in ("1", "2", "2")] == [200, 200, 200]
        result = revoke("3")
        document = problem(result, 503, "limit-reached")
        assert (document["limit"], document["value"]) == ("max_revocations", 2)
        found = TestClient(app).simulate_get("/revocations", headers=ADMIN).json
        assert (found["total"], {each["jti"] for each in found["revocations"]}) == (2, {"1", "2"})

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{", 400),
            (b"\xff", 400),
            (b"[]", 422),
            (b"{}", 422),
            (b'{"jti": "a", "subject": "b"}', 422),
            (b'{"jti": ""}', 422),
            (b'{"jti": 1}', 422),
            (b'{"subject": "a\\n"}', 422),
            (b'{"subject": "' + b"x" * 256 + b'"}', 422),
            (b'{"topic": "a*"}', 422),
            (b'{"jti": "a", "seconds": 0}', 422),
            (b'{"jti": "a", "seconds": 2678401}', 422),
            (b'{"jti": "a", "seconds": 1.5}', 422),
            (b'{"jti": "a", "second": 1}', 422),
        ],
    )
    def test_what_is_no_entry(self, hub: Hub, body: bytes, status: int) -> None:
        """What does not say one thing to shut out is refused, and shuts nobody out."""
        app = create_app(Settings(**JWT), namespaces=Namespaces(Settings(), {"default": hub}))
        result = TestClient(app).simulate_post("/revocations", body=body, headers=ADMIN | JSON)

        assert result.status_code == status
        assert TestClient(app).simulate_get("/revocations", headers=ADMIN).json["total"] == 0
        assert TestClient(app).simulate_post("/revocations", body=b"{}", headers=ADMIN).status_code == 415

    def test_open_streams_end_and_new_ones_are_refused(self, hub: Hub) -> None:
        """Whoever is shut out is ended softly, on whatever namespace, and is 401 from then on, by every route."""
        with Hub() as other:
            namespaces = Namespaces(Settings(namespaces=("n",)), {"default": hub, "n": other})
            app = create_app(Settings(**JWT), namespaces=namespaces)
            streams = [
                Client(each.subscribe("a", subject="ann", credential="1", last_event_id="0-0")) for each in (hub, other)
            ]
            stays = Client(hub.subscribe("a", subject="ann", credential="2", last_event_id="0-0"))
            hub.publish("a", 1)
            other.publish("a", 1)
            for client in (*streams, stays):
                client.read(1)
            answer = TestClient(app).simulate_post("/revocations", json={"jti": "1"}, headers=ADMIN)
            assert (answer.status_code, answer.json["jti"]) == (200, "1")
            for client in streams:
                client.to_end()
                assert client.parser.retry is not None
                assert client.parser.retry >= 1000
            last = hub.publish("a", 2)
            assert stays.until(last.id)[-1].data == "2"

            result = TestClient(app).simulate_post("/publish", json={"topic": "a", "data": 1}, headers=bearer(jti="1"))
            assert "revoked" in problem(result, 401, "unauthenticated")["detail"]
            assert TestClient(app).simulate_get("/topics", headers=bearer(jti="2")).status_code == 200

    def test_a_topic_that_is_closed(self, hub: Hub) -> None:
        """Who listens to it is ended, and who asks for it is told that it is closed."""
        app = create_app(Settings(**JWT), namespaces=Namespaces(Settings(), {"default": hub}))
        listener = Client(hub.subscribe("room/7", last_event_id="0-0"))
        hub.publish("room/7", 1)
        listener.read(1)
        TestClient(app).simulate_post("/revocations", json={"topic": "room/*"}, headers=ADMIN)
        listener.to_end()
        result = TestClient(app).simulate_get("/events", params={"topic": ["a", "room/7"]}, headers=bearer())

        assert problem(result, 403, "revoked")["topic"] == "room/7"

    def test_the_word_that_comes_between(self, hub: Hub) -> None:
        """Who was let in, and is shut out before the stream has begun, does not keep it."""
        revoked = listed(hub)
        assert revoked.are_known()
        identity = who("ann", "1")
        assert not revoked.refuse(identity)
        hub.publish("a", 1)
        client = Client(
            hub.subscribe("a", subject="ann", last_event_id="0-0", admit=lambda: not revoked.refuse(identity))
        )
        next(client.stream)
        revoked.add(entry("jti", "1"))
        client.to_end()

        eventually(lambda: hub.stats()["streams"] == 0)

    def test_what_another_program_writes(self, hub: Hub) -> None:
        """What is no entry is counted and shuts nobody out, and what comes after it does."""
        revoked = listed(hub)
        assert revoked.are_known()
        for text in ("", "x", "[]", '{"kind": "jti"}', '{"kind": "all", "value": "x", "until": 9999999999}'):
            hub.publish(REVOCATION_TOPIC, Event(text or "null"))
        hub.publish(REVOCATION_TOPIC, Event('{"kind": "topic", "value": "a*", "until": 9999999999}'))
        hub.publish(REVOCATION_TOPIC, Event('{"kind": "subject", "value": "ann", "until": 9999999999}'))

        assert revoked.malformed == 6
        assert revoked.refuse(who("ann"))

    def test_too_many_from_another_program(self, hub: Hub) -> None:
        """What another program writes into the topic takes no more memory than four times the bound, and is counted."""
        revoked = listed(hub, most=2)
        assert revoked.are_known()
        for number in range(20):
            hub.publish(REVOCATION_TOPIC, Event(f'{{"kind": "jti", "value": "{number}", "until": 9999999999}}'))

        assert (len(revoked.entries()), revoked.malformed) == (8, 12)

    def test_without_the_list_nobody_is_let_in(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the list cannot be had every request that needs a token is 503, streams softly; and then they are answered."""
        app = create_app(Settings(**JWT), namespaces=Namespaces(Settings(), {"default": hub}))
        away = True
        kept = hub.kept

        def asked(topic: str) -> list[Event]:
            if away:
                raise BackplaneError(1.0, "away")
            return kept(topic)

        monkeypatch.setattr(hub, "kept", asked)
        client = TestClient(app)
        problem(client.simulate_get("/topics", headers=bearer()), 503, "backplane-away")
        stream = client.simulate_get(
            "/events", params={"topic": "a"}, headers=bearer() | {"Accept": "text/event-stream"}
        )
        assert (stream.status_code, stream.text.startswith("retry: ")) == (200, True)
        problem(client.simulate_get("/topics"), 401, "unauthenticated")
        away = False

        assert client.simulate_get("/topics", headers=bearer()).status_code == 200


def test_a_crowd_at_the_start_waits_for_the_list(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those who come while the list is read for the first time nobody is sent away."""
    kept = hub.kept
    reading, go_on = threading.Event(), threading.Event()

    def slowly(topic: str) -> list[Event]:
        reading.set()
        assert go_on.wait(TIMEOUT)
        return kept(topic)

    monkeypatch.setattr(hub, "kept", slowly)
    monkeypatch.setattr(revocations, "JOIN_SECONDS", TIMEOUT)
    revoked = listed(hub)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(revoked.are_known)
        assert reading.wait(TIMEOUT)
        others = [pool.submit(revoked.are_known) for _ in range(5)]
        go_on.set()
        assert [each.result(TIMEOUT) for each in (first, *others)] == [True] * 6


def test_nobody_waits_long_for_a_list_that_does_not_come(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reading the list takes longer than a request may hold a thread, the others are told that it is not known."""
    reading, go_on = threading.Event(), threading.Event()

    def never(topic: str) -> list[Event]:
        reading.set()
        assert go_on.wait(TIMEOUT)
        raise BackplaneError(1.0, "Redis is away")

    monkeypatch.setattr(hub, "kept", never)
    monkeypatch.setattr(revocations, "JOIN_SECONDS", 0.01)
    revoked = listed(hub)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(revoked.are_known)
        assert reading.wait(TIMEOUT)
        assert not revoked.are_known()
        go_on.set()
        assert not first.result(TIMEOUT)


def test_a_redis_that_forgets_is_told_again(tmp_path: Path) -> None:
    """Each process knows what another one adds, one that starts knows what there is, also after Redis has lost everything."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path))
        settings = Settings(backplane=redis.url)

        def process() -> Revocations:
            namespaces = Namespaces(settings)
            stack.callback(namespaces.close)
            made = Revocations(namespaces, most=100)
            wait_until(made.are_known, "the list")
            return made

        first, second = process(), process()
        first.add(entry("subject", "ann"))
        wait_until(lambda: second.refuse(who("ann")), "the other process to hear")
        assert process().refuse(who("ann"))

        redis.client().flushall()
        # Something has to be published for anybody to notice.
        first.add(entry("subject", "bob"))
        wait_until(lambda: second.refuse(who("bob")), "the other process to hear of the second")
        told = redis.client()
        wait_until(lambda: told.xlen(f"{{default}}:topic:{REVOCATION_TOPIC}") >= 2, "the first to be told again")
        third = process()
        assert (third.refuse(who("ann")), third.refuse(who("bob")), third.refuse(who("eve"))) == (True, True, False)


def test_all_workers_behind_nginx() -> None:
    """Two workers on Redis behind nginx: grants hold, streams end at their token's time and by one call wherever they are,
    who comes back is refused by whichever worker, a worker that starts knows the list, and the access log has no token."""
    folder = Path(tempfile.mkdtemp(prefix="sse-"))
    settings = JWT | {"workers": 2, "retry": 50, "drain_retry": [50, 60], "drain_seconds": 0.2, "query_token": True}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        redis = stack.enter_context(redis_server(folder))
        service = stack.enter_context(running_service(backplane=redis.url, **settings))
        nginx = stack.enter_context(Nginx(service.url))

        def open_stream(headers: dict[str, str], target: str = "/events?topic=a&last_event_id=0-0") -> StreamReader:
            return stack.enter_context(
                StreamReader(("127.0.0.1", nginx.port), target, timeout=TIMEOUT, headers=headers)
            )

        publisher = bearer(sub="publisher") | JSON
        published = service.request("POST", "/publish", b'{"topic": "a", "data": 1}', publisher)
        assert published.status == 200, published
        in_query = token(jti="in-query", sse={"subscribe": ["a"]})
        ann = [open_stream(bearer(jti="1")) for _ in range(8)]
        others = [
            open_stream(bearer(jti="2", sub="bob")),
            open_stream({}, f"/events?topic=a&access_token={in_query}&last_event_id=0-0"),
        ]
        expiring = brief(open_stream)
        for reader in (*ann, *others):
            assert [event.data for event in reader.read(1)] == ["1"]
        expiring.read_to_end()
        assert expiring.retry is not None

        done = service.run("revoke", "--jti", "1", env={"SSE_KIT_TOKEN": ADMIN["Authorization"].split()[1], "PATH": ""})
        assert json.loads(done.stdout)["jti"] == "1", done.stderr
        for reader in ann:
            reader.read_to_end()
        # By both workers, however often they are asked, once the one that had none of these streams has heard of it, too.
        wait_until(lambda: all(known(service, bearer(jti="1")) == 401 for _ in range(10)), "both workers to refuse")
        assert service.request("GET", "/events?topic=a", headers=bearer(jti="1")).status == 401
        service.request("POST", "/publish", b'{"topic": "a", "data": 2}', publisher)
        for reader in others:
            assert [event.data for event in reader.read(1)] == ["2"]

        for reader in others:
            reader.close()
        service.stop()
        service.start()
        for _ in range(10):
            answer = wait_until(lambda: known(service, bearer(jti="1")), "an answer that is no 503")
            assert answer == 401
        log = nginx.access_log.read_text() + "".join(service.log)
        assert "/events?" in log
        assert [text for text in (in_query, SECRET, ADMIN["Authorization"].split()[1]) if text in log] == []


def brief(open_stream: Callable[[dict[str, str]], StreamReader]) -> StreamReader:
    """A stream whose token ends as soon as this machine allows: one that has ended before it is looked at is refused."""
    for seconds in (2, 8, 30):
        # The leeway is ten seconds.
        reader = open_stream(bearer(sub="brief", exp=int(time.time()) - 10 + seconds))
        if reader.status == 200:
            return reader
    raise AssertionError("no token lived long enough")


def known(service: Server, headers: dict[str, str]) -> int | None:
    status = service.request("GET", "/topics", headers=headers).status
    return None if status == 503 else status
