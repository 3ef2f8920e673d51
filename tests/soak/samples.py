"""What processes hold while they run: memory and descriptors, over time, and whether that is flat."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import NamedTuple, Self

EVERY_SECONDS = 2.0
#: Of a run: what the middle has is what the end may have.
_MIDDLE, _END = (0.4, 0.6), (0.8, 1.0)


class Sample(NamedTuple):
    """One process, or several together, at one time."""

    #: Since the run began.
    seconds: float
    #: Resident anonymous memory.
    bytes: int
    descriptors: int


def look(pids: Sequence[int], seconds: float) -> Sample:
    """Return what these processes hold together. One that has just ended counts nothing."""
    memory = descriptors = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            memory += next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        except (FileNotFoundError, ProcessLookupError, StopIteration):
            continue
    return Sample(seconds, memory, descriptors)


class Sampler:
    """Looks at groups of processes for as long as the block lasts; a group is a name and a function that finds its pids."""

    def __init__(self, groups: Mapping[str, Callable[[], Sequence[int]]]) -> None:
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.began = time.monotonic()
        self._groups = groups
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stopping.wait(EVERY_SECONDS):
                for name, find in self._groups.items():
                    self.samples[name].append(look(find(), time.monotonic() - self.began))
        except BaseException as wrong:
            self._error = wrong


def growth(samples: Sequence[Sample], value: Callable[[Sample], float]) -> tuple[float, float]:
    """Return the medians of a value in the middle of a run and at its end."""
    last = samples[-1].seconds

    def part(bounds: tuple[float, float]) -> float:
        begin, end = bounds
        return median(value(each) for each in samples if begin * last <= each.seconds <= end * last)

    return part(_MIDDLE), part(_END)


def what_grows(
    samples: Mapping[str, Sequence[Sample]], *, share: float = 0.1, least_bytes: int = 4 << 20, descriptors: int = 10
) -> list[str]:
    """Say of each group what it holds more of at the end than in the middle, by more than noise.

    ``share`` of the middle's memory, and ``least_bytes`` at least, are noise; so are so many ``descriptors``.
    """
    found = []
    for name, each in samples.items():
        middle, end = growth(each, lambda sample: sample.bytes)
        if end - middle > max(share * middle, least_bytes):
            found.append(f"{name}: memory went from {middle / 1e6:.1f} to {end / 1e6:.1f} MB")
        middle, end = growth(each, lambda sample: sample.descriptors)
        if end - middle > descriptors:
            found.append(f"{name}: open files went from {middle:.0f} to {end:.0f}")
    return found
