from __future__ import annotations

import pytest

from sse_kit.sessions import Tokens

ANN, BOB = "a" * 16, "b" * 16
NOW = 1_790_000_000.0


def tokens(known: dict[str, str] | None = None, *, now: float = NOW, seconds: int = 60) -> Tokens:
    return Tokens({"ann": ANN, "bob": BOB} if known is None else known, seconds=seconds, clock=lambda: now)


def test_whose_token() -> None:
    """A token is its subject's, and nothing that only resembles one is anybody's."""
    known = tokens()

    assert known.subject(ANN) == "ann"
    assert known.subject(BOB) == "bob"
    assert [known.subject(text) for text in ("", "ann", ANN[:-1], ANN + "a", ANN.upper(), "é")] == [None] * 6


def test_session_of_another_process() -> None:
    """A session is known to every process that has the same tokens, and after a restart of each."""
    assert tokens().check(tokens().open("ann")) == "ann"


@pytest.mark.parametrize("subject", ["a", "Łukasz Ż. / münchen", "名", 'a.b\\c"d;e,f'])
def test_any_subject(subject: str) -> None:
    """A session of any subject is a value that a cookie can have."""
    known = tokens({subject: ANN})
    session = known.open(subject)

    assert known.check(session) == subject
    assert session.isascii()
    assert not set(session) & set(' ",;\\')


def test_the_token_is_not_in_it() -> None:
    """Who sees the session does not see the token."""
    assert ANN not in tokens().open("ann")


def test_its_end() -> None:
    """A session ends after its seconds, to the second."""
    session = tokens().open("ann")

    assert tokens(now=NOW + 59).check(session) == "ann"
    assert tokens(now=NOW + 60).check(session) is None


@pytest.mark.parametrize("known", [{"ann": BOB}, {"bob": BOB}, {}, {"ann": BOB, "bob": ANN}])
def test_a_token_that_changed(known: dict[str, str]) -> None:
    """Whose token is changed, taken out or given to another has no session any more."""
    assert tokens(known).check(tokens().open("ann")) is None


def test_others_are_not_affected() -> None:
    """A change of one token ends no session of another subject."""
    assert tokens({"ann": "c" * 16, "bob": BOB}).check(tokens().open("bob")) == "bob"


def test_every_character_counts() -> None:
    """No character of a session can be changed, left out or added: neither who, nor until when, nor the proof."""
    known = tokens()
    session = known.open("ann")

    for place, character in enumerate(session):
        for other in "AaBb01234._-=":
            if other != character:
                assert known.check(session[:place] + other + session[place + 1 :]) is None
        assert known.check(session[:place] + session[place + 1 :]) is None
        assert known.check(session[:place] + "0" + session[place:]) is None


def test_a_longer_life_needs_another_proof() -> None:
    """The proof of one session does not serve another one of the same subject."""
    short, long = tokens().open("ann"), tokens(seconds=3600).open("ann")

    assert tokens().check(long.rpartition(".")[0] + "." + short.rpartition(".")[2]) is None


@pytest.mark.parametrize(
    "text",
    ["", "v1", "v1...", "v2.YW5u.1790000060.x", "\x00", "é", "v1.%.1." + "A" * 43, "v1._w.1." + "A" * 43, "." * 500],
)
def test_what_is_no_session(text: str) -> None:
    """Whatever stands in the cookie, it is nobody's session and no error."""
    assert tokens().check(text) is None
