"""The charts of the page: the server's own metrics, drawn, and told in words."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.helpers import open_page, wait_for
from tests.stack import Stack

METRICS = ["streams", "published_per_second", "delivered_per_second", "bytes_per_second", "memory_bytes"]
# A move, and at least one line.
DRAWN = "argument.every(name => /M.*L/.test(document.querySelector(`[data-metric=${name}] .line-of-chart`)?.getAttribute('d')))"
POINTS = "document.querySelector('[data-metric=streams] .line-of-chart')?.getAttribute('d')?.match(/[ML]/g).length"
COLOUR = "getComputedStyle(document.querySelector('{selector}')).{property}.match(/\\d+/g).map(Number)"


def test_charts_are_drawn(page: Page, shared_stack: Stack) -> None:
    """Each metric has a chart with its name, its value and its unit, and a line that grows as time goes."""
    open_page(page, shared_stack.nginx.url)
    for number in range(50):
        shared_stack.publish("charts", number)
    wait_for(page, DRAWN, METRICS)

    expect(page.locator("[data-metric=streams] strong")).to_have_text("1")
    expect(page.locator("[data-metric=memory_bytes] strong")).to_contain_text("MB")
    expect(page.locator("[data-metric=bytes_per_second] strong")).to_contain_text("B/s")
    most = page.locator("[data-metric=published_per_second] .most")
    expect(most).to_contain_text("/s")
    wait_for(page, "parseFloat(document.querySelector('[data-metric=published_per_second] .most').textContent) >= 5")


def test_charts_in_words(page: Page, shared_stack: Stack) -> None:
    """Who does not see the lines has the same in words: at each chart, and as a table."""
    open_page(page, shared_stack.nginx.url)
    page.get_by_text("The charts as a table").click()

    expect(page.get_by_role("img", name="Open streams: now 1, least ")).to_be_visible()
    row = page.locator("#metrics-table tbody tr", has_text="Open streams")
    expect(row.locator("td").first).to_have_text("1")


def test_a_reload_draws_what_was(page: Page, shared_stack: Stack) -> None:
    """A page that is loaded again draws its charts from the minutes before, and does not begin with nothing."""
    open_page(page, shared_stack.nginx.url)
    wait_for(page, f"{POINTS} > 4")
    page.reload()
    wait_for(page, f"{POINTS} > 4")

    # There is one a second, and the page is younger than that.
    assert page.evaluate(f"{POINTS} > performance.now() / 1000 + 1")


def test_lines_stand_out(page: Page, shared_stack: Stack) -> None:
    """A line has a contrast of at least 3 to 1 to its ground, as WCAG 2.2 (1.4.11) asks for, in light and dark."""
    open_page(page, shared_stack.nginx.url)
    page.locator(".line-of-chart").first.wait_for(state="attached")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        stroke = page.evaluate(COLOUR.format(selector=".line-of-chart", property="stroke"))
        ground = page.evaluate(COLOUR.format(selector="#server", property="backgroundColor"))
        light, dark = sorted((luminance(stroke), luminance(ground)), reverse=True)

        assert (light + 0.05) / (dark + 0.05) >= 3, scheme


def luminance(colour: list[float]) -> float:
    """The relative luminance of WCAG 2.2."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (each / 255 for each in colour[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
