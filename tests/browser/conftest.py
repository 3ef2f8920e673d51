from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

from tests.stack import Stack, running_stack

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 30_000
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

Screenshot = Callable[[str, Page | Locator], None]

# A word of an answer each 20 ms, a megabyte of a job in a second.
SHARED = {
    "retry": 200,
    "drain_seconds": 0.5,
    "echo_interval": 0.02,
    "job_bytes_per_second": 1_000_000,
    "max_upload_bytes": 2_000_000,
    "stats_interval": 0.5,
    "demo_counter_interval": 0.2,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots", action="store_true", help="write docs/images/ (only with tests/browser on the command line)"
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        assert path is not None, "chromium is not installed; make test installs it"
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(TIMEOUT_MS)
    yield context
    context.close()


@pytest.fixture
def errors() -> list[str]:
    """What scripts and the content security policy complained about; the requests a test expects to fail are not here."""
    return []


@pytest.fixture
def page(context: BrowserContext, errors: list[str]) -> Iterator[Page]:
    """An empty page, whose scripts must not fail."""
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            errors.append(message.text)
            if message.type == "error" and not message.text.startswith("Failed to load resource")
            else None
        ),
    )
    yield page
    assert errors == []


@pytest.fixture
def screenshot(request: pytest.FixtureRequest) -> Screenshot:
    """Write what ``locator`` (or the whole page) shows into docs/images/NAME.png, if the command line asks for it."""
    # Without tests/browser on the command line the option is not known.
    wanted = request.config.getoption("--screenshots", default=False)

    def take(name: str, shown: Page | Locator) -> None:
        if wanted:
            IMAGES.mkdir(exist_ok=True)
            shown.screenshot(path=IMAGES / f"{name}.png", animations="disabled")

    return take


@pytest.fixture(scope="session")
def shared_stack() -> Iterator[Stack]:
    """One for all tests that neither stop it nor mind what others have published; what it shows is quick, yet to be seen."""
    with running_stack(**SHARED) as stack:
        yield stack


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Service and nginx; a broken stream is opened again after 200 ms, and a drain takes little time."""
    with running_stack(retry=200, drain_seconds=0.5) as stack:
        yield stack
