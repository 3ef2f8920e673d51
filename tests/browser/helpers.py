"""What a test asks of the page."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page


def wait_for(page: Page, condition: str, argument: object = None) -> None:
    """Wait until an expression in JavaScript holds in the page, where ``argument`` is known as such."""
    # As a function: the page's content security policy forbids to evaluate text, which an expression would need.
    page.wait_for_function(f"argument => {condition}", arg=argument)


def open_page(page: Page, url: str) -> None:
    """Open the page and wait until it is live."""
    page.goto(url)
    wait_for(page, "window.sseKit?.status.state === 'live'")


def received(page: Page, topic: str = "demo") -> list[Any]:
    """Return the data of the events of a topic that the page has received, parsed, in their order."""
    found: list[Any] = page.evaluate(
        "topic => sseKit.received.filter(event => event.topic === topic).map(event => JSON.parse(event.data))", topic
    )
    return found


def wait_for_last(page: Page, data: object) -> None:
    """Wait until the newest event of the page's own topic has this data."""
    wait_for(page, "sseKit.received.findLast(event => event.topic === 'demo')?.data === argument", str(data))
