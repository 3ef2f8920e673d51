"""Python programs of ``children/`` that answer each line of their standard input with one line of JSON."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from .harness import FOLDER, BenchmarkError, last_words, running


class Child:
    """Such a program, ready."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log
        # Whatever it says first means that it is ready.
        self._line()

    def ask(self, number: int) -> dict[str, Any]:
        """Write a number and return the answer. Raises `BenchmarkError` if it ended instead."""
        assert self._process.stdin is not None
        # Should it have ended, the answer that does not come says so.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"%d\n" % number)
            self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._line())
        return told

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line: bytes = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise BenchmarkError(last_words(self._log) or "a child ended without a word")
        return line


@contextlib.contextmanager
def child(name: str, *arguments: str, core: int) -> Iterator[Child]:
    """Run ``children/NAME.py`` on a core."""
    command = [sys.executable, "-m", f"benchmarks.children.{name}", *arguments]
    with (
        tempfile.TemporaryFile() as log,
        running(command, core, log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=FOLDER.parent) as process,
    ):
        yield Child(process, log)
