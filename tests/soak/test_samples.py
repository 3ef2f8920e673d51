from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from .samples import EVERY_SECONDS, Sample, Sampler, growth, look, what_grows


def course(memory: float = 0.0, descriptors: float = 0.0) -> list[Sample]:
    """A run of 100 s in which both grow by so much a second, from 100 MB and 50."""
    return [Sample(second, int(100e6 + memory * second), int(50 + descriptors * second)) for second in range(101)]


def test_what_is_flat_is_flat() -> None:
    """A run that holds the same all the time has nothing that grows, nor has one that grows only until its middle."""
    settling = [Sample(second, int(100e6 + 1e6 * min(second, 30)), 50) for second in range(101)]
    assert what_grows({"a": course(), "b": settling}) == []


def test_what_grows_is_named() -> None:
    """Memory and open files that grow for as long as a run lasts are told with the group, and where from and to."""
    assert what_grows({"worker": course(memory=1e6)}) == ["worker: memory went from 150.0 to 190.0 MB"]
    assert what_grows({"nginx": course(descriptors=1)}) == ["nginx: open files went from 100 to 140"]


def test_the_middle_is_compared_with_the_end() -> None:
    """The medians are those of the middle fifth and of the last."""
    assert growth(course(descriptors=1), lambda sample: sample.descriptors) == (100, 140)


def test_a_process_is_seen(tmp_path: Path) -> None:
    """Memory and open files are those of the process; one that has ended holds nothing."""
    before = look([os.getpid()], 0.0)
    with (tmp_path / "file").open("w"):
        # Its own mapping: what Python has freed before would be taken again, and nothing would grow.
        held = mmap.mmap(-1, 1 << 24, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        held.write(os.urandom(1 << 24))
        after = look([os.getpid(), 1 << 30], 1.0)
    assert after.descriptors >= before.descriptors + 1
    assert after.bytes >= before.bytes + len(held) // 2


def test_a_sampler_looks_until_its_block_ends() -> None:
    """Every group has a sample for each time that was looked."""
    deadline = time.monotonic() + 30 * EVERY_SECONDS
    with Sampler({"self": lambda: [os.getpid()], "nobody": list}) as sampler:
        while not sampler.samples["nobody"] and time.monotonic() < deadline:
            time.sleep(0.05)
    assert sampler.samples["self"][0].bytes > 0
    assert sampler.samples["nobody"][0][1:] == (0, 0)
