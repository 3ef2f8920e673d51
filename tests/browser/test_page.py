"""The page in a real browser, through nginx, from the service."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.helpers import open_page, received, wait_for, wait_for_last
from tests.ports import free_port
from tests.stack import Stack, running_stack

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class TestEvents:
    def test_published_events_arrive(self, page: Page, stack: Stack) -> None:
        """What is published appears in the page, with its id, in order."""
        open_page(page, stack.nginx.url)
        ids = [stack.publish("demo", number) for number in range(20)]
        wait_for_last(page, 19)

        assert received(page) == list(range(20))
        # The page draws with the next frame, which may be a moment after the event.
        expect(page.locator("#events-list .id")).to_have_text(ids)

    def test_what_is_left_is_shown_first(self, page: Page, stack: Stack) -> None:
        """A page that is opened later shows what was published before."""
        for number in range(3):
            stack.publish("demo", number)
        open_page(page, stack.nginx.url)
        wait_for_last(page, 2)

        assert received(page) == [0, 1, 2]

    def test_markup_is_text(self, page: Page, stack: Stack) -> None:
        """Whatever an event contains is shown as it is and never becomes part of the page."""
        open_page(page, stack.nginx.url)
        hostile = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
        stack.publish("demo", hostile)

        expect(page.locator("#events-list pre")).to_have_text(hostile)
        expect(page.locator("#events-list img, #events-list script")).to_have_count(0)
        expect(page).to_have_title("sse-kit")

    def test_other_event_names_are_heard_when_asked_for(self, page: Page, stack: Stack) -> None:
        """An event of another name is shown if the page's address names it."""
        open_page(page, f"{stack.nginx.url}?event=progress")
        stack.publish("demo", 50, event="progress")

        expect(page.locator("#events-list .name")).to_have_text("progress")

    def test_the_list_is_bounded(self, page: Page, stack: Stack) -> None:
        """A page that stays open for days shows the newest events and keeps no more of them in its document."""
        open_page(page, stack.nginx.url)
        for number in range(520):
            stack.publish("demo", number)
        wait_for_last(page, 519)

        expect(page.locator("#events-list > li")).to_have_count(500)
        expect(page.locator("#events-list > li pre").last).to_have_text("519")


class TestServer:
    def test_the_access_log_is_live(self, page: Page, stack: Stack) -> None:
        """A request through nginx appears in the page as a line of nginx's own log."""
        open_page(page, stack.nginx.url)
        stack.publish("demo", 1)

        line = page.locator("#log-list li", has_text="POST /publish").first
        expect(line.locator(".status")).to_have_text("200")

    def test_the_counters_move(self, page: Page, stack: Stack) -> None:
        """The server's counters are shown as figures and follow what happens."""
        open_page(page, stack.nginx.url)
        figure = page.locator("#figures div", has_text="open streams").locator("dd")
        expect(figure).to_have_text("1")
        second = page.context.new_page()
        open_page(second, stack.nginx.url)

        expect(figure).to_have_text("2")

    def test_without_a_log(self, page: Page) -> None:
        """Where the service shows no log the page says so, and the rest of it works."""
        with running_stack() as stack:
            open_page(page, f"{stack.nginx.url}?log=other")
            stack.publish("demo", 1)
            wait_for_last(page, 1)

            expect(page.locator("#log-note")).to_contain_text("'other'")


class TestForm:
    def test_text(self, page: Page, stack: Stack) -> None:
        """The form publishes, shows the receipt, and the event comes back on the stream under the same id."""
        open_page(page, stack.nginx.url)
        page.get_by_label("Data", exact=True).fill("two\nlines")
        page.get_by_role("button", name="Publish", exact=True).click()
        page.locator(".receipt").wait_for()

        expect(page.locator("#events-list pre")).to_have_text("two\nlines")
        assert page.locator(".receipt code").inner_text() == page.locator("#events-list .id").inner_text()

    def test_json_with_a_name(self, page: Page, stack: Stack) -> None:
        """JSON is published digit for digit, under a name that the page then listens for."""
        open_page(page, stack.nginx.url)
        page.get_by_label("Event name").fill("progress")
        page.get_by_label("JSON").check()
        page.get_by_label("Data", exact=True).fill('{"n": 12345678901234567890}')
        page.get_by_role("button", name="Publish", exact=True).click()

        expect(page.locator("#events-list .name")).to_have_text("progress")
        expect(page.locator("#events-list pre")).to_have_text('{"n":12345678901234567890}')

    def test_a_refusal_is_shown(self, page: Page, stack: Stack) -> None:
        """Bad input is answered by the service, and its problem document is shown in words."""
        open_page(page, stack.nginx.url)
        page.get_by_label("Topic").fill("")
        page.get_by_role("button", name="Publish", exact=True).click()

        problem = page.locator(".problem")
        expect(problem.locator("strong")).to_contain_text("422")
        expect(problem).to_contain_text("field: topic")

    def test_broken_json_is_not_sent(self, page: Page, stack: Stack) -> None:
        """What is no JSON is told at the field."""
        open_page(page, stack.nginx.url)
        page.get_by_label("JSON").check()
        page.get_by_label("Data", exact=True).fill("{")
        page.get_by_role("button", name="Publish", exact=True).click()

        wait_for(page, "document.querySelector('#publish-data').validationMessage === 'This is no JSON.'")
        assert page.locator("#answer").inner_text() == ""

    def test_another_topic(self, page: Page, stack: Stack) -> None:
        """A page that does not hear what it has published says so."""
        open_page(page, stack.nginx.url)
        page.get_by_label("Topic").fill("other")
        page.get_by_role("button", name="Publish", exact=True).click()

        expect(page.get_by_role("link", name="listen to it")).to_have_attribute("href", "?topic=other")


