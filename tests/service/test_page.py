from __future__ import annotations

import re

import pytest
from falcon.testing import TestClient

from sse_kit.app import STATIC


def test_page(client: TestClient) -> None:
    """The page may load what this server has and nothing else, is never framed, and is looked for anew each time."""
    result = client.simulate_get("/")

    assert result.status_code == 200
    assert result.headers["content-type"] == "text/html"
    assert "default-src 'self'" in result.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in result.headers["content-security-policy"]
    assert result.headers["x-content-type-options"] == "nosniff"
    assert result.headers["cache-control"] == "no-cache"


def test_page_keeps_its_own_policy() -> None:
    """The page needs nothing that its policy forbids: no script or style of its own text, nothing of other hosts."""
    text = (STATIC / "index.html").read_text()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|https?://", text) == []


def test_the_navigation_leads_to_sections() -> None:
    """Every link of the page's navigation names a section that there is."""
    text = (STATIC / "index.html").read_text()
    links = set(re.findall(r'<a href="#([\w-]+)"', text))

    assert links
    assert links <= set(re.findall(r'<section id="([\w-]+)"', text))


def test_no_script_makes_markup_of_text() -> None:
    """What an event contains gets into the page as text only: no script uses an interface that parses markup or code."""
    parsing = re.compile(r"\b(innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe|document\.write|eval|Function)\b")
    found = [path.name for path in STATIC.glob("*.js") if parsing.search(path.read_text())]

    assert found == []


@pytest.mark.parametrize("file", sorted(path.name for path in STATIC.iterdir() if path.is_file()))
def test_files(client: TestClient, file: str) -> None:
    """Every file of the page is served with its type, as it is."""
    result = client.simulate_get(f"/static/{file}")

    assert result.content == (STATIC / file).read_bytes()
    assert result.headers["content-type"] in ("text/javascript", "text/css", "image/svg+xml", "text/html")


def test_revalidation(client: TestClient) -> None:
    """A file that has not changed is not sent again."""
    etag = client.simulate_get("/").headers["etag"]
    result = client.simulate_get("/", headers={"If-None-Match": etag})

    assert (result.status_code, result.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/static/", "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/app.py"]
)
def test_nothing_else(client: TestClient, path: str) -> None:
    """No path leads out of the page's folder."""
    result = client.simulate_get(path)

    assert (result.status_code, result.headers["content-type"]) == (404, "application/problem+json")
