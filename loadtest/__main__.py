"""Runs a scenario: ``python -m loadtest steady --host http://127.0.0.1:8080``. What follows the name is for locust.

Without a name it says which scenarios there are; ``python -m loadtest steady --help`` lists the options.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

SCENARIOS = Path(__file__).resolve().parent / "scenarios"


def scenarios() -> dict[str, str]:
    """Return the question of each scenario by its name."""
    return {
        path.stem: (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
        for path in sorted(SCENARIOS.glob("*.py"))
        if path.stem != "__init__"
    }


def arguments(name: str, given: list[str]) -> list[str]:
    """Return locust's command line for a scenario. Raises `SystemExit` for one that does not exist."""
    if name not in scenarios():
        known = "\n".join(f"  {each:8} {question}" for each, question in scenarios().items())
        raise SystemExit(f"loadtest: say a scenario: python -m loadtest NAME --host URL [options]\n\n{known}")
    made = ["locust", "--locustfile", str(SCENARIOS / f"{name}.py"), "--only-summary"]
    if "--web-port" not in given and "--autostart" not in given and "--worker" not in given:
        made.append("--headless")
    folder = next((given[at + 1] for at, each in enumerate(given[:-1]) if each == "--out"), None)
    if folder is not None:
        made += ["--csv", f"{folder}/locust", "--html", f"{folder}/locust.html"]
    return [*made, *given]


def main() -> None:
    """Run locust with the rest of the command line."""
    if len(sys.argv) < 2:
        arguments("", [])
    sys.argv = arguments(sys.argv[1], sys.argv[2:])
    from locust.main import main as run_locust

    run_locust()


if __name__ == "__main__":
    main()
