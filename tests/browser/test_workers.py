"""The page of a service with several workers on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.helpers import open_page, wait_for_last
from tests.redisserver import RedisServer, redis_server
from tests.stack import Stack, running_stack

TIMEOUT_MS = 20_000


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def stack(redis: RedisServer) -> Iterator[Stack]:
    """nginx, two workers, and what joins them."""
    with running_stack(backplane=redis.url, workers=2, backplane_timeout=0.5, retry=200, drain_seconds=0.5) as stack:
        yield stack


def test_all_workers_are_one(page: Page, stack: Stack) -> None:
    """The page shows each worker and what they do together, whichever of them it is connected to."""
    open_page(page, stack.nginx.url)
    expect(page.locator("#workers tbody tr")).to_have_count(2)
    figure = page.locator("#figures div", has_text="open streams").locator("dd")
    expect(figure).to_have_text("1")
    # A browser has six connections to a host, and the page needs one to ask.
    tabs = [page.context.new_page() for _ in range(4)]
    for tab in tabs:
        open_page(tab, stack.nginx.url)
    stack.publish("demo", 1)
    for tab in tabs:
        wait_for_last(tab, 1)

    expect(figure).to_have_text("5")
    expect(page.locator("#figures div", has_text="workers").locator("dd")).to_have_text("2")
    # Processes report to each other every few seconds.
    expect(page.locator("#audience")).to_have_text("5 streams listen to demo", timeout=TIMEOUT_MS)


def test_while_redis_is_away(page: Page, stack: Stack, redis: RedisServer) -> None:
    """The page stays connected, and says that its figures are old and that nobody knows who listens."""
    open_page(page, stack.nginx.url)
    expect(page.locator("#audience")).to_have_text("1 stream listens to demo")
    redis.pause()
    expect(page.locator("#server-time")).to_contain_text("no figures since", timeout=TIMEOUT_MS)
    expect(page.locator("#audience")).to_have_text("How many listen is not known now.")
    expect(page.locator("#state")).to_have_text("Live")
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.locator(".problem")).to_contain_text("repeat the request with the same id")
    redis.resume()

    expect(page.locator("#server-time")).not_to_contain_text("no figures since", timeout=TIMEOUT_MS)
    expect(page.locator("#audience")).to_have_text("1 stream listens to demo", timeout=TIMEOUT_MS)


def test_whom_it_is_not_told(page: Page, stack: Stack) -> None:
    """Where the numbers of listeners are for operators only the page leaves them out."""
    page.route("**/topics/**", lambda route: route.fulfill(status=403, content_type="text/plain", body="no"))
    open_page(page, stack.nginx.url)
    expect(page.locator("#workers tbody tr")).to_have_count(2)

    expect(page.locator("#audience")).to_be_hidden()
