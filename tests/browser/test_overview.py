"""All of the page at once."""

from __future__ import annotations

from playwright.sync_api import FilePayload, Page, expect

from tests.browser.conftest import Screenshot
from tests.browser.helpers import open_page, wait_for
from tests.stack import Stack

PROMPT = "Why does a stream of events cost no thread? " * 3


def test_everything_at_once(page: Page, shared_stack: Stack, screenshot: Screenshot) -> None:
    """An answer, a job, two small streams, charts, log and events come at the same time, over HTTP/1.1."""
    open_page(page, shared_stack.nginx.url)
    # From the top to the small streams.
    page.set_viewport_size({"width": 1080, "height": 1310})
    page.locator("#echo button").click()
    expect(page.locator("#echo [role=status]")).to_have_text("Ended")
    page.locator("#ticker").get_by_label("Seconds").fill("0.3")
    for name in ("counter", "ticker"):
        page.locator(f"#{name} button").click()
    file = FilePayload(name="access.log", mimeType="text/plain", buffer=b"a line of a log\n" * 120_000)
    page.get_by_label("File", exact=True).set_input_files(file)
    page.locator("#job-start").click()
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_role("button", name="Generate", exact=True).click()
    for order in (17, 18, 19):
        shared_stack.publish("demo", {"order": order, "state": "paid", "total": "19.90"})
    wait_for(page, "document.querySelector('#generate-answer').textContent.length > argument", len(PROMPT) / 2)
    screenshot("page", page)

    expect(page.locator("#events-list pre").last).to_contain_text('"order":19')
    expect(page.locator("#log-list li", has_text="POST /generate").last).to_be_visible()
    expect(page.locator("#counter .output")).to_contain_text("message counter - ")
    expect(page.locator("#generate-state")).to_contain_text("Finished")
    expect(page.locator("#job-result dd").nth(2)).to_have_text("120,000")
    expect(page.locator("#ticker .output p").last).to_have_text("[DONE]")
    wait_for(page, "document.querySelector('.line-of-chart')?.getAttribute('d')?.includes('L')")
    page.emulate_media(color_scheme="dark")
    screenshot("server", page.locator("#server"))
