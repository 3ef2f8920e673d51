"""The pages of examples/ in Chromium: from another origin, an answer token by token, a job with a progress bar."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.ports import free_port
from tests.service.llm.vendor import Exchange, anthropic_answer, vendor
from tests.stack import running_stack
from tests.test_examples import running

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def origin() -> Iterator[str]:
    """A server of files that has nothing to do with ours."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(EXAMPLES)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_of_another_origin_listens_and_publishes(page: Page, origin: str) -> None:
    """With its origin in the settings a page from elsewhere gets the JSON that anybody publishes, and may publish."""
    with running_stack(cors_origins=[origin]) as stack:
        page.goto(f"{origin}/cross_origin.html?server={stack.nginx.url.rstrip('/')}")
        expect(page.locator("[role=status]")).to_have_text("Connected")
        stack.publish("shop", {"id": 1, "name": "BigBoxCode"})
        expect(page.locator("#list li")).to_have_text(['{"id":1,"name":"BigBoxCode"}'])
        page.get_by_label("JSON").fill('{"id": 2}')
        page.get_by_role("button", name="Publish").click()

        expect(page.locator("#list li")).to_have_text(['{"id":1,"name":"BigBoxCode"}', '{"id":2}'])
        expect(page.locator("[role=status]")).to_contain_text("Published as ")


def test_a_page_whose_origin_is_not_listed_hears_nothing(page: Page, origin: str, errors: list[str]) -> None:
    """The browser keeps the answer from a page that the server does not name, and says so on its console."""
    with running_stack(cors_origins=["https://other.example"]) as stack:
        page.goto(f"{origin}/cross_origin.html?server={stack.nginx.url.rstrip('/')}")
        expect(page.locator("[role=status]")).to_have_text("Connection lost - retrying…")

    assert errors
    assert all("blocked by CORS policy" in error for error in errors)
    errors.clear()


def test_a_job_goes_on_over_a_reload(page: Page) -> None:
    """The bar moves, a page that is loaded again follows the same job, and the answer appears."""
    port = free_port()
    with running("progress_flask", "--bind", f"127.0.0.1:{port}"):
        page.goto(f"http://127.0.0.1:{port}/")
        page.get_by_role("button", name="Start").click()
        expect(page.locator("[role=status]")).to_contain_text("of 100")
        page.reload()

        expect(page.locator("[role=status]")).to_have_text("The answer is 42")
        expect(page.get_by_role("progressbar")).to_have_js_property("value", 100)
        expect(page.get_by_role("button", name="Cancel")).to_be_disabled()


def test_an_answer_appears_token_by_token(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model has said so far is shown while it still thinks; then why it has ended."""
    go_on = threading.Event()
    *begun, last = anthropic_answer("Once", " upon", " a time")[:6]
    rest = anthropic_answer("Once", " upon", " a time")[6:]

    def answer(exchange: Exchange) -> None:
        exchange.head()
        for part in begun:
            exchange.chunk(part)
        assert go_on.wait(20)
        for part in (last, *rest):
            exchange.chunk(part)
        exchange.end()

    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    port = free_port()
    with vendor(answer) as model:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
        with running("llm_flask", "--bind", f"127.0.0.1:{port}"):
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_label("Prompt").fill("A story")
            page.get_by_role("button", name="Ask").click()
            expect(page.locator("#answer")).to_have_text("Once upon")
            go_on.set()

            expect(page.locator("#answer")).to_have_text("Once upon a time")
            expect(page.locator("[role=status]")).to_have_text("end_turn")
        (asked,) = model.requests

    assert asked.body["messages"] == [{"role": "user", "content": "A story"}]
