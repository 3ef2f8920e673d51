"""The small streams of the page: messages, characters, one counter for all tabs, a watched key of Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from redis import Redis

from tests.browser.helpers import open_page, wait_for
from tests.redisserver import RedisServer, redis_server
from tests.stack import Stack, running_stack

SENTENCE = "你好，今天天氣不錯~"  # noqa: RUF001 (as it was typed, with its own comma)


# The numbers that the counter is shown to have, in their order.
REMEMBER = """
    window.numbers = [];
    new MutationObserver(() => {
        const text = document.querySelector("#counter .output").textContent;
        if (text) {
            numbers.push(Number(text.replace("message counter - ", "")));
        }
    }).observe(document.querySelector("#counter .output"), {childList: true});
"""


def card(page: Page, name: str) -> Locator:
    """One of the panel's forms, by the id of it."""
    return page.locator(f"#{name}")


def start(form: Locator) -> None:
    form.get_by_role("button", name="Start").click()


def test_messages_and_their_end(page: Page, shared_stack: Stack) -> None:
    """The messages appear one by one, `[DONE]` last, and then the stream is over and can be started again."""
    open_page(page, shared_stack.nginx.url)
    ticker = card(page, "ticker")
    ticker.get_by_label("Messages", exact=True).fill("3")
    ticker.get_by_label("Seconds").fill("0.1")
    start(ticker)

    expect(ticker.locator(".output p")).to_have_text([f"Message {number} of 3" for number in (1, 2, 3)] + ["[DONE]"])
    expect(ticker.locator("[role=status]")).to_have_text("Ended")
    expect(ticker.get_by_role("button", name="Start")).to_be_enabled()


def test_a_sentence_character_by_character(page: Page, shared_stack: Stack) -> None:
    """A sentence of any script comes back a character at a time, beside other streams."""
    open_page(page, shared_stack.nginx.url)
    card(page, "ticker").get_by_label("Seconds").fill("0.4")
    for name in ("ticker", "counter"):
        start(card(page, name))
    echo = card(page, "echo")
    expect(echo.get_by_label("Sentence")).to_have_value(SENTENCE)
    start(echo)
    wait_for(page, "document.querySelector('#echo .output').childNodes.length === 8")
    expect(echo.locator("[role=status]")).to_have_text("Ended")

    assert page.evaluate("[...document.querySelector('#echo .output').childNodes].map(node => node.data)") == list(
        SENTENCE
    )


def test_two_tabs_see_the_same_counter(page: Page, shared_stack: Stack) -> None:
    """There is one counter, whoever looks: a tab that comes later goes on with the number that the others are shown."""
    other = page.context.new_page()
    seen = {}
    for tab in (page, other):
        open_page(tab, shared_stack.nginx.url)
        tab.evaluate(REMEMBER)
        start(card(tab, "counter"))
        wait_for(tab, "numbers.length > 1")
        seen[tab] = tab.evaluate("numbers")
    # In the background a page is asked only once a second.
    page.bring_to_front()
    wait_for(page, "numbers.includes(argument)", seen[other][-1])

    # Of a counter of its own the other tab would have got the first numbers again.
    assert seen[other][0] >= seen[page][-1]
    assert page.evaluate("numbers.every((number, index) => index === 0 || number === numbers[index - 1] + 1)")


def test_a_key_that_may_not_be_watched(page: Page, shared_stack: Stack) -> None:
    """A key that the settings do not allow is refused in words."""
    open_page(page, shared_stack.nginx.url)
    start(card(page, "watch"))

    expect(card(page, "watch").locator(".problem")).to_contain_text("404")
    expect(card(page, "watch").get_by_role("button", name="Start")).to_be_enabled()


def test_connections_are_left_for_requests(page: Page, shared_stack: Stack) -> None:
    """Over HTTP/1.1 the page opens no more streams than leave a connection to answer on, and says so."""
    open_page(page, shared_stack.nginx.url)
    page.get_by_label("Prompt").fill("word " * 3000)
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#generate-answer")).to_contain_text("word")
    for name in ("ticker", "counter"):
        start(card(page, name))
    card(page, "echo").get_by_label("Sentence").fill(SENTENCE * 10)
    start(card(page, "echo"))
    start(card(page, "watch"))
    expect(card(page, "watch").locator(".problem")).to_contain_text("Too many streams at once")
    page.get_by_role("button", name="Stop", exact=True).first.click()

    expect(page.locator("#generate-state")).to_contain_text("Stopped")


class TestWatch:
    @pytest.fixture
    def redis(self, tmp_path: Path) -> Iterator[RedisServer]:
        with redis_server(tmp_path) as server:
            yield server

    @pytest.fixture
    def stack(self, redis: RedisServer) -> Iterator[Stack]:
        with running_stack(backplane=redis.url, watch_keys=["current_price"], retry=200, drain_seconds=0.5) as stack:
            yield stack

    def test_only_changes_are_shown(self, page: Page, stack: Stack, redis: RedisServer) -> None:
        """The page's address names a key; its value is shown, and each value that differs from the one before."""
        lines = card(page, "watch").locator(".output p")
        with Redis.from_url(redis.url) as client:
            client.set("current_price", 100)
            page.goto(f"{stack.nginx.url}?watch=current_price")
            for count, value in enumerate((100, 102), start=1):
                client.set("current_price", value)
                expect(lines).to_have_count(count)
                expect(lines.last).to_contain_text(str(value))
                # The same again is no news.
                client.set("current_price", value)
            client.delete("current_price")
            expect(lines).to_have_count(3)

        expect(lines.last).to_contain_text("There is no such key.")