class TestLayout:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone(self, browser: Browser, stack: Stack, scheme: str) -> None:
        """At 360 pixels nothing is wider than the screen, whatever events contain, in light and dark."""
        context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        open_page(page, stack.nginx.url)
        stack.publish("demo", "w" * 3000)
        page.goto(f"{stack.nginx.url}?{'q' * 300}")
        closed = page.locator("h2 button[aria-expanded=false]")
        while closed.count():
            closed.first.click()
        page.locator("#events-list pre").wait_for()
        page.locator("#log-list li", has_text="qqqq").first.wait_for()
        page.get_by_label("Topic").fill("t" * 300)
        page.get_by_role("button", name="Publish", exact=True).click()
        page.locator(".problem").wait_for()
        for summary in page.locator("summary").all():
            summary.click()

        assert page.evaluate(OVERFLOW) == 0
        context.close()

    def test_dark_is_dark(self, browser: Browser, stack: Stack) -> None:
        """The page follows the system's choice of colours."""
        grounds = {}
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme)
            page = context.new_page()
            page.goto(stack.nginx.url)
            colour = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
            grounds[scheme] = sum(colour)
            context.close()

        assert grounds["dark"] < 150 < 600 < grounds["light"]

    def test_sections_close(self, page: Page, stack: Stack) -> None:
        """A section is closed and opened by the keyboard alone, stays so over a reload, and opens for a link to it."""
        open_page(page, stack.nginx.url)
        toggle = page.get_by_role("button", name="Publish an event")
        expect(toggle).to_have_attribute("aria-expanded", "true")
        toggle.press("Enter")
        expect(page.get_by_label("Topic")).to_be_hidden()
        page.get_by_role("button", name="Access log").press(" ")
        page.reload()

        expect(toggle).to_have_attribute("aria-expanded", "false")
        expect(page.get_by_label("Topic")).to_be_hidden()
        page.get_by_role("link", name="Log").click()
        expect(page.locator("#log-list")).to_be_visible()
        toggle.press("Enter")
        expect(page.get_by_label("Topic")).to_be_visible()

    def test_a_phone_begins_with_little(self, browser: Browser, stack: Stack) -> None:
        """On a phone the first sections are open, and of the others the headings are seen."""
        context = browser.new_context(viewport={"width": 360, "height": 740})
        page = context.new_page()
        open_page(page, stack.nginx.url)

        expect(page.locator("h2 button[aria-expanded=true]")).to_have_text(["Publish an event", "Events"])
        expect(page.locator("h2 button[aria-expanded=false]")).to_have_count(5)
        expect(page.locator("#charts")).to_be_hidden()
        context.close()


class TestEnds:
    def test_a_final_refusal_is_told_with_its_reason(self, page: Page, stack: Stack) -> None:
        """A stream that the service refuses for good is shown as ended, and why."""
        page.goto(f"{stack.nginx.url}?topic=server/nothing")

        expect(page.locator("#state")).to_have_text("Ended")
        expect(page.locator("#reason")).to_contain_text("400")
        expect(page.locator("#reason")).to_contain_text("server/nothing")
        expect(page.get_by_role("button", name="Connect again")).to_be_visible()


def test_many_tabs_over_http_2(context: BrowserContext, tmp_path: Path) -> None:
    """Over TLS the browser speaks HTTP/2, and more tabs than HTTP/1.1's six connections are live at once."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(files[0])
    certificate.private_key_pem.write_to_path(files[1])
    port = free_port()
    with running_stack(tls=(f"127.0.0.1:{port}", *files)) as stack:
        tabs = [context.new_page() for _ in range(8)]
        for tab in tabs:
            open_page(tab, f"https://127.0.0.1:{port}/")
        stack.publish("demo", 1)
        for tab in tabs:
            wait_for_last(tab, 1)

        protocol = tabs[0].evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        assert protocol == "h2"
