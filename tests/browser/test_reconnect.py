"""A browser that loses its connection: what it gets afterwards, and what the page says meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.helpers import open_page, received, wait_for, wait_for_last
from tests.browser.proxy import Proxy
from tests.stack import Stack

RETRYING = "sseKit.status.state === 'retrying'"
LIVE = "sseKit.status.state === 'live'"


class Publisher:
    """Publishes 0, 1, 2, ... on ``demo`` without a pause, in a thread, until `stop`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stop = threading.Event()
        self._published = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.005):
                self._stack.publish("demo", self._published)
                self._published += 1
        except BaseException as error:
            self._failure = error

    def stop(self) -> int:
        """Stop and return how many were published."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._published


@pytest.fixture
def proxy(stack: Stack) -> Iterator[Proxy]:
    with Proxy(stack.nginx.port) as proxy:
        yield proxy


def test_a_cut_connection_loses_and_repeats_nothing(page: Page, stack: Stack, proxy: Proxy) -> None:
    """However often its connection is cut, the browser resumes by itself, and gets each event once and in order."""
    open_page(page, f"http://127.0.0.1:{proxy.port}/")
    publisher = Publisher(stack)
    try:
        for _ in range(5):
            before = len(received(page))
            wait_for(page, "sseKit.received.filter(event => event.topic === 'demo').length > argument", before + 10)
            breaks = page.evaluate("sseKit.states.filter(state => state === 'retrying').length")
            assert proxy.cut() > 0
            # The state may have passed when it is asked for, but not its trace.
            wait_for(page, "sseKit.states.filter(state => state === 'retrying').length > argument", breaks)
            wait_for(page, LIVE)
    finally:
        published = publisher.stop()
    wait_for_last(page, published - 1)

    assert received(page) == list(range(published))
    assert page.evaluate("sseKit.gaps") == []
    expect(page.locator("#gap")).to_be_hidden()


def test_a_service_that_is_away_for_ten_seconds(page: Page, stack: Stack) -> None:
    """The browser outlasts a service that is down behind nginx, is told what it missed, and misses nothing afterwards."""
    open_page(page, stack.nginx.url)
    for number in range(10):
        stack.publish("demo", f"before {number}")
    wait_for(page, "sseKit.received.filter(event => event.topic === 'demo').length === 10")

    stack.service.stop()
    wait_for(page, RETRYING)
    expect(page.locator("#state")).to_have_text("Connection lost")
    expect(page.locator("#countdown")).to_contain_text("without connection for")
    wait_for(page, "Date.now() - sseKit.status.lostAt >= 10_000")
    stack.service.start()
    for number in range(100):
        stack.publish("demo", number)
    wait_for_last(page, 99)

    states = page.evaluate("sseKit.states")
    assert "ended" not in states
    # Softly sent away by nginx meanwhile: an answer, no event, the end.
    assert ["retrying", "open", "retrying"] in [states[at : at + 3] for at in range(len(states))]
    gaps = page.evaluate("sseKit.gaps")
    assert [gap["reason"] for gap in gaps if gap["topic"] == "demo"] == ["restart"]
    assert page.evaluate(
        "sseKit.received.filter(event => event.topic === 'demo' && !event.data.startsWith('before')).map(event => +event.data)"
    ) == list(range(100))
    expect(page.locator("#gap-text")).to_contain_text("Gap in demo (restart)")
    expect(page.locator("#state")).to_have_text("Live")


def test_a_worker_that_is_killed(page: Page, stack: Stack) -> None:
    """A worker that dies at once, without a word to anybody, costs the browser what it had not seen, and it is told so."""
    open_page(page, stack.nginx.url)
    stack.publish("demo", 0)
    wait_for_last(page, 0)
    (worker,) = Path(f"/proc/{stack.service.pid}/task/{stack.service.pid}/children").read_text().split()
    booted = len(stack.service.log)
    os.kill(int(worker), signal.SIGKILL)
    stack.service.wait_for_log("Booting worker", after=booted)
    wait_for(page, "sseKit.gaps.some(gap => gap.topic === 'demo' && gap.reason === 'restart')")
    stack.publish("demo", 1)
    wait_for_last(page, 1)

    assert received(page) == [0, 1]


def test_nginx_is_away(page: Page, stack: Stack) -> None:
    """A restarted nginx costs the page nothing: the service has kept what was published, and the browser resumes."""
    open_page(page, stack.nginx.url)
    stack.publish("demo", 0)
    wait_for_last(page, 0)
    stack.nginx.stop()
    wait_for(page, RETRYING)
    stack.nginx.start()
    for number in range(1, 50):
        stack.publish("demo", number)
    wait_for_last(page, 49)

    assert received(page) == list(range(50))
    assert page.evaluate("sseKit.gaps") == []
    # The log says where lines may have been late.
    notes = page.locator("#log-list .gap")
    expect(notes).to_contain_text(["Connection lost - retrying…", "Connected again."])
    expect(notes.locator("time").first).to_contain_text(":")


def test_the_user_sees_when_the_gap_was_seen(page: Page, stack: Stack) -> None:
    """A gap stays on the page until the user has taken note of it, whatever else arrives."""
    open_page(page, stack.nginx.url)
    stack.publish("demo", 0)
    wait_for_last(page, 0)
    stack.service.stop()
    stack.service.start()
    stack.publish("demo", 1)
    wait_for_last(page, 1)

    expect(page.locator("#gap")).to_be_visible()
    expect(page.locator("#events-list .gap")).to_contain_text("restart")
    page.get_by_role("button", name="Understood").click()
    expect(page.locator("#gap")).to_be_hidden()
