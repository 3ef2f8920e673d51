"""A hub with many subscribers in a process of its own, to which something is done: ``python -m tests.fanout.ringed WHAT``.

Prints a JSON object: what each subscriber received wrong, if anything, and the counters of the hub before and after.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sse_core import EventParser, Hub

STREAMS = 150
EVENTS = 20
TIMEOUT = 60.0

PR_SET_NO_NEW_PRIVS = 38
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_RET_ERRNO = 0x0005_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000
#: The same on both architectures.
SETUP, ENTER = 425, 426
BPF_LOAD, BPF_JUMP_EQUAL, BPF_RETURN = 0x20, 0x15, 0x06


def forbid(call: int, error: int) -> None:
    """Let a system call fail in all threads of this process, from now on, as a container's filter does."""
    program = b"".join(
        struct.pack("=HBBI", *each)
        for each in (
            (BPF_LOAD, 0, 0, 0),
            (BPF_JUMP_EQUAL, 0, 1, call),
            (BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | error),
            (BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    argument = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    number = SYS_SECCOMP[os.uname().machine]
    for result in (
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        libc.syscall(number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, argument),
    ):
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def rings() -> list[int]:
    """The descriptors of this process that are rings."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(each) == "anon_inode:[io_uring]":
                found.append(int(each.name))
        except FileNotFoundError:
            continue
    return sorted(found)


def settled(hub: Hub) -> None:
    """Wait until the loop has made a turn: before its first one it makes its ring."""
    deadline = time.monotonic() + TIMEOUT
    while hub._local.engine is None or hub._local.engine.heartbeats() == [0]:
        if time.monotonic() > deadline:
            raise TimeoutError("the loop made no turn")
        hub.is_ready()
        time.sleep(0.002)


def subscribe(hub: Hub) -> socket.socket:
    """The client's end of a stream that was handed over."""
    ours, theirs = socket.socketpair()
    ours.settimeout(TIMEOUT)
    theirs.setblocking(False)
    stream = hub.subscribe("a")
    next(stream)
    hub.adopt(stream, theirs)
    return ours


def received(client: socket.socket, count: int) -> list[str | None]:
    """The data of so many events."""
    parser = EventParser()
    found: list[str | None] = []
    while len(found) < count:
        chunk = client.recv(65536)
        if not chunk:
            return [*found, "the end"]
        found += [event.data for event in parser.feed(chunk)]
    return found


def counted(hub: Hub, events: int) -> dict[str, int]:
    """The counters of a hub, once they say that so many events were delivered to all: what a client has may not be counted."""
    deadline = time.monotonic() + TIMEOUT
    while (stats := hub.stats())["events_delivered"] < events * STREAMS and time.monotonic() < deadline:
        time.sleep(0.002)
    return stats


def fork(hub: Hub) -> None:
    """Fork a child that closes what it has of the hub, and fail unless it has no ring left then."""
    engine = hub._local.engine
    child = os.fork()
    if child == 0:
        try:
            assert engine is not None
            engine.stop()
            os._exit(len(rings()))
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"the child ended with {os.waitstatus_to_exitcode(status)}")


def close(hub: Hub) -> None:
    """Close the ring behind the hub's back."""
    for ring in rings():
        os.close(ring)


def replace(hub: Hub) -> None:
    """Put another file in the ring's place."""
    for ring in rings():
        with open(os.devnull) as other:
            os.dup2(other.fileno(), ring)


BEFORE: dict[str, Callable[[], None]] = {
    "setup-EPERM": lambda: forbid(SETUP, errno.EPERM),
    "setup-ENOSYS": lambda: forbid(SETUP, errno.ENOSYS),
    "setup-EINVAL": lambda: forbid(SETUP, errno.EINVAL),
    "enter-EPERM": lambda: forbid(ENTER, errno.EPERM),
    "no-locked-memory": lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0)),
}
MEANWHILE: dict[str, Callable[[Hub], None]] = {
    "fork": fork,
    "close": close,
    "replace": replace,
    "enter-EPERM-later": lambda hub: forbid(ENTER, errno.EPERM),
    "enter-EAGAIN-later": lambda hub: forbid(ENTER, errno.EAGAIN),
}


def main() -> None:
    """Do it."""
    what = sys.argv[1]
    descriptors = len(os.listdir("/proc/self/fd"))
    BEFORE.get(what, lambda: None)()
    with Hub(io_uring=what != "off") as hub:
        settled(hub)
        clients = [subscribe(hub) for _ in range(STREAMS)]
        expected: list[str | None] = []
        told: dict[str, Any] = {}

        def publish() -> None:
            for _ in range(EVENTS):
                expected.append(str(len(expected)))
                hub.publish("a", expected[-1])

        publish()
        # Read before anything is done, so that it is not done in the middle of a fan-out on one run and after it on another.
        first = [received(client, EVENTS) for client in clients]
        told["before"] = counted(hub, len(expected))
        held = rings()
        told["rings"] = len(held)
        MEANWHILE.get(what, lambda _: None)(hub)
        publish()
        second = [received(client, EVENTS) for client in clients]
        told["after"] = counted(hub, len(expected))
        told["wrong"] = [a + b for a, b in zip(first, second, strict=True) if a + b != expected]
    told["closed"] = hub.stats()
    for client in clients:
        client.close()
    # The number is not the hub's to close any more, once it is another file's.
    told["kept"] = [os.readlink(f"/proc/self/fd/{ring}") for ring in held] if what == "replace" else []
    for ring in held if what == "replace" else ():
        os.close(ring)
    told["left"] = len(os.listdir("/proc/self/fd")) - descriptors
    print(json.dumps(told))


if __name__ == "__main__":
    main()
