from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from falcon import App
from falcon.inspect import inspect_routes
from falcon.testing import Result, TestClient
from pydantic import ValidationError

from sse_core import Hub
from sse_kit.auth import OPEN_ROUTES
from sse_kit.settings import Settings
from tests.application import app_of
from tests.servers import Server, running_service

ANN, BOB = "ann-" + "0123456789abcdef", "bob+" + "0123456789abcdef/=="
TOKENS = {"ann": ANN, "bob": BOB}
BEARER = {"Authorization": f"Bearer {ANN}"}
HOST = "kit.example"
OWN = f"https://{HOST}"
OTHER = "https://app.example"
EVENT = {"topic": "a", "data": 1}


def application(hub: Hub, **settings: Any) -> App[Any, Any]:
    return app_of(hub, Settings(**({"tokens": TOKENS} | settings)))


class Browser:
    """Asks as a browser does: it keeps the cookies of the one site that it visits, which is https unless said else."""

    def __init__(self, app: App[Any, Any], *, protocol: str = "https") -> None:
        self._client = TestClient(app)
        self._protocol = protocol
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, *, origin: str | None = None, **options: Any) -> Result:
        headers = dict(options.pop("headers", {}))
        if origin is not None:
            headers["Origin"] = origin
        result = self._client.simulate_request(
            method,
            path,
            protocol=self._protocol,
            host=HOST,
            headers=headers,
            cookies=self.cookies,
            extras={"wsgi.multiprocess": False},
            **options,
        )
        for name, morsel in set_cookies(result).items():
            if morsel["expires"]:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        return result

    def sign_in(self, token: str = ANN) -> Result:
        return self.ask("POST", "/session", json={"token": token}, origin=f"{self._protocol}://{HOST}")


def set_cookies(result: Result) -> dict[str, Morsel[str]]:
    """What the answer sets, read as a browser would, and not by Falcon, which wrote it."""
    return dict(SimpleCookie(result.headers.get("set-cookie", "")))


def problem(result: Result, status: int, slug: str) -> dict[str, Any]:
    document: dict[str, Any] = result.json
    assert (result.status_code, document["type"]) == (status, f"urn:sse-kit:problem:{slug}"), document
    return document


@pytest.fixture
def app(hub: Hub) -> App[Any, Any]:
    return application(hub)


@pytest.fixture
def browser(app: App[Any, Any]) -> Browser:
    return Browser(app)


class TestGate:
    """Which requests pass."""

    def test_every_other_route_is_closed(self, hub: Hub, tmp_path: Path) -> None:
        """Without a token every method of every route but the open ones is 401, and nothing was begun for it."""
        log = tmp_path / "log"
        log.write_text("line\n")
        app = application(hub, logs={"x": log}, namespaces=("n",))
        closed = [
            (method.method, re.sub(r"{name}", "x", re.sub(r"{[^}]*}", "default", route.path)))
            for route in inspect_routes(app)
            for method in route.methods
            if route.path not in OPEN_ROUTES and not method.internal
        ]

        for method, path in closed:
            result = TestClient(app).simulate_request(method, path, params={"topic": "log/x"})
            assert result.status_code == 401, path
            assert result.headers["www-authenticate"] == 'Bearer realm="sse-kit"'
            if method != "HEAD":
                assert "POST /session" in problem(result, 401, "unauthenticated")["detail"]
        assert ("GET", "/events") in closed
        assert not any(hub.stats().values())

    def test_open_routes(self, app: App[Any, Any]) -> None:
        """Probes, the page and its files, the document and the counters need no token; each of them is a route."""
        paths = {route: route.replace("{path:path}", "main.js") for route in OPEN_ROUTES}

        assert {route.path for route in inspect_routes(app)} >= OPEN_ROUTES
        assert {TestClient(app).simulate_get(path).status_code for path in paths.values()} == {200}

    def test_no_route_answers_options_itself(self, app: App[Any, Any]) -> None:
        """OPTIONS, which passes, is Falcon's own answer everywhere: a list of methods."""
        own = [
            route.path
            for route in inspect_routes(app)
            for each in route.methods
            if each.method == "OPTIONS" and not each.internal
        ]

        assert own == []
        assert TestClient(app).simulate_options("/publish").headers["allow"] == "POST"

    def test_without_tokens_everybody_passes(self, hub: Hub) -> None:
        """A service without tokens asks nobody for one, and takes no offence at one."""
        client = TestClient(application(hub, tokens={}))

        assert client.simulate_post("/publish", json=EVENT).status_code == 200
        assert client.simulate_post("/publish", json=EVENT, headers={"Authorization": "Bearer"}).status_code == 200
        assert client.simulate_get("/session").json == {"required": False, "subject": None}

    def test_other_origins_see_the_refusal(self, hub: Hub) -> None:
        """A preflight passes without a token, and allows one; the 401 after it can be read by the page."""
        client = TestClient(application(hub, cors_origins=(OTHER,)))
        asked = {"Origin": OTHER, "Access-Control-Request-Method": "POST"}
        preflight = client.simulate_options("/publish", headers=asked)
        refused = client.simulate_post("/publish", json=EVENT, headers={"Origin": OTHER})

        assert preflight.status_code == 200
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        problem(refused, 401, "unauthenticated")
        assert refused.headers["access-control-allow-origin"] == OTHER


