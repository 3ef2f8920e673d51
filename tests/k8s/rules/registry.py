"""Where rules are kept: each takes manifests and yields what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scripts.check_kubernetes import Object

Rule = Callable[[list[Object]], list[str]]
RULES: dict[str, Rule] = {}


def rule(function: Callable[[list[Object]], Iterator[str]]) -> Rule:
    """Add a generator of faults to the rules."""

    def collect(objects: list[Object]) -> list[str]:
        return list(function(objects))

    assert function.__name__ not in RULES
    RULES[function.__name__] = collect
    return collect
