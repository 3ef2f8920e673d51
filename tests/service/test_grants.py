from __future__ import annotations

import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_kit.grants import EVERYTHING, MAX_NAMESPACES, MAX_PATTERNS, GrantError, Patterns, describe, parse
from sse_kit.topics import RESERVED


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a", ["a"], ["b", "a/b", "A", ""]),
        ("a/b", ["a/b"], ["a", "a/b/", "a/b/c", "/a/b"]),
        ("a/*", ["a/b", "a/", "a/*"], ["a", "a/b/c", "b/b"]),
        ("*", ["a", "*"], ["a/b", "/"]),
        ("*/b", ["a/b", "/b"], ["b", "a/c", "a/b/b"]),
        ("a/*/c", ["a/b/c", "a//c"], ["a/c", "a/b/b/c", "a/b/d"]),
        ("a/**", ["a/b", "a/b/c", "a/"], ["a", "b/a", "ab"]),
        ("**", ["a", "a/b", "a/b/c/d"], []),
        ("a/*/**", ["a/b/c", "a/b/c/d"], ["a/b", "a"]),
        ("ü/*", ["ü/x"], ["u/x"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    """A pattern matches the topics that its segments say, and no others."""
    patterns = Patterns([pattern])

    assert [topic for topic in yes if not patterns.match(topic)] == []
    assert [topic for topic in no if patterns.match(topic)] == []


@pytest.mark.parametrize(
    "pattern", ["", "a*", "*a/b", "a/***", "**/a", "a/**/b", "a/b*/c", " a", "a\n", "x" * 201, "\ud800"]
)
def test_what_is_no_pattern(pattern: str) -> None:
    """What looks like a pattern of another kind is refused, and not taken for a name."""
    with pytest.raises(GrantError, match="no pattern"):
        Patterns(["fine", pattern])


@pytest.mark.parametrize("prefix", RESERVED)
def test_what_is_the_servers_own_is_named(prefix: str) -> None:
    """A wildcard for everything is everything of the application: logs and counters take a pattern that begins with them."""
    topic = prefix + "x"

    assert not Patterns(["*", "**", "*/*", "*/**", "*/x"]).match(topic)
    assert Patterns([prefix + "*"]).match(topic)
    assert Patterns([prefix + "**"]).match(topic)


segments = st.lists(st.sampled_from(["a", "b", "*", ""]), min_size=1, max_size=5)


@given(segments, st.booleans(), st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=6))
def test_patterns_are_as_their_regular_expression_says(pattern: list[str], is_open: bool, topic: list[str]) -> None:
    """For every pattern and topic the answer is that of the regular expression that the definition is."""
    text = "/".join(pattern + ["**"] * is_open)
    if not text:
        return
    expression = "/".join("[^/]*" if each == "*" else re.escape(each) for each in pattern) + ("/.*" if is_open else "")

    assert Patterns([text]).match("/".join(topic)) is bool(re.fullmatch(expression, "/".join(topic)))


def test_a_hostile_pattern_costs_what_its_length_is() -> None:
    """Of the worst patterns and the longest topic each segment is compared once with each pattern, and nothing is built."""
    compared = 0

    class Segment(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    patterns = Patterns(["/".join(["*"] * 60 + ["b"] + ["*"] * 38 + ["**"])] * MAX_PATTERNS)

    class Topic(str):
        def split(self, *arguments: Any) -> list[str]:  # type: ignore[override]
            return [Segment(each) for each in str.split(self, *arguments)]

    topic = Topic("/".join("a" * 100))
    assert not patterns.match(topic)
    # Twice a segment at most: once with the wildcard, once with the text.
    assert 0 < compared <= 2 * 100 * MAX_PATTERNS
    tracemalloc.start()
    patterns.match(topic)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_grants_of_a_claim() -> None:
    """What a claim says is granted, by namespace, and nothing else is."""
    grants = parse(
        {
            "subscribe": ["news", "room/*"],
            "publish": ["room/**"],
            "start": ["jobs"],
            "namespaces": {"n": {"subscribe": ["**"]}},
        }
    )

    assert grants.may_subscribe("default", "news")
    assert grants.may_subscribe("n", "news")
    assert not grants.may_subscribe("other", "news")
    assert grants.may_publish("default", "room/1/2")
    assert not grants.may_publish("n", "room/1")
    assert (grants.may_start("jobs"), grants.may_start("generate"), grants.may_stop) == (True, False, True)
    assert (grants.may_administer, grants.may_read_metrics) == (False, False)
    assert describe(parse(describe(grants))) == describe(grants)


def test_nothing_and_everything() -> None:
    """An empty claim grants nothing; a plain token, everything."""
    for grants, expected in ((parse({}), False), (EVERYTHING, True)):
        asked = [
            grants.may_subscribe("default", "log/x"),
            grants.may_publish("n", "a"),
            grants.may_start("demo"),
            grants.may_stop,
            grants.may_administer,
            grants.may_read_metrics,
        ]
        assert asked == [expected] * 6
    assert describe(EVERYTHING) == {"everything": True}


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (None, "grants: an object"),
        ([], "grants: an object"),
        ("**", "grants: an object"),
        ({"subsribe": ["a"]}, "no member 'subsribe'"),
        ({"subscribe": "a"}, "subscribe: an array"),
        ({"subscribe": [1]}, "subscribe: an array"),
        ({"publish": ["a*"]}, "no pattern"),
        ({"publish": ["a"] * (MAX_PATTERNS + 1)}, "at most 100"),
        ({"start": ["everything"]}, "none of generate"),
        ({"admin": 1}, "admin: true or false"),
        ({"metrics": None}, "metrics: true or false"),
        ({"namespaces": []}, "namespaces: an object"),
        ({"namespaces": {str(i): {} for i in range(MAX_NAMESPACES + 1)}}, "namespaces: an object"),
        ({"namespaces": {"default": {}}}, "'default' is what"),
        ({"namespaces": {"n": {"admin": True}}}, "no member 'admin'"),
        ({"namespaces": {"n": {"subscribe": {}}}}, "namespaces.n.subscribe"),
    ],
)
def test_a_claim_that_is_not_understood_grants_nothing(claim: object, reason: str) -> None:
    """Nothing is passed over: what is misspelt, too much or of a wrong type refuses the whole."""
    with pytest.raises(GrantError, match=reason):
        parse(claim)
