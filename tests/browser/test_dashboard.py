"""The charts of the page: the server's own metrics, drawn, and told in words."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Screenshot
from tests.browser.helpers import open_page, wait_for
from tests.stack import Stack

METRICS = ["streams", "published_per_second", "delivered_per_second", "bytes_per_second", "memory_bytes"]
# A move, and at least one line.
DRAWN = "argument.every(name => /M.*L/.test(document.querySelector(`[data-metric=${name}] .line-of-chart`)?.getAttribute('d')))"


def test_charts_are_drawn(page: Page, shared_stack: Stack, screenshot: Screenshot) -> None:
    """Each metric has a chart with its name, its value and its unit, and a line that grows as time goes."""
    open_page(page, shared_stack.nginx.url)
    for number in range(50):
        shared_stack.publish("charts", number)
    wait_for(page, DRAWN, METRICS)
    screenshot("server", page.locator("#server"))

    expect(page.locator("[data-metric=streams] strong")).to_have_text("1")
    expect(page.locator("[data-metric=memory_bytes] strong")).to_contain_text("MB")
    expect(page.locator("[data-metric=bytes_per_second] strong")).to_contain_text("B/s")
    most = page.locator("[data-metric=published_per_second] .most")
    expect(most).to_contain_text("/s")
    wait_for(page, "parseFloat(document.querySelector('[data-metric=published_per_second] .most').textContent) >= 5")


def test_charts_in_words(page: Page, shared_stack: Stack) -> None:
    """Who does not see the lines has the same in words: at each chart, and as a table."""
    open_page(page, shared_stack.nginx.url)
    wait_for(page, DRAWN, METRICS)
    page.get_by_text("The charts as a table").click()

    expect(page.get_by_role("img", name="Open streams: now 1, least ")).to_be_visible()
    row = page.locator("#metrics-table tbody tr", has_text="Open streams")
    expect(row.locator("td").first).to_have_text("1")


def test_a_reload_draws_what_was(page: Page, shared_stack: Stack) -> None:
    """A page that is loaded again draws its charts from the minutes before, and does not begin with nothing."""
    open_page(page, shared_stack.nginx.url)
    wait_for(page, DRAWN, METRICS)
    page.reload()
    # Of the first look at the charts, before another beat.
    wait_for(page, DRAWN, METRICS)

    points = page.locator("[data-metric=streams] .line-of-chart").get_attribute("d")
    assert points is not None
    assert points.count("L") >= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_stand_out(browser: Browser, shared_stack: Stack, scheme: str) -> None:
    """A line has a contrast of at least 3 to 1 to its ground, as WCAG 2.2 (1.4.11) asks for, in light and dark."""
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    open_page(page, shared_stack.nginx.url)
    line = page.locator(".line-of-chart").first
    line.wait_for(state="attached")
    stroke = line.evaluate("line => getComputedStyle(line).stroke.match(/\\d+/g).map(Number)")
    ground = page.locator("#server").evaluate(
        "section => getComputedStyle(section).backgroundColor.match(/\\d+/g).map(Number)"
    )
    light, dark = sorted((luminance(stroke), luminance(ground)), reverse=True)

    assert (light + 0.05) / (dark + 0.05) >= 3
    context.close()


def luminance(colour: list[float]) -> float:
    """The relative luminance of WCAG 2.2."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (each / 255 for each in colour[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
