"""Keys: which texts are some, and where they come from while the service runs."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from pydantic import ValidationError

from sse_core import ConfigurationError
from sse_kit.identities import SeveralKeys, create_authenticator, create_tokens
from sse_kit.jwks import MAX_DOCUMENT_BYTES, FileKeys, UrlKeys, check_url, fetch
from sse_kit.keys import MAX_KEYS, Key, KeyRefusedError, KeysAwayError, KeySet, from_document, from_text
from sse_kit.settings import Settings
from tests.redisserver import wait_until
from tests.service.keys import SECRET, jwk, private, private_text, public


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def good(kid: str = "k") -> dict[str, Any]:
    return jwk(private("EdDSA"), "EdDSA", kid=kid)


class TestTexts:
    """One key."""

    @pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
    def test_public_keys(self, algorithm: str) -> None:
        """A public key is of the one algorithm of its type."""
        assert from_text("k", public(private(algorithm))).algorithm == algorithm

    def test_secrets(self) -> None:
        """A text of at least 32 bytes is a secret."""
        assert from_text("k", SECRET) == Key("k", "HS256", SECRET.encode())
        with pytest.raises(KeyRefusedError, match="at least 32 bytes"):
            from_text("k", SECRET[:-1])

    def test_what_is_no_key(self) -> None:
        """A key of another kind, too short, or that has to stay elsewhere is refused, and not shown."""
        texts = [
            public(rsa.generate_private_key(65537, 1024)),
            public(ec.generate_private_key(ec.SECP384R1())),
            public(ed448.Ed448PrivateKey.generate()),
            private_text(private("ES256")),
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            " " + public(private("ES256")).replace("PUBLIC", "PRIVATE"),
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2Jhcg== somebody@somewhere",
            json.dumps(good()) + " " * 32,
        ]
        for text in texts:
            with pytest.raises(KeyRefusedError) as caught:
                from_text("k", text)
            assert text[30:60] not in str(caught.value)


class TestDocuments:
    """A JSON Web Key Set."""

    def test_what_can_be_used_is(self) -> None:
        """Of a set the keys for signatures are taken; those for something else, or of another algorithm, are passed over."""
        found = from_document(
            document(
                jwk(private("RS256"), "RS256", kid="r", use="sig", alg="RS256"),
                jwk(private("ES256"), "ES256", kid="e", key_ops=["verify"]),
                good("d"),
                good("for-encryption") | {"use": "enc"},
                good("for-signing-only") | {"key_ops": ["sign"]},
                jwk(private("RS256"), "RS256", kid="other", alg="RS512"),
                {"kty": "XYZ"},
                {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
                {"kty": "EC", "kid": "without-x"},
                {"kty": ["RSA"]},
            ),
            secrets=False,
        )

        assert [(key.kid, key.algorithm) for key in found.keys] == [("r", "RS256"), ("e", "ES256"), ("d", "EdDSA")]
        assert found.find("r", "ES256") is None

    def test_no_private_part_is_kept(self) -> None:
        """A set that has private keys in it by mistake is used, and only to check with."""
        from jwt.algorithms import get_default_algorithms

        whole = json.loads(get_default_algorithms()["EdDSA"].to_jwk(private("EdDSA")))
        found = from_document(document(whole | {"kid": "k"}), secrets=False).find("k", "EdDSA")

        assert found is not None
        assert not hasattr(found.material, "sign")

    def test_secrets_are_for_files(self) -> None:
        """A shared secret is taken from a file and never from a URL, where others could read it too."""
        secret = {"kty": "oct", "kid": "s", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}

        assert from_document(document(secret), secrets=True).find("s", "HS256") == Key("s", "HS256", SECRET.encode())
        with pytest.raises(KeyRefusedError, match="others can read"):
            from_document(document(secret), secrets=False)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (b"", "no JSON"),
            (b"[" * 100_000, "no JSON"),
            (b"\xff", "no JSON"),
            (b"[]", "no JSON Web Key Set"),
            (b'{"keys": {}}', "no JSON Web Key Set"),
            (b'{"keys": []}', "none of 0"),
            (b'{"keys": [1]}', "no object"),
            (document(*[good(str(number)) for number in range(MAX_KEYS + 1)]), "101 keys"),
            (document(good(), jwk(private("EdDSA"), "EdDSA", kid="k")), "same kid"),
        ],
    )
    def test_what_is_no_set(self, text: bytes, reason: str) -> None:
        """A document that is none, has hundreds of keys, or two by one name, is refused as a whole."""
        with pytest.raises(KeyRefusedError, match=reason):
            from_document(text, secrets=False)

    def test_as_many_as_there_may_be(self) -> None:
        """A hundred keys are found by their names; a token without a name fits none of several."""
        found = from_document(document(*[good(str(number)) for number in range(MAX_KEYS)]), secrets=False)

        assert found.find("99", "EdDSA") is not None
        assert found.find(None, "EdDSA") is None


class TestFile:
    """Keys in a file."""

    def test_a_changed_file_is_read_again(self, tmp_path: Path) -> None:
        """New keys of the file count, once it is looked at again; what is no key keeps those before it."""
        path, now = tmp_path / "keys", [0.0]
        path.write_bytes(document(good("old")))
        keys = FileKeys(path, clock=lambda: now[0])

        def write(text: bytes) -> None:
            other = tmp_path / "new"
            other.write_bytes(text)
            os.replace(other, path)
            now[0] += 2

        assert keys.find("old", "EdDSA")
        write(document(good("new")))
        assert (keys.find("old", "EdDSA"), keys.find("new", "EdDSA") is not None) == (None, True)
        write(b"{}")
        assert keys.find("new", "EdDSA")
        path.unlink()
        now[0] += 2
        assert keys.find("new", "EdDSA")
        write(public(private("ES256")).encode())
        assert keys.find(None, "ES256")

    def test_a_file_that_is_none_stops_the_start(self, tmp_path: Path) -> None:
        """A file that is not there, or has no key in it, is told before anything serves."""
        (tmp_path / "empty").write_text("{}")
        for name in ("nowhere", "empty"):
            settings = Settings(jwt_key_file=tmp_path / name, jwt_algorithms=["ES256"])
            with pytest.raises(ConfigurationError, match="jwt_key_file"):
                create_authenticator(settings, create_tokens(settings))


class Publisher:
    """A server with a document of keys. ``answer`` is what it sends, ``asked`` how often it was asked."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, document(good()))
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked += 1
                publisher.gate.wait(30)
                status, headers, body = publisher.answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Silent."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.close()


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def url_keys(url: str, clock: Clock, *, timeout: float = 30.0) -> UrlKeys:
    return UrlKeys(url, fresh_seconds=100, least_seconds=10, most_seconds=1000, timeout=timeout, clock=clock)