class TestBearer:
    """RFC 6750."""

    @pytest.mark.parametrize("header", [f"Bearer {ANN}", f"bearer {ANN}", f"BEARER   {BOB}"])
    def test_a_known_token(self, app: App[Any, Any], header: str) -> None:
        """A token of the settings opens everything; neither the scheme's case nor more spaces matter."""
        headers = {"Authorization": header}

        assert TestClient(app).simulate_post("/publish", json=EVENT, headers=headers).status_code == 200

    @pytest.mark.parametrize("token", [ANN[:-1], ANN + "0", ANN.upper(), "ann~", "0"])
    def test_an_unknown_token(self, app: App[Any, Any], token: str) -> None:
        """A token that nobody has is told apart from none, and is not repeated in the answer."""
        result = TestClient(app).simulate_get("/topics", headers={"Authorization": f"Bearer {token}"})

        problem(result, 401, "unauthenticated")
        assert result.headers["www-authenticate"] == 'Bearer realm="sse-kit", error="invalid_token"'
        assert result.json["detail"] == "The token is not known here."

    @pytest.mark.parametrize(
        "header",
        ["", "Bearer", "Bearer ", f"Bearer {ANN} {ANN}", f"Bearer {ANN},Bearer {BOB}", 'Bearer "x"', "=", "Bearer é"],
    )
    def test_a_malformed_header(self, app: App[Any, Any], header: str) -> None:
        """What is no Authorization header is the client's error, 400, and says how it is written."""
        result = TestClient(app).simulate_get("/topics", headers={"Authorization": header})

        problem(result, 400, "malformed-authorization")
        assert result.headers["www-authenticate"] == 'Bearer realm="sse-kit", error="invalid_request"'

    def test_another_scheme(self, browser: Browser) -> None:
        """What a proxy in front asks for is none of our business: it neither opens nor closes anything."""
        basic = {"Authorization": "Basic YW5uOng="}
        refused = browser.ask("GET", "/topics", headers=basic)
        browser.sign_in()

        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="sse-kit"')
        assert browser.ask("GET", "/topics", headers=basic).status_code == 200

    def test_a_wrong_token_beats_a_right_cookie(self, browser: Browser) -> None:
        """A token is sent on purpose: a wrong one is told, even where the cookie would do."""
        browser.sign_in()

        problem(browser.ask("GET", "/topics", headers={"Authorization": "Bearer x"}), 401, "unauthenticated")


