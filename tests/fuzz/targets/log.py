"""The log: after any appends and evictions it holds exactly the newest entries, and finds them by id and by byte."""

from __future__ import annotations

from sse_core.fanout.log import FrameLog

from .choices import Choices


def run(data: bytes) -> None:
    """Append and evict as the bytes say, beside a list that does the same."""
    choices = Choices(data)
    max_events, max_bytes = choices.number(20) + 1, choices.number(3000) + 1
    ident = floor = choices.number(1000)
    log = FrameLog(floor=floor, max_events=max_events, max_bytes=max_bytes)
    kept: list[tuple[int, int, bytes]] = []
    following = 0
    while choices.left:
        if choices.number(4) == 0:
            upto = choices.number(following + 2)
            log.evict(upto)
            while kept and kept[0][0] < upto:
                floor = kept.pop(0)[1]
        else:
            ident += choices.number(5) + 1
            # A pattern that no other frame has at the same place, so that a wrong byte is seen.
            frame = bytes((following + at) % 251 for at in range(choices.number(700) + 1))
            log.append(ident, frame)
            kept.append((following, ident, frame))
            following += 1
            while len(kept) > 1 and (len(kept) > max_events or sum(len(each[2]) for each in kept) > max_bytes):
                floor = kept.pop(0)[1]
        first = kept[0][0] if kept else following
        assert (log.first, log.next, log.floor) == (first, following, floor)
        assert b"".join(log.view(first, following)) == b"".join(each[2] for each in kept)
    offset = 0
    for number, each, frame in kept:
        assert log.seek(each - 1) == number
        assert log.at(offset) == log.at(offset + len(frame) - 1) == number
        offset += len(frame)
