"""Jobs in the page: a file is sent, its progress is seen, a reload goes on with it, and it can be cancelled."""

from __future__ import annotations

import hashlib

from playwright.sync_api import FilePayload, Page, expect

from tests.browser.helpers import open_page, wait_for
from tests.stack import Stack

TEXT = b"".join(b"%06d a line of the file\n" % number for number in range(40_000))
BAR = "document.querySelector('#job-bar')"
MIDDLE = f"{BAR}.value > 0.2 * {BAR}.max && {BAR}.value < {BAR}.max && {BAR}.max === argument"


def start(page: Page, content: bytes) -> None:
    file = FilePayload(name="größe 1.txt", mimeType="text/plain", buffer=content)
    page.get_by_label("File", exact=True).set_input_files(file)
    page.locator("#job-start").click()


def expect_result(page: Page) -> None:
    expect(page.locator("#job-phase")).to_have_text("Finished")
    expect(page.locator("#job-result dd")).to_have_text(
        ["größe 1.txt", "1 MB", "40,000", hashlib.sha256(TEXT).hexdigest()]
    )
    assert page.evaluate(f"{BAR}.value === {BAR}.max")
    expect(page.locator("#job-cancel")).to_be_disabled()


def test_the_bar_moves_to_its_end(page: Page, shared_stack: Stack) -> None:
    """A job shows how far it is and how fast, and then its result."""
    open_page(page, shared_stack.nginx.url)
    start(page, TEXT)
    wait_for(page, MIDDLE, len(TEXT))
    expect(page.locator("#job-state")).to_contain_text("MB/s")

    expect_result(page)


def test_a_reload_goes_on_with_the_job(page: Page, shared_stack: Stack) -> None:
    """A page that is loaded again in the middle of a job shows the result of the same job, and starts no other."""
    started: list[str] = []
    page.on("request", lambda request: started.append(request.url) if request.method == "POST" else None)
    open_page(page, shared_stack.nginx.url)
    start(page, TEXT)
    wait_for(page, MIDDLE, len(TEXT))
    page.reload()

    expect_result(page)
    assert len(started) == 1


def test_cancel(page: Page, shared_stack: Stack) -> None:
    """The cancel button ends the job on the server, and another can be started."""
    open_page(page, shared_stack.nginx.url)
    start(page, TEXT)
    wait_for(page, MIDDLE, len(TEXT))
    page.get_by_role("button", name="Cancel").click()

    expect(page.locator("#job-phase")).to_have_text("Stopped")
    assert page.evaluate(f"{BAR}.value < {BAR}.max")
    expect(page.locator("#job-result dd")).to_have_count(0)
    expect(page.locator("#job-start")).to_be_enabled()


def test_a_file_that_is_too_large(page: Page, shared_stack: Stack) -> None:
    """A file that the service does not take is refused in words that say how much it takes."""
    open_page(page, shared_stack.nginx.url)
    start(page, TEXT * 2)

    expect(page.locator("#job-phase")).to_have_text("Not sent")
    expect(page.locator("#job-state .problem")).to_contain_text("2000000")
