from __future__ import annotations

import json
import time
from typing import Any

import pytest

from sse_kit.keys import ALGORITHMS, KeySet, from_text
from sse_kit.webtokens import TokenError, WebTokens, peek
from tests.service.keys import SECRET, claims, private, public, signed, token

HEADER = '{"alg": "HS256", "kid": "k"}'


def checker(*texts: tuple[str, str], **options: Any) -> WebTokens:
    keys = KeySet([from_text(kid, text) for kid, text in texts or [("k", SECRET)]])
    return WebTokens(
        keys,
        **{
            "algorithms": ALGORITHMS,
            "issuer": None,
            "audience": ("sse-kit",),
            "leeway": 10.0,
            "claim": "sse",
            "max_bytes": 4096,
            **options,
        },
    )


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key(algorithm: str) -> None:
    """A token of each algorithm is known by the public key, with or without its name."""
    key = private(algorithm)
    known = checker(("k", public(key)), ("other", SECRET))

    for kid in ("k", None):
        made = token(kid, key=key, algorithm=algorithm, jti="1", sse={"subscribe": ["a/*"]}, exp=claims()["exp"])
        identity = known.verify(made)
        assert (identity.subject, identity.token_id) == ("ann", "1")
        assert identity.grants.may_subscribe("default", "a/b")
        assert not identity.grants.may_publish("default", "a/b")


def test_a_secret() -> None:
    """A token by HMAC is known by the secret; its end, with the leeway, is that of its streams."""
    exp = int(time.time()) + 100
    identity = checker().verify(token(exp=exp))

    assert identity.expires == exp + 10
    assert identity.token_id is None
    assert not identity.grants.may_subscribe("default", "a")


def test_nobody_signs_nothing() -> None:
    """Algorithm none, in whatever case, is none that is accepted, with a signature or without."""
    for name in ("none", "None", "NONE", "nOnE"):
        made = signed(json.dumps({"alg": name, "kid": "k"}), json.dumps(claims()))
        for text in (made, made.rpartition(".")[0] + ".", made.rpartition(".")[0] + ".AA"):
            with pytest.raises(TokenError):
                checker().verify(text)


@pytest.mark.parametrize("algorithm", [["HS256"], {"HS256": 1}, 256, True, None])
def test_an_algorithm_is_text(algorithm: object) -> None:
    """An algorithm that is a list or an object is none that is accepted, and no fault of the server."""
    with pytest.raises(TokenError, match="algorithm"):
        checker().verify(signed(json.dumps({"alg": algorithm, "kid": "k"}), json.dumps(claims())))


def test_a_public_key_is_no_secret() -> None:
    """A token by HMAC whose secret is the text of a public key is not accepted, whatever else is configured."""
    for algorithm in ("RS256", "ES256", "EdDSA"):
        text = public(private(algorithm))
        for secret in (text, text.strip(), text.replace("\n", "\r\n")):
            with pytest.raises(TokenError, match="no key"):
                checker(("k", text)).verify(signed(HEADER, json.dumps(claims()), secret))
            with pytest.raises(TokenError, match=r"no key|signature"):
                checker(("k", text), ("s", SECRET)).verify(signed('{"alg": "HS256"}', json.dumps(claims()), secret))


def test_an_algorithm_that_is_not_named() -> None:
    """An algorithm counts only if it is in the list, though there is a key for it."""
    with pytest.raises(TokenError, match="none of RS256"):
        checker(algorithms=("RS256",)).verify(token())
    for other in ("HS384", "HS512"):
        with pytest.raises(TokenError, match="none of"):
            checker().verify(token(algorithm=other, key=SECRET * 2))


@pytest.mark.parametrize("kid", ["../../etc/passwd", "/dev/null", "k\x00", "' OR 1=1", "http://evil.example/", "K", ""])
def test_the_name_of_a_key_is_only_a_name(kid: str) -> None:
    """What a token calls its key is looked up, and nothing else is done with it."""
    with pytest.raises(TokenError, match="no key"):
        checker().verify(token(kid))


@pytest.mark.parametrize("kid", [1, ["k"], {"k": 1}, "k" * 257])
def test_the_name_of_a_key_is_a_short_text(kid: object) -> None:
    """A name that is none is told as such."""
    with pytest.raises(TokenError, match="kid"):
        checker().verify(signed(json.dumps({"alg": "HS256", "kid": kid}), json.dumps(claims())))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"b64": False},
        {"zip": "DEF"},
        {"enc": "A128GCM"},
    ],
)
def test_extensions_are_not_passed_over(header: dict[str, Any]) -> None:
    """A header that asks for something to be understood is refused: it is not."""
    with pytest.raises(TokenError, match="header"):
        checker().verify(signed(json.dumps({"alg": "HS256", "kid": "k"} | header), json.dumps(claims())))


