"""Sends through io_uring: that they are those of send(), and that whatever forbids or breaks the ring loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .harness import eventually, feed

ROOT = Path(__file__).parents[2]
#: More than the kernel is given at once, and no multiple of that.
MANY = 150


# What is asked here is the same without the ring: one run is enough.
pytestmark = pytest.mark.parametrize("ring_from", [1], indirect=True)


@pytest.fixture(scope="session")
def has_io_uring() -> bool:
    """Whether this machine lets us use it: containers often do not."""
    return bool(run("nothing")["before"]["io_uring_loops"])


def run(what: str) -> dict[str, Any]:
    """Run `tests.fanout.ringed` and return what it tells."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fanout.ringed", what], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def check_nothing_lost(told: dict[str, Any]) -> None:
    """Each stream got each event once and in order, and when the hub is closed nothing is left."""
    assert told["wrong"] == []
    assert told["after"]["events_delivered"] == 2 * told["before"]["events_delivered"]
    assert told["after"]["streams_ended_error"] == 0
    assert told["left"] == told["closed"]["io_uring_loops"] == 0


def test_a_ring_is_used_where_the_kernel_has_one(has_io_uring: bool) -> None:
    """The number of loops that send through a ring is told, and is that of the rings this process holds."""
    told = run("nothing")

    check_nothing_lost(told)
    assert told["rings"] == told["before"]["io_uring_loops"] == int(has_io_uring)


def test_a_hub_without_io_uring_makes_no_ring() -> None:
    """The option is a way out where a filter ends the process instead of refusing the call."""
    told = run("off")

    check_nothing_lost(told)
    assert told["rings"] == told["before"]["io_uring_loops"] == 0


@pytest.mark.parametrize("what", ["setup-EPERM", "setup-ENOSYS", "setup-EINVAL", "enter-EPERM"])
def test_what_a_filter_forbids_is_done_without(what: str) -> None:
    """Under a seccomp filter that refuses io_uring all is delivered by send(), and the numbers say so."""
    told = run(what)

    check_nothing_lost(told)
    assert told["rings"] == told["before"]["io_uring_loops"] == told["after"]["io_uring_loops"] == 0


def test_a_ring_needs_no_locked_memory(has_io_uring: bool) -> None:
    """A limit of locked memory of zero, as in many containers, changes nothing."""
    told = run("no-locked-memory")

    check_nothing_lost(told)
    assert told["before"]["io_uring_loops"] == int(has_io_uring)


@pytest.mark.parametrize("what", ["close", "replace", "enter-EPERM-later"])
def test_a_ring_that_breaks_is_replaced_by_send(has_io_uring: bool, what: str) -> None:
    """A ring that was closed, replaced or forbidden while in use is given up: no event is lost and none comes twice."""
    told = run(what)

    check_nothing_lost(told)
    assert told["before"]["io_uring_loops"] == int(has_io_uring)
    assert told["after"]["io_uring_loops"] == 0
    assert told["kept"] == ["/dev/null"] * (what == "replace" and has_io_uring)


def test_a_ring_without_memory_for_the_moment_is_kept(has_io_uring: bool) -> None:
    """What the kernel cannot take is sent by send() then and there, and the ring is tried again with the next event."""
    told = run("enter-EAGAIN-later")

    check_nothing_lost(told)
    assert told["after"]["io_uring_loops"] == int(has_io_uring)


def test_a_child_of_fork_leaves_the_ring_alone(has_io_uring: bool) -> None:
    """A child gives up its copies of the descriptor and the memory; the parent's ring goes on."""
    told = run("fork")

    check_nothing_lost(told)
    assert told["after"]["io_uring_loops"] == int(has_io_uring)


def test_slow_and_dead_subscribers_in_a_batch_get_what_send_would_give_them() -> None:
    """Among many in one system call each has its own result: sent, cut short, full, or gone."""
    with feed() as f:
        subscribers = [f.subscribe(buffer=4096 if i % 3 == 0 else None) for i in range(MANY)]
        f.settle(MANY)
        # The end of their input is not announced: that they are gone is known by the error of a send.
        dead = subscribers[1::3]
        for each in dead:
            each.socket.close()
        ids = []
        while f.count("blocked") < MANY // 3:
            ids.append(f.publish(data="x" * 300))
        f.settle(MANY - len(dead))
        last = f.publish(data="y" * 3000)

        for each in (*subscribers[0::3], *subscribers[2::3]):
            assert [event.id for event in each.until(last)] == [*ids, last]
        assert f.count("streams_ended_client") + f.count("streams_ended_error") == len(dead)


def test_many_subscribers_of_several_loops_get_the_same() -> None:
    """However many subscribers there are, each gets all events in order, batch after batch."""
    with feed(loops=2) as f:
        subscribers = [f.subscribe() for _ in range(2 * MANY)]
        ids = [f.publish(data=f"{i} " + "z" * (i % 50)) for i in range(100)]

        assert all([event.id for event in each.until(ids[-1])] == ids for each in subscribers)
        eventually(lambda: f.count("events_delivered") == len(ids) * len(subscribers))
        assert f.count("blocked") == f.count("streams_ended_error") == 0
