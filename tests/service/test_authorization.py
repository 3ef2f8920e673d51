"""What each route asks of whoever sends a request: tokens that grant something, over the application itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from falcon import App
from falcon.inspect import inspect_routes
from falcon.testing import Result, TestClient

from sse_core import Hub
from sse_kit.auth import OPEN_ROUTES
from sse_kit.settings import Settings
from tests.application import app_of
from tests.fanout.harness import eventually
from tests.service.keys import SECRET, private, public, token
from tests.service.test_auth import ANN, HOST, OTHER, OWN, TOKENS, Browser, problem, set_cookies

JWT = {"jwt_keys": {"k": SECRET}, "jwt_algorithms": ["HS256"]}


def bearer(**granted: Any) -> dict[str, str]:
    """The header with a token that grants this."""
    return {"Authorization": f"Bearer {token(sse=granted)}"}


def application(hub: Hub, *, others: dict[str, Hub] | None = None, **settings: Any) -> App[Any, Any]:
    return app_of(hub, Settings(**(JWT | settings)), **(others or {}))


def ask(app: App[Any, Any], method: str, path: str, **options: Any) -> Result:
    return TestClient(app).simulate_request(method, path, extras={"wsgi.multiprocess": False}, **options)


def refused(result: Result, grant: str, topic: str | None = None) -> dict[str, Any]:
    document = problem(result, 403, "forbidden")
    assert (document["grant"], document.get("topic")) == (grant, topic)
    assert result.headers["www-authenticate"] == 'Bearer realm="sse-kit", error="insufficient_scope"'
    return document


class TestRoutes:
    """The rule of each route."""

    # Method, path, what the request has, and for the least grant that opens it: the grant, and what is missing without it.
    RULES = (
        ("HEAD", "/events?topic=a/b", {}, {"subscribe": ["a/*"]}, "subscribe", "a/b"),
        ("HEAD", "/n/n/events?topic=a", {}, {"namespaces": {"n": {"subscribe": ["a"]}}}, "subscribe", "a"),
        ("POST", "/publish", {"json": {"topic": "a", "data": 1}}, {"publish": ["a"]}, "publish", "a"),
        (
            "POST",
            "/n/n/publish",
            {"json": {"topic": "a", "data": 1}},
            {"namespaces": {"n": {"publish": ["a"]}}},
            "publish",
            "a",
        ),
        ("GET", "/topics/a", {}, {"subscribe": ["a"]}, "subscribe", "a"),
        ("GET", "/n/n/topics/a", {}, {"namespaces": {"n": {"subscribe": ["a"]}}}, "subscribe", "a"),
        ("HEAD", "/logs/x", {}, {"subscribe": ["log/x"]}, "subscribe", "log/x"),
        ("HEAD", "/demo/counter", {}, {"subscribe": ["demo/counter"]}, "subscribe", "demo/counter"),
        ("HEAD", "/demo/ticker", {}, {"start": ["demo"]}, "start", None),
        ("HEAD", "/demo/echo?sent=a", {}, {"start": ["demo"]}, "start", None),
        ("POST", "/generate", {"json": {"prompt": "a"}}, {"start": ["generate"]}, "start", None),
        ("HEAD", "/generate?prompt=a", {}, {"start": ["generate"]}, "start", None),
        (
            "POST",
            "/jobs?name=a",
            {"body": b"a", "headers": {"Content-Type": "application/octet-stream"}},
            {"start": ["jobs"]},
            "start",
            None,
        ),
        ("POST", "/runs/unknown/stop", {}, {"start": ["jobs"]}, "start", None),
        ("GET", "/revocations", {}, {"admin": True}, "admin", None),
        ("POST", "/revocations", {"json": {"jti": "x"}}, {"admin": True}, "admin", None),
        ("GET", "/metrics", {}, {"metrics": True}, "metrics", None),
    )
    # Everything but what is to be tested.
    ALL: ClassVar[dict[str, Any]] = {
        "subscribe": ["other/**", "log/other"],
        "publish": ["other/**"],
        "start": [],
        "namespaces": {"n": {"subscribe": ["other"], "publish": ["other"]}},
    }

    @pytest.fixture
    def app(self, hub: Hub, tmp_path: Path) -> Iterator[App[Any, Any]]:
        log = tmp_path / "log"
        log.write_text("line\n")
        with Hub() as other:
            yield application(
                hub, others={"n": other}, namespaces=("n",), logs={"x": log}, metrics_open=False, echo_interval=0.001
            )

    @pytest.mark.parametrize(
        ("method", "path", "options", "granted", "grant", "topic"),
        RULES,
        ids=[f"{each[0]} {each[1]}" for each in RULES],
    )
    def test_a_grant_opens_and_nothing_else_does(
        self,
        app: App[Any, Any],
        hub: Hub,
        method: str,
        path: str,
        options: dict[str, Any],
        granted: dict[str, Any],
        grant: str,
        topic: str | None,
    ) -> None:
        """Without its grant a route is 403 and names what is missing, and nothing is begun; with no more than it, it opens."""
        target, _, query = path.partition("?")
        own = dict(options)
        headers = own.pop("headers", {})
        before = hub.stats()
        closed = ask(app, method, target, query_string=query, headers=headers | bearer(**self.ALL), **own)
        assert closed.status_code == 403
        if method != "HEAD":
            refused(closed, grant, topic)
        after = hub.stats()
        assert [
            name for name in ("events_published", "streams_adopted", "producers") if before.get(name) != after.get(name)
        ] == []

        opened = ask(app, method, target, query_string=query, headers=headers | bearer(**granted), **own)
        assert opened.status_code in (200, 202, 404)
        if opened.status_code == 404:
            problem(opened, 404, "unknown-run")

    def test_all_routes_have_a_rule(self, app: App[Any, Any]) -> None:
        """A route that is added needs a line above, or is one of those that everybody who is known may use."""
        paths = {route.path for route in inspect_routes(app)}
        ruled = {each[1].partition("?")[0] for each in self.RULES}
        known = {
            path
            for path in paths
            for each in ruled
            if path.replace("{namespace}", "n")
            .replace("{name}", "x")
            .replace("{run}", "unknown")
            .replace("{topic:path}", "a")
            == each
        }

        assert paths - known - OPEN_ROUTES == {
            "/topics",
            "/n/{namespace}/topics",
            "/runs/{run}",
            "/watch/{key:path}",
            "/doctor/{probe}",
            "/n/{namespace}/doctor/{probe}",
        }

    def test_a_key_that_is_watched_is_a_topic(self, app: App[Any, Any]) -> None:
        """A watched key is asked for by its topic, before it is told whether there is such a key."""
        refused(ask(app, "GET", "/watch/a", headers=bearer(subscribe=["**"])), "subscribe", "watch/a")
        problem(ask(app, "GET", "/watch/a", headers=bearer(subscribe=["watch/*"])), 404, "unknown-key")

    def test_one_topic_of_several(self, app: App[Any, Any], hub: Hub) -> None:
        """A stream of several topics needs all of them, and the one that is missing is named; no log is begun to be read."""
        query = "topic=a&topic=log/x&topic=b&last_event_id=0-0"

        refused(
            ask(app, "GET", "/events", query_string=query, headers=bearer(subscribe=["a", "log/x"])), "subscribe", "b"
        )
        assert hub.topics().keys() <= {"server/revocations"}

    def test_one_line_of_a_batch(self, app: App[Any, Any], hub: Hub) -> None:
        """Of a batch one topic that may not be published on refuses all of it, and the line is named."""
        body = b'{"topic": "a", "data": 1}\n\n{"topic": "b", "data": 1}\n'
        headers = {"Content-Type": "application/x-ndjson"}
        result = ask(app, "POST", "/publish", body=body, headers=headers | bearer(publish=["a"]))

        assert refused(result, "publish", "b")["line"] == 3
        assert hub.stats()["events_published"] == 0
        assert ask(app, "POST", "/publish", body=body, headers=headers | bearer(publish=["*"])).status_code == 200

    def test_the_servers_topics_stay_its_own(self, app: App[Any, Any]) -> None:
        """No grant, and no plain token, lets anybody publish what the server says, or hear what its workers tell each other."""
        granted = bearer(publish=["server/**", "log/**"], subscribe=["server/**"])
        event = {"topic": "server/revocations", "data": "{}"}

        problem(ask(app, "POST", "/publish", json=event, headers=granted), 403, "reserved-topic")
        problem(
            ask(app, "GET", "/events", query_string="topic=server/revocations", headers=granted), 400, "reserved-topic"
        )

    def test_only_what_one_may_listen_to_is_listed(self, hub: Hub) -> None:
        """The list of topics has those that the token may subscribe to, and their number; a plain token sees all."""
        app = application(hub, tokens=TOKENS)
        streams = [hub.subscribe(topic, last_event_id="0-0") for topic in ("a/1", "a/2", "secret")]
        for stream in streams:
            next(stream)
        hub.publish_many([("a/1", to_event()), ("a/2", to_event()), ("secret", to_event())])
        for stream in streams:
            next(stream)
        eventually(lambda: hub.streams == 3)
        seen = ask(app, "GET", "/topics", headers=bearer(subscribe=["a/*"])).json
        every = ask(app, "GET", "/topics", headers={"Authorization": f"Bearer {ANN}"}).json
        for stream in streams:
            stream.close()

        assert (seen["total"], [each["topic"] for each in seen["topics"]]) == (2, ["a/1", "a/2"])
        assert every["total"] == 3

    def test_who_knows_a_run_may_listen(self, app: App[Any, Any]) -> None:
        """The name of a run is its secret: whoever may start one, or was told it, needs no further grant."""
        started = ask(app, "POST", "/generate", json={"prompt": "a"}, headers=bearer(start=["generate"])).json
        headers = bearer() | {"Accept": "text/event-stream"}

        assert ask(app, "HEAD", started["events"], headers=headers).status_code == 200
        query = f"topic=run/{started['run']}"
        assert ask(app, "HEAD", "/events", query_string=query, headers=headers).status_code == 200
        refused(ask(app, "POST", started["stop"], headers=bearer()), "start")


def to_event() -> Any:
    from sse_core import Event

    return Event("x")


class TestPlainTokens:
    """Tokens of the settings."""

    def test_they_have_all_rights_unless_the_settings_say(self, hub: Hub) -> None:
        """Who is in the setting ``grants`` has those, by token and by session alike; who is not has all."""
        app = application(hub, tokens=TOKENS, grants={"ann": {"subscribe": ["a"]}})
        ann = {"Authorization": f"Bearer {ANN}"}
        bob = {"Authorization": f"Bearer {TOKENS['bob']}"}
        browser = Browser(app)
        browser.sign_in()

        refused(ask(app, "POST", "/publish", json={"topic": "a", "data": 1}, headers=ann), "publish", "a")
        refused(browser.ask("POST", "/publish", json={"topic": "a", "data": 1}, origin=OWN), "publish", "a")
        assert ask(app, "POST", "/publish", json={"topic": "a", "data": 1}, headers=bob).status_code == 200
        assert ask(app, "GET", "/revocations", headers=bob).status_code == 200


class TestPlaces:
    """Where a token may be."""

    def test_a_web_token_as_a_session(self, hub: Hub) -> None:
        """Signing in with a JSON Web Token makes it the cookie, for as long as it lasts; what it grants, the cookie does."""
        browser = Browser(application(hub))
        made = token(sse={"subscribe": ["a"]}, exp=int(time.time()) + 600)
        result = browser.sign_in(made)
        ((name, cookie),) = set_cookies(result).items()

        assert (name, cookie.value, cookie["httponly"], cookie["samesite"].lower()) == (
            "__Host-sse-kit",
            made,
            True,
            "strict",
        )
        assert 0 < int(cookie["max-age"]) <= 610
        assert browser.ask("GET", "/session").json == {"required": True, "subject": "ann"}
        assert browser.ask("HEAD", "/events", params={"topic": "a"}).status_code == 200
        assert browser.ask("HEAD", "/events", params={"topic": "b"}).status_code == 403

    def test_a_cookie_counts_for_our_pages_only(self, hub: Hub) -> None:
        """With a token in the cookie, too, a foreign page may neither publish nor listen."""
        browser = Browser(application(hub, cors_origins=(OTHER,)))
        browser.cookies["__Host-sse-kit"] = token(sse={"subscribe": ["a"], "publish": ["a"]})
        event = {"topic": "a", "data": 1}

        for origin in ("https://evil.example", "null", None):
            problem(browser.ask("POST", "/publish", json=event, origin=origin), 403, "foreign-origin")
        problem(
            browser.ask("GET", "/events", params={"topic": "a"}, origin="https://evil.example"), 403, "foreign-origin"
        )
        assert browser.ask("POST", "/publish", json=event, origin=OTHER).status_code == 200

    def test_a_token_that_no_cookie_holds(self, hub: Hub) -> None:
        """A token that browsers might not keep as a cookie is refused when one signs in, and not afterwards."""
        long = token(sse={"subscribe": [f"{number:04}/" + "x" * 90 for number in range(30)]})
        browser = Browser(application(hub, max_token_bytes=7000))

        problem(browser.sign_in(long), 413, "too-large")
        assert browser.cookies == {}

    def test_an_address_takes_no_token_unless_it_is_told_to(self, hub: Hub) -> None:
        """A token in the query counts only where the setting says so, and never beside another one."""
        made = token(sse={"subscribe": ["a"]})
        query = f"topic=a&access_token={made}"
        off, on = application(hub), application(hub, query_token=True)

        problem(ask(off, "GET", "/events", query_string=query), 401, "unauthenticated")
        assert ask(on, "HEAD", "/events", query_string=query).status_code == 200
        both = ask(on, "GET", "/events", query_string=query, headers={"Authorization": f"Bearer {made}"})
        problem(both, 400, "malformed-authorization")
        problem(ask(on, "GET", "/events", query_string=f"{query}&access_token={made}"), 400, "malformed-authorization")
        problem(ask(on, "GET", "/events", query_string="topic=a&access_token="), 401, "unauthenticated")
        problem(ask(on, "GET", "/events", query_string="topic=a&access%5Ftoken=x"), 401, "unauthenticated")

    def test_nobody_behind_sees_a_token_in_the_query(self, hub: Hub) -> None:
        """It is taken out before a resource sees the query: one that refuses what it does not know takes no offence."""
        app = application(hub, query_token=True)
        made = token(sse={"start": ["generate"]})

        assert ask(app, "HEAD", "/generate", query_string=f"access_token={made}&prompt=a").status_code == 200

    def test_two_cookies_of_one_name(self, hub: Hub) -> None:
        """Two different values are nobody's: which of them is meant cannot be told."""
        headers = {"Cookie": f"__Host-sse-kit={token(sub='ann')}; __Host-sse-kit={token(sub='bob')}", "Host": HOST}
        result = TestClient(application(hub)).simulate_get("/session", protocol="https", headers=headers)

        problem(result, 400, "malformed-authorization")

    def test_what_is_wrong_with_a_token_is_said(self, hub: Hub) -> None:
        """The answer says why, by RFC 6750, and does not repeat the token."""
        app = application(hub)
        for made, reason in ((token(exp=1), "expired"), (token(aud="other"), "audience"), (token("other"), "no key")):
            result = ask(app, "GET", "/topics", headers={"Authorization": f"Bearer {made}"})
            assert reason in problem(result, 401, "unauthenticated")["detail"]
            assert result.headers["www-authenticate"] == 'Bearer realm="sse-kit", error="invalid_token"'
            assert made not in result.text

    @pytest.mark.parametrize("granted", [{"namespaces": {"\ud800": 1}}, {"\ud800": 1}, {"subscribe": ["\ud800"]}])
    def test_halves_of_characters_in_a_token(self, hub: Hub, granted: dict[str, Any]) -> None:
        """A name that no text can have is told as what is wrong with the token, and is no error of the server."""
        problem(ask(application(hub), "GET", "/topics", headers=bearer(**granted)), 401, "unauthenticated")

    def test_public_keys(self, hub: Hub) -> None:
        """Keys of several kinds side by side are used each as what it is."""
        keys = {name: public(private(name)) for name in ("RS256", "ES256", "EdDSA")}
        app = application(hub, jwt_keys={**keys, "k": SECRET}, jwt_algorithms=["HS256", *keys])

        for name in keys:
            made = token(name, key=private(name), algorithm=name, sse={"publish": ["a"]})
            headers = {"Authorization": f"Bearer {made}"}
            assert ask(app, "POST", "/publish", json={"topic": "a", "data": 1}, headers=headers).status_code == 200


class TestNotNow:
    """What to say while it cannot be told who somebody is."""

    def test_streams_are_told_softly(self, hub: Hub) -> None:
        """While the keys are away a request is 503, and an EventSource, which that would end for good, is told to come back."""
        app = application(
            hub, jwt_keys={}, jwks_url="http://127.0.0.1:1/", jwt_algorithms=["EdDSA"], jwt_issuer="i", jwks_timeout=5
        )
        made = token("k", key=private("EdDSA"), algorithm="EdDSA", iss="i", sse={"subscribe": ["a"]})
        headers = {"Authorization": f"Bearer {made}"}
        result = ask(app, "GET", "/topics", headers=headers)
        problem(result, 503, "keys-away")
        stream = ask(app, "GET", "/events", query_string="topic=a", headers=headers | {"Accept": "text/event-stream"})

        assert int(result.headers["retry-after"]) == 30
        assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream")
        assert stream.text.startswith("retry: ")
        assert json.loads(ask(app, "POST", "/publish", json={}, headers=headers).text)["status"] == 503
