"""Answers of a language model in the page: they appear token by token, survive a reload, and stop when told so."""

from __future__ import annotations

import json

from playwright.sync_api import Page, Route, expect

from tests.browser.helpers import open_page, wait_for
from tests.browser.proxy import Proxy
from tests.stack import Stack

WORDS = " ".join(f"word-{number}" for number in range(40))
# A minute of them.
LONG = " ".join(f"word-{number}" for number in range(3000))
ANSWER = "document.querySelector('#generate-answer')"
SOME = f"{ANSWER}.textContent.split(' ').length > argument"


def generate(page: Page, prompt: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Generate", exact=True).click()


def test_tokens_appear_as_they_come(page: Page, shared_stack: Stack) -> None:
    """An answer is shown while it is being made, and then says how it ended and what it took."""
    open_page(page, shared_stack.nginx.url)
    generate(page, WORDS)
    wait_for(page, f"{SOME} && {ANSWER}.ariaBusy === 'true'", 5)
    expect(page.get_by_role("button", name="Generate", exact=True)).to_be_disabled()
    expect(page.locator("#generate-state")).to_contain_text("Finished (stop) · 40 tokens in, 40 out")

    assert page.locator("#generate-answer").text_content() == WORDS
    expect(page.locator("#generate-answer")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#generate-stop")).to_be_disabled()


def test_a_reload_goes_on_with_the_same_answer(page: Page, shared_stack: Stack) -> None:
    """A page that is loaded again in the middle of an answer shows it from its start and goes on, each token once."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/generate") else None)
    open_page(page, shared_stack.nginx.url)
    generate(page, LONG)
    wait_for(page, SOME, 5)
    before = page.evaluate(f"{ANSWER}.textContent.split(' ').length")
    page.reload()
    wait_for(page, f"{ANSWER} !== null && {SOME}", before + 20)
    expect(page.get_by_label("Prompt")).to_have_value(LONG)
    page.locator("#generate-stop").click()
    expect(page.locator("#generate-state")).to_contain_text("Stopped")

    assert LONG.startswith(page.locator("#generate-answer").text_content() or "nothing")
    assert len(asked) == 1


def test_a_cut_connection_loses_and_repeats_no_token(page: Page, shared_stack: Stack) -> None:
    """A browser whose connections are cut in the middle of an answer goes on with it by itself."""
    with Proxy(shared_stack.nginx.port) as proxy:
        open_page(page, f"http://127.0.0.1:{proxy.port}/")
        generate(page, LONG)
        for _ in range(2):
            before = page.evaluate(f"{ANSWER}.textContent.split(' ').length")
            wait_for(page, SOME, before + 10)
            assert proxy.cut() > 1
        before = page.evaluate(f"{ANSWER}.textContent.split(' ').length")
        wait_for(page, SOME, before + 10)
        page.locator("#generate-stop").click()
        expect(page.locator("#generate-state")).to_contain_text("Stopped")

        assert LONG.startswith(page.locator("#generate-answer").text_content() or "nothing")


def test_stop_stops(page: Page, shared_stack: Stack) -> None:
    """The stop button ends the answer where it is, for everybody, and nothing follows."""
    open_page(page, shared_stack.nginx.url)
    expect(page.locator("#generate-stop")).to_be_disabled()
    generate(page, LONG)
    wait_for(page, SOME, 3)
    page.locator("#generate-stop").click()
    expect(page.locator("#generate-state")).to_contain_text("Stopped")
    run = page.evaluate("JSON.parse(sessionStorage['sse-kit.generate']).run")

    assert len(page.locator("#generate-answer").text_content() or "") < len(LONG) / 2
    assert json.loads(shared_stack.service.request("POST", f"/runs/{run}/stop").body) == {"stopped": False}
    expect(page.locator("#generate-stop")).to_be_disabled()


def test_an_answer_can_be_watched_from_elsewhere(page: Page, shared_stack: Stack) -> None:
    """Another tab with the answer's address shows the same answer, also when it is over."""
    open_page(page, shared_stack.nginx.url)
    generate(page, "one two three")
    expect(page.locator("#generate-state")).to_contain_text("Finished")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="the same answer").click()
    other = opened.value

    expect(other.locator("#generate-answer")).to_have_text("one two three")
    expect(other.locator("#generate-state")).to_contain_text("Finished")


def test_an_answer_that_fails(page: Page, shared_stack: Stack) -> None:
    """What went wrong is told in the failure's own words, as text; what had come until then stays."""
    events = [("message", {"token": "so far"}), ("failed", {"reason": "upstream", "message": "<b>No</b> more money."})]
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)

    def fulfill(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body=body)

    page.route("**/runs/*", fulfill)
    open_page(page, shared_stack.nginx.url)
    generate(page, "anything")

    expect(page.locator("#generate-state")).to_contain_text("Failed · <b>No</b> more money.")
    expect(page.locator("#generate-answer")).to_have_text("so far")
    expect(page.get_by_role("button", name="Generate", exact=True)).to_be_enabled()


def test_a_refused_prompt(page: Page, shared_stack: Stack) -> None:
    """A prompt that the service refuses is told in the words of its problem document, and another can be tried."""
    open_page(page, shared_stack.nginx.url)
    generate(page, " ")

    expect(page.locator("#generate-state .problem")).to_contain_text("field: prompt")
    expect(page.get_by_role("button", name="Generate", exact=True)).to_be_enabled()


def test_an_answer_that_nobody_knows(page: Page, shared_stack: Stack) -> None:
    """An address with an answer that was never given, or is forgotten, says so."""
    open_page(page, f"{shared_stack.nginx.url}?generate=nobody-has-asked-it-0")

    expect(page.locator("#generate-state")).to_have_text("The server does not know it, or not any more.")