def test_keys_in_the_token_are_not_used() -> None:
    """A key, or where to find one, that a token brings itself is not looked at."""
    header = {"alg": "HS256", "kid": "k", "jwk": {"kty": "oct", "k": "AAAA"}, "jku": "http://127.0.0.1:1/", "x5u": "x"}
    made = signed(json.dumps(header), json.dumps(claims()), "another secret of thirty-two bytes")

    with pytest.raises(TokenError, match="signature"):
        checker().verify(made)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": None}, "no exp"),
        ({"exp": 0}, "expired"),
        ({"exp": int(time.time()) - 11}, "expired"),
        ({"exp": "9999999999"}, "exp is no time"),
        ({"exp": True}, "exp is no time"),
        ({"exp": -1}, "exp is no time"),
        ({"exp": 10**30}, "exp is no time"),
        ({"exp": [1]}, "exp is no time"),
        ({"nbf": 4_000_000_000}, "nbf is to come"),
        ({"iat": 4_000_000_000}, "iat is to come"),
        ({"nbf": "x"}, "nbf is no time"),
        ({"aud": None}, "audience"),
        ({"aud": "other"}, "audience"),
        ({"aud": ["other", 1]}, "audience"),
        ({"aud": {"sse-kit": 1}}, "audience"),
        ({"sub": None}, "no sub"),
        ({"sub": ""}, "sub has 1 to"),
        ({"sub": "x" * 256}, "sub has 1 to"),
        ({"sub": "a\nb"}, "sub has 1 to"),
        ({"jti": "a\x1b[0m"}, "jti has 1 to"),
        ({"sse": []}, "claim sse"),
        ({"sse": {"subscribe": ["a*b"]}}, "claim sse"),
        ({"sse": {"admin": "true"}}, "claim sse"),
    ],
)
def test_claims_that_are_not_accepted(changed: dict[str, Any], reason: str) -> None:
    """What is wrong with a claim is told by its name."""
    made = signed(HEADER, json.dumps(claims(**changed)))

    with pytest.raises(TokenError, match=reason):
        checker().verify(made)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1e15", "-0.5", "9" * 5000])
def test_an_end_that_is_no_time(number: str) -> None:
    """An end that Python would read as something, and that is none, is refused."""
    with pytest.raises(TokenError, match=r"exp is no time|cannot be read|at most"):
        checker(max_bytes=10_000).verify(signed(HEADER, f'{{"sub": "ann", "aud": "sse-kit", "exp": {number}}}'))


def test_times_may_have_fractions_and_clocks_may_differ() -> None:
    """Seconds may be fractions (RFC 7519, section 2), and a token that ended a moment ago is within the leeway."""
    now = time.time()
    identity = checker(leeway=60).verify(token(exp=now - 5.5, nbf=now + 5.5, iat=now + 5.5))

    assert identity.expires == pytest.approx(now + 54.5)


def test_the_issuer() -> None:
    """Where one is asked for, a token must have it."""
    known = checker(issuer="https://id.example/")

    assert known.verify(token(iss="https://id.example/", aud=["x", "sse-kit"])).subject == "ann"
    for other in (None, "https://id.example", ["https://id.example/"]):
        with pytest.raises(TokenError, match="issuer"):
            known.verify(signed(HEADER, json.dumps(claims(iss=other))))


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (HEADER, '{"sub": "ann", "aud": "sse-kit", "exp": 9999999999, "sub": "root"}'),
        (HEADER, '{"sub": "ann", "aud": "sse-kit", "exp": 9999999999, "sse": {"admin": false, "admin": true}}'),
        ('{"alg": "none", "kid": "k", "alg": "HS256"}', '{"sub": "ann", "aud": "sse-kit", "exp": 9999999999}'),
    ],
)
def test_a_name_that_stands_twice(header: str, payload: str) -> None:
    """A repeated name, of which one reader takes the first and another one the last, is refused."""
    with pytest.raises(TokenError, match="cannot be read"):
        checker().verify(signed(header, payload))


@pytest.mark.parametrize("payload", ["", "null", "[]", '"x"', "1", "{", '{"exp": 1}x', "[" * 2000, '{"a":' * 1000])
def test_claims_that_are_no_object(payload: str) -> None:
    """A payload that is not one JSON object is told as such, however deep it is nested."""
    with pytest.raises(TokenError, match=r"no object|cannot be read|no JSON Web Token"):
        checker(max_bytes=10_000).verify(signed(HEADER, payload))


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "a.b.c\n", "a..c", "ä.b.c", "a b.c.d", "=.=.="])
def test_what_is_no_token(text: str) -> None:
    """A text that is not three parts of base64url is none."""
    with pytest.raises(TokenError, match="no JSON Web Token"):
        checker().verify(text)


def test_the_size_is_bounded() -> None:
    """A token of the bound is read; one byte more is refused before anything of it is."""
    made = token(sse={"subscribe": [f"topic/{number}" for number in range(50)]})

    assert checker(max_bytes=len(made)).verify(made).subject == "ann"
    with pytest.raises(TokenError, match=f"at most {len(made) - 1}"):
        checker(max_bytes=len(made) - 1).verify(made)
    with pytest.raises(TokenError, match="at most 4096"):
        checker().verify("a" * 10_000_000)


def test_changed_tokens() -> None:
    """A token of which any part was changed is not accepted."""
    header, payload, signature = token().split(".")
    other = token(sub="root").split(".")[1]

    for text in (
        f"{header}.{other}.{signature}",
        f"{header}.{payload}.{signature[:-2]}",
        f"{header}.{payload}.{'A' * 43}",
    ):
        with pytest.raises(TokenError, match="signature"):
            checker().verify(text)


def test_a_look_without_a_check() -> None:
    """What a token says can be read without a key, by who wants to see it."""
    header, found = peek(token(sse={"publish": ["a"]}))

    assert (header["alg"], header["kid"]) == ("HS256", "k")
    assert (found["sub"], found["sse"]) == ("ann", {"publish": ["a"]})
    with pytest.raises(TokenError):
        peek("x")
