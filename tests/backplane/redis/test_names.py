"""Keys and channels of a namespace."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from sse_core.backplane.redis.names import Names, check_namespace
from sse_core.errors import ConfigurationError


def test_names_are_those_that_the_document_lists() -> None:
    """Other programs and an operator's redis-cli find keys and channels by these very names."""
    names = Names("shop.eu-1")

    assert names.clock == b"{shop.eu-1}:clock"
    assert names.keys == b"{shop.eu-1}:keys"
    assert names.keys_old == b"{shop.eu-1}:keys:old"
    assert names.batches == b"{shop.eu-1}:batches"
    assert names.batches_old == b"{shop.eu-1}:batches:old"
    assert names.workers == b"{shop.eu-1}:workers"
    assert names.beat == b"{shop.eu-1}:beat"
    assert names.topic("orders") == b"{shop.eu-1}:topic:orders"
    assert names.tail("orders") == b"{shop.eu-1}:tail:orders"
    assert names.live("orders") == b"{shop.eu-1}:live:orders"
    assert names.lease("tail/log") == b"{shop.eu-1}:lease:tail/log"
    assert names.worker("w1") == b"{shop.eu-1}:worker:w1"
    assert names.present("w1") == b"{shop.eu-1}:present:w1"


def test_a_namespace_lies_in_one_slot() -> None:
    """Whatever a topic is called, its keys and channels have the namespace's hash tag: one script may touch them all."""
    names = Names("n")
    topics = ["a", "{b}", "}{", "ü {n2}:clock"]
    every = [names.clock, names.keys, names.keys_old, names.batches, names.batches_old]
    every += [names.workers, names.beat]
    every += [name(topic) for topic in topics for name in (names.topic, names.tail, names.live, names.lease)]

    assert {key_slot(key) for key in every} == {key_slot(b"n")}


def test_a_channel_leads_back_to_its_topic() -> None:
    """A message says which topic it is of by its channel."""
    names = Names("n")

    assert names.topic_of(names.live("ü: {x}")) == "ü: {x}"
    assert names.topic_of(names.beat) is None
    assert names.topic_of(Names("m").live("a")) is None


@pytest.mark.parametrize("name", ["a", "A-z_0.9", "x" * 64])
def test_a_namespace_is_plain_text(name: str) -> None:
    """Letters, digits and three signs, up to 64 of them."""
    assert check_namespace(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a}", "{a", "ü", "a:b", "a\n", None, 7])
def test_what_would_break_the_hash_tag_is_refused(name: object) -> None:
    """A brace or a colon in it would put keys into other slots, or among another namespace's."""
    with pytest.raises(ConfigurationError, match="namespace"):
        check_namespace(name)