class TestCookie:
    """A session, for browsers."""

    @pytest.mark.parametrize(("protocol", "name"), [("https", "__Host-sse-kit"), ("http", "sse-kit")])
    def test_sign_in(self, app: App[Any, Any], protocol: str, name: str) -> None:
        """A token becomes a cookie that no script reads, that no other site sends, and that has not the token in it."""
        browser = Browser(app, protocol=protocol)
        result = browser.sign_in()
        ((found, cookie),) = set_cookies(result).items()

        assert result.json == {"subject": "ann", "seconds": 43_200}
        assert found == name
        assert (cookie["max-age"], cookie["path"], cookie["samesite"].lower()) == ("43200", "/", "strict")
        assert cookie["httponly"] is True
        assert bool(cookie["secure"]) is (protocol == "https")
        assert not cookie["domain"]
        assert ANN not in cookie.value
        assert result.headers["cache-control"] == "no-store"
        assert browser.ask("GET", "/topics").status_code == 200
        assert browser.ask("GET", "/session").json == {"required": True, "subject": "ann"}

    def test_the_name_without_prefix_is_not_enough_over_https(self, app: App[Any, Any]) -> None:
        """Over https only the cookie counts that no neighbour in the domain can set."""
        plain, secure = Browser(app, protocol="http"), Browser(app)
        plain.sign_in()
        secure.cookies = plain.cookies

        problem(secure.ask("GET", "/topics"), 401, "unauthenticated")

    def test_another_worker(self, hub: Hub) -> None:
        """A session that one worker opened is known to the next, and ends with the subject's token."""
        browser = Browser(application(hub))
        browser.sign_in()
        others = [application(hub), application(hub, tokens={"ann": "another-0123456789", "bob": BOB})]
        statuses = []
        for other in others:
            there = Browser(other)
            there.cookies = browser.cookies
            statuses.append(there.ask("GET", "/topics").status_code)

        assert statuses == [200, 401]

    @pytest.mark.parametrize("value", ["", "x", ANN, "v1.YW5u.9999999999." + "A" * 43])
    def test_a_wrong_cookie(self, browser: Browser, value: str) -> None:
        """What is no session of ours is 401 and says what to do; the token itself is none either."""
        browser.cookies["__Host-sse-kit"] = value
        result = browser.ask("GET", "/events", params={"topic": "a"})

        assert "POST /session" in problem(result, 401, "unauthenticated")["detail"]
        assert result.headers["www-authenticate"] == 'Bearer realm="sse-kit", error="invalid_token"'
        assert browser.ask("GET", "/session").json == {"required": True, "subject": None}

    def test_sign_out(self, browser: Browser) -> None:
        """Signing out takes the cookie away, and may be repeated."""
        browser.sign_in()
        result = browser.ask("DELETE", "/session", origin=OWN)
        (cookie,) = set_cookies(result).values()

        assert (result.status_code, browser.cookies) == (204, {})
        assert (cookie["path"], cookie["secure"]) == ("/", True)
        assert browser.ask("GET", "/topics").status_code == 401
        assert browser.ask("DELETE", "/session").status_code == 204

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (b'{"token": "' + ANN.encode() + b'"}', "text/plain", 415),
            (b'{"token": "' + ANN.encode() + b'"}', None, 415),
            (b"{", "application/json", 400),
            (b'{"token": "\xff"}', "application/json", 400),
            (b"", "application/json", 400),
            (b"[]", "application/json", 422),
            (b"{}", "application/json", 422),
            (b'{"token": 1}', "application/json", 422),
            (b'{"token": "x", "y": 1}', "application/json", 422),
            (b'{"token": "' + b"x" * 100 + b'"}', "application/json", 413),
            (b'{"token": "x"}', "application/json", 401),
            ('{"token": "é"}'.encode(), "application/json; charset=utf-8", 401),
        ],
    )
    def test_wrong_sign_in(self, hub: Hub, body: bytes, content_type: str | None, status: int) -> None:
        """What is no token that somebody has sets no cookie, and the answer says why."""
        app = application(hub, max_body_bytes=100)
        headers = {"Content-Type": content_type} if content_type else {}
        result = TestClient(app).simulate_post("/session", body=body, headers=headers)

        assert (result.status_code, result.json["status"]) == (status, status)
        assert set_cookies(result) == {}

    def test_sign_in_without_tokens(self, hub: Hub) -> None:
        """A server that asks nobody for a token says so to who brings one."""
        result = TestClient(application(hub, tokens={})).simulate_post("/session", json={"token": ANN})

        assert problem(result, 401, "unauthenticated")["detail"] == "This server asks nobody for a token."


class TestOrigin:
    """A cookie is sent by the browser, whoever made it ask."""

    @pytest.mark.parametrize(
        ("origin", "status"),
        [
            (OWN, 200),
            (OTHER, 200),
            ("https://evil.example", 403),
            (f"http://{HOST}", 403),
            (f"https://{HOST}:8443", 403),
            (f"https://{HOST}.evil.example", 403),
            ("null", 403),
            (None, 403),
        ],
    )
    def test_what_changes_something(self, hub: Hub, origin: str | None, status: int) -> None:
        """With a cookie only pages of our own and of listed origins publish and sign out."""
        browser = Browser(application(hub, cors_origins=(OTHER,)))
        browser.sign_in()
        published = browser.ask("POST", "/publish", json=EVENT, origin=origin)
        signed_out = browser.ask("DELETE", "/session", origin=origin)

        assert published.status_code == status
        assert hub.stats()["events_published"] == (status == 200)
        assert signed_out.status_code == (204 if status == 200 else 403)
        if status == 403:
            problem(published, 403, "foreign-origin")

    @pytest.mark.parametrize(("origin", "status"), [(None, 200), (OWN, 200), ("https://evil.example", 403)])
    def test_what_only_reads(self, browser: Browser, hub: Hub, origin: str | None, status: int) -> None:
        """With a cookie a stream opens for our own pages, which name no origin; what a foreign one asks is not begun."""
        browser.sign_in()
        result = browser.ask("HEAD", "/events", params={"topic": "a"}, origin=origin)

        assert result.status_code == status

    def test_default_port(self, hub: Hub) -> None:
        """A Host with the scheme's own port, and in upper case, is still the origin that browsers write without."""
        browser = Browser(application(hub))
        browser.sign_in()
        headers = {"Host": f"{HOST.upper()}:443"}

        assert browser.ask("POST", "/publish", json=EVENT, origin=OWN, headers=headers).status_code == 200

    @pytest.mark.parametrize("host", ["[", "a:x", "", "a b"])
    def test_a_host_that_is_none(self, hub: Hub, host: str) -> None:
        """Nobody is of the origin of a host that makes no sense, and that is no server's error."""
        browser = Browser(application(hub))
        browser.sign_in()

        problem(browser.ask("POST", "/publish", json=EVENT, origin=OWN, headers={"Host": host}), 403, "foreign-origin")

    def test_foreign_pages_sign_nobody_in(self, browser: Browser) -> None:
        """A foreign page cannot sign its visitor in as somebody else."""
        result = browser.ask("POST", "/session", json={"token": BOB}, origin="https://evil.example")

        problem(result, 403, "foreign-origin")
        assert browser.cookies == {}

    def test_a_token_needs_no_origin(self, app: App[Any, Any]) -> None:
        """No browser adds a token by itself, so a request with one may come from anywhere."""
        headers = BEARER | {"Origin": "https://evil.example"}

        assert TestClient(app).simulate_post("/publish", json=EVENT, headers=headers).status_code == 200