def settled(keys: UrlKeys) -> None:
    """Wait until nothing is being fetched."""
    with keys._changed:
        assert keys._changed.wait_for(lambda: not keys._asking, 30)


class TestUrl:
    """Keys at a URL."""

    def test_they_are_fetched_once(self, publisher: Publisher) -> None:
        """The first token fetches the keys; those after it use them."""
        keys = url_keys(publisher.url, Clock())

        assert [keys.find("k", "EdDSA") is not None for _ in range(10)] == [True] * 10
        assert publisher.asked == 1

    def test_an_unknown_name_asks_again_but_not_each_time(self, publisher: Publisher) -> None:
        """A new key is found by its name; names that are made up ask no more than once in the least time."""
        clock = Clock()
        keys = url_keys(publisher.url, clock)
        assert keys.find("k", "EdDSA")
        publisher.answer = (200, {}, document(good("k"), good("new")))
        assert [keys.find(f"made-up-{number}", "EdDSA") for number in range(100)] == [None] * 100
        assert publisher.asked == 1
        clock.now += 11
        assert keys.find("new", "EdDSA")
        assert [keys.find(f"made-up-{number}", "EdDSA") for number in range(100)] == [None] * 100
        assert publisher.asked == 2

    def test_they_are_looked_at_again(self, publisher: Publisher) -> None:
        """After their time they are fetched anew, while nobody waits for it; a key that was taken out is known no more."""
        clock = Clock()
        keys = url_keys(publisher.url, clock)
        assert keys.find("k", "EdDSA")
        publisher.answer = (200, {}, document(good("new")))
        publisher.gate.clear()
        clock.now += 101
        assert keys.find("k", "EdDSA")
        publisher.gate.set()
        settled(keys)

        assert keys.find("new", "EdDSA")
        assert keys.find("k", "EdDSA") is None

    def test_a_url_that_fails_keeps_the_keys_for_a_while(self, publisher: Publisher) -> None:
        """What was fetched goes on while the URL does not answer, and not for ever."""
        clock = Clock()
        keys = url_keys(publisher.url, clock)
        assert keys.find("k", "EdDSA")
        publisher.answer = (500, {}, b"")
        clock.now += 900
        assert keys.find("k", "EdDSA")
        settled(keys)
        assert keys.find("k", "EdDSA")
        clock.now += 101
        with pytest.raises(KeysAwayError):
            keys.find("k", "EdDSA")
        publisher.answer = (200, {}, document(good()))
        clock.now += 11
        assert keys.find("k", "EdDSA")

    @pytest.mark.parametrize(
        "answer",
        [
            (200, {}, b"<html>"),
            (200, {}, document(*[good(str(number)) for number in range(300)])),
            (200, {}, b" " * (MAX_DOCUMENT_BYTES + 1)),
            (404, {}, b""),
            (204, {}, b""),
        ],
        ids=["html", "hundreds", "large", "404", "204"],
    )
    def test_an_answer_that_is_none(self, publisher: Publisher, answer: tuple[int, dict[str, str], bytes]) -> None:
        """An answer that is no document of keys, or too large a one, is as good as none."""
        publisher.answer = answer
        with pytest.raises(KeysAwayError):
            url_keys(publisher.url, Clock()).find("k", "EdDSA")

    def test_redirects_are_not_followed(self, publisher: Publisher) -> None:
        """The keys are where the settings say; a server that points elsewhere is not believed."""
        other = Publisher()
        try:
            publisher.answer = (302, {"Location": other.url}, b"")
            with pytest.raises(KeysAwayError):
                url_keys(publisher.url, Clock()).find("k", "EdDSA")
            assert other.asked == 0
        finally:
            other.close()

    def test_a_slow_server_holds_nobody_up(self) -> None:
        """A server that sends a byte now and then, and never all, is cut off when its time is over."""
        stop = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def drip() -> None:
                connection, _ = listener.accept()
                with connection:
                    while not stop.wait(0.02):
                        try:
                            connection.sendall(b"H")
                        except OSError:
                            return

            thread = threading.Thread(target=drip)
            thread.start()
            try:
                with pytest.raises((OSError, Exception)) as caught:
                    fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/", 0.3)
                assert not isinstance(caught.value, AssertionError)
            finally:
                stop.set()
                thread.join()

    def test_who_waits_waits_for_the_one_that_asks(self, publisher: Publisher) -> None:
        """Many tokens at once, of a service that has just started, ask the URL once."""
        publisher.gate.clear()
        keys = url_keys(publisher.url, Clock())
        found: list[Key | None] = []
        threads = [threading.Thread(target=lambda: found.append(keys.find("k", "EdDSA"))) for _ in range(20)]
        for thread in threads:
            thread.start()
        publisher.gate.set()
        for thread in threads:
            thread.join()

        assert (len(found), None in found, publisher.asked) == (20, False, 1)

    def test_names_that_are_made_up_do_not_hold_all_threads(self, publisher: Publisher) -> None:
        """While there are keys only some wait for a slow URL; others are told to come back, and keys that are known go on."""
        clock = Clock()
        keys = url_keys(publisher.url, clock)
        assert keys.find("k", "EdDSA")
        publisher.gate.clear()
        clock.now += 11
        threads = [threading.Thread(target=keys.find, args=(f"made-up-{number}", "EdDSA")) for number in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: keys._waiting == 2, "both wait")

        with pytest.raises(KeysAwayError):
            keys.find("made-up", "EdDSA")
        assert keys.find("k", "EdDSA")
        publisher.gate.set()
        for thread in threads:
            thread.join()
        assert keys.find("made-up", "EdDSA") is None

    def test_without_a_thread_it_is_asked_again_later(
        self, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that has no room for a thread has room another time: the keys are fetched then."""
        clock = Clock()
        keys = url_keys(publisher.url, clock)

        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                keys.find("k", "EdDSA")
        clock.now += 11

        assert keys.find("k", "EdDSA")

    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/keys",
            "http://127.0.0.1.example.com/",
            "http://user@127.0.0.1/",
            "https://user:password@example.com/",
            "file:///etc/passwd",
            "ftp://example.com/",
            "https://",
            "//example.com",
            "https://example.com:x/",
            "https://example.com/#a",
        ],
    )
    def test_where_keys_do_not_come_from(self, url: str) -> None:
        """Keys come by https, or from this very machine: who could change them on the way could be anybody."""
        with pytest.raises(ValueError, match=r"must be https|[Pp]ort"):
            check_url(url)
        for fine in ("https://example.com/keys?a=b", "http://localhost:1/", "http://[::1]/k", "http://127.0.0.1/"):
            check_url(fine)


def test_one_place_that_is_away_does_not_close_the_others() -> None:
    """A key of the settings is found while the URL is away; only what none of them has cannot be told."""

    class Away:
        def find(self, kid: str | None, algorithm: str) -> Key | None:
            raise KeysAwayError(1.0)

    keys = SeveralKeys([Away(), KeySet([from_text("s", SECRET)])])

    assert keys.find("s", "HS256")
    with pytest.raises(KeysAwayError):
        keys.find("other", "HS256")


class TestSettings:
    """What is configured is checked before anything serves."""

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"jwt_keys": {"k": SECRET}}, "jwt_algorithms must name"),
            ({"jwt_algorithms": ["HS256"]}, "needs keys"),
            ({"jwt_keys": {"k": SECRET}, "jwt_algorithms": ["RS256"]}, "is a key for HS256"),
            ({"jwt_keys": {"k": "short"}, "jwt_algorithms": ["HS256"]}, "at least 32 bytes"),
            ({"jwt_keys": {"k": SECRET}, "jwt_algorithms": ["none"]}, "jwt_algorithms"),
            ({"jwks_url": "https://id.example/", "jwt_algorithms": ["RS256"]}, "jwt_issuer"),
            ({"jwks_url": "http://id.example/", "jwt_algorithms": ["RS256"], "jwt_issuer": "i"}, "must be https"),
            ({"grants": {"ann": {}}}, "'ann' has no token"),
            ({"grants": {"ann": {"subscribe": ["a*"]}}, "tokens": {"ann": SECRET}}, "no pattern"),
            ({"max_token_bytes": 9000}, "max_token_bytes"),
        ],
    )
    def test_what_cannot_be(self, settings: dict[str, Any], reason: str) -> None:
        """Keys without algorithms, and whatever else could only be meant otherwise, are refused; no key is shown."""
        with pytest.raises(ValidationError, match=reason) as caught:
            Settings(**settings)

        assert SECRET not in str(caught.value)
