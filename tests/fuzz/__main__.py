"""Fuzz one target with atheris: ``python -m tests.fuzz NAME COMMAND [option of libFuzzer ...]``; see `scripts/fuzz`."""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    """Run until told to stop; ``COMMAND`` is what libFuzzer starts to run this again. Shows the traceback of what fails."""
    _, name, command, *options = sys.argv
    with atheris.instrument_imports(include=["sse_core", "sse_kit", "falcon", "msgspec"]):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    atheris.Setup([command, *options], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