class TestSettings:
    """Tokens are configured, and kept."""

    @pytest.mark.parametrize(
        ("tokens", "reason"),
        [
            ({"ann": "short-0123456789"[:15]}, "16 to 512"),
            ({"ann": "x" * 513}, "16 to 512"),
            ({"ann": "no spaces in tokens"}, "openssl rand"),
            ({"ann": "=0123456789abcdef"}, "openssl rand"),
            ({"ann": "0123456789abcdef\n"}, "openssl rand"),
            ({"ann": "0123456789abcdéf"}, "openssl rand"),
            ({"ann": ANN, "bob": ANN}, "'ann' and 'bob' have the same token"),
            ({"": ANN}, "no subject"),
            ({"a\nb": ANN}, "no subject"),
            ({"x" * 129: ANN}, "no subject"),
        ],
    )
    def test_wrong_tokens(self, tokens: dict[str, str], reason: str) -> None:
        """A token that nobody could send, or guess too easily, is refused by its subject's name and is not repeated."""
        with pytest.raises(ValidationError, match=reason) as raised:
            Settings(tokens=tokens)

        assert not [token for token in tokens.values() if token in str(raised.value)]

    def test_they_are_not_shown(self) -> None:
        """The settings can be printed: the tokens cannot be read there."""
        assert ANN not in repr(Settings(tokens=TOKENS)) + str(Settings(tokens=TOKENS).model_dump())

    @pytest.mark.parametrize("seconds", [0, -1, 366 * 86_400])
    def test_wrong_lifetimes(self, seconds: int) -> None:
        """A session lasts for some time, and not for ever."""
        with pytest.raises(ValidationError, match="session_seconds"):
            Settings(session_seconds=seconds)


@pytest.fixture(scope="module")
def closed() -> Iterator[Server]:
    """A real service that knows two tokens."""
    with running_service(tokens=TOKENS) as server:
        yield server


class TestService:
    """Over real HTTP."""

    def test_streams_have_subjects(self, closed: Server) -> None:
        """Whoever opens a stream, by token or by cookie, is shown as its topic's audience under the own name."""
        answer = closed.request(
            "POST", "/session", json.dumps({"token": BOB}).encode(), {"Content-Type": "application/json"}
        )
        cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
        with (
            closed.reader("/events?topic=room", headers=BEARER) as ann,
            closed.reader("/events?topic=room", headers=cookie) as bob,
        ):
            body = json.dumps({"topic": "room", "data": "hello"}).encode()
            closed.request("POST", "/publish", body, BEARER | {"Content-Type": "application/json"})
            assert [reader.read()[0].data for reader in (ann, bob)] == ["hello", "hello"]
            room = closed.request("GET", "/topics/room", headers=BEARER).json()

        assert room["subjects"] == [{"subject": "ann", "streams": 1}, {"subject": "bob", "streams": 1}]

    def test_a_refusal_is_a_whole_answer(self, closed: Server) -> None:
        """A stream that is refused is an ordinary answer: a problem document, and the connection is free again."""
        answer = closed.request("GET", "/events?topic=room", headers={"Accept": "text/event-stream"})

        assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")

    def test_nothing_is_logged(self, closed: Server) -> None:
        """Neither tokens nor sessions are in the service's log, whatever went wrong with them."""
        closed.request("GET", "/topics", headers={"Authorization": f"Bearer {ANN}x"})
        closed.request("GET", "/topics", headers={"Cookie": f"sse-kit={BOB}"})

        assert [line for line in closed.log if ANN in line or BOB in line] == []
