"""The command line, and the documents that name its scenarios."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.__main__ import arguments, scenarios
from loadtest.matrix import SHORT
from loadtest.options import OPTIONS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "loadtest/README.md").read_text("utf-8")


def test_without_a_scenario_it_says_which_there_are() -> None:
    """Whoever does not know what to say is told, with the question of each."""
    done = subprocess.run([sys.executable, "-m", "loadtest"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert all(name in done.stderr and question in done.stderr for name, question in scenarios().items())


def test_what_is_given_goes_to_locust() -> None:
    """Options behind the name are locust's, with its own files in the folder of the report."""
    made = arguments("steady", ["--host", "http://a", "--out", "report"])

    assert made[0] == "locust"
    assert made[made.index("--csv") + 1] == "report/locust"
    assert "--headless" in made
    assert made[-4:] == ["--host", "http://a", "--out", "report"]


def test_with_a_port_for_the_page_it_has_the_page() -> None:
    """Who says where locust's page shall be wants to see it."""
    assert "--headless" not in arguments("steady", ["--web-port", "8089"])


def test_the_table_has_each_scenario_with_its_question() -> None:
    """README, files and the short matrix agree; soak is not short."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([A-Z].*\?) \|$", README, re.MULTILINE))

    assert rows == scenarios()
    assert set(SHORT) == set(scenarios()) - {"soak"}


def test_every_option_that_the_readme_names_exists() -> None:
    """What is written can be said."""
    ours = {each.flag for each in OPTIONS}
    locusts = {
        "--host",
        "--processes",
        "--help",
        "--headless",
        "--out",
        "--master",
        "--expect-workers",
        "--worker",
        "--master-host",
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README))

    assert named - ours - locusts == set()


@pytest.mark.parametrize("name", sorted(scenarios()))
def test_each_scenario_asks_one_question(name: str) -> None:
    """The first line of a file is a question on a line, and the file has a way to answer it."""
    question = scenarios()[name]

    assert question.endswith("?")
    assert question.count("?") == 1
    assert "def answer(" in (ROOT / f"loadtest/scenarios/{name}.py").read_text()
