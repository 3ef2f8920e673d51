"""A service that asks for tokens, in the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.helpers import wait_for
from tests.stack import Stack, running_stack

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(tokens={"ada": TOKEN}, echo_interval=0.01) as stack:
        yield stack


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_sign_in_and_out(page: Page, stack: Stack) -> None:
    """A page that is refused asks for a token, is live once it has one, stays so over a reload, and forgets it when told to."""
    page.goto(stack.nginx.url)
    expect(page.locator("#reason")).to_contain_text("401")
    expect(page.get_by_label("Token")).to_be_focused()
    sign_in(page, "not-the-token-of-anybody-at-all!")
    expect(page.locator("#sign-in-answer")).to_contain_text("401")
    sign_in(page, TOKEN)
    expect(page.locator("#state")).to_have_text("Live")
    expect(page.locator("#sign-in")).to_be_hidden()

    page.reload()
    expect(page.locator("#state")).to_have_text("Live")
    page.get_by_role("button", name="Sign out ada").click()
    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Ended")


def test_no_script_can_read_the_session(page: Page, stack: Stack) -> None:
    """The session is a cookie that scripts do not see, and the token is kept nowhere."""
    page.goto(stack.nginx.url)
    sign_in(page, TOKEN)
    expect(page.locator("#state")).to_have_text("Live")

    assert page.evaluate("document.cookie") == ""
    assert TOKEN not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert page.get_by_label("Token").input_value() == ""


def test_what_changes_something_works_with_the_session(page: Page, stack: Stack) -> None:
    """Who is signed in can publish, and generate and listen to the answer."""
    page.goto(stack.nginx.url)
    sign_in(page, TOKEN)
    expect(page.locator("#state")).to_have_text("Live")
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.locator("#events-list pre").last).to_have_text("hello")
    page.get_by_label("Prompt").fill("one two three")
    page.get_by_role("button", name="Generate", exact=True).click()

    expect(page.locator("#generate-answer")).to_have_text("one two three")
    wait_for(page, "document.querySelector('#generate-state').textContent.startsWith('Finished')")
