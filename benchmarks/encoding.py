"""What do framing and parsing cost beside the libraries in common use? Run: ``python -m benchmarks.encoding``

Bars: `frame` at least 10 times as fast as sse-starlette's encoder, `EventParser` at least 10 times as fast as httpx-sse.
Before anything is timed, both sides must give the same result.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import httpx
from httpx_sse import EventSource
from sse_starlette.event import ServerSentEvent

from sse_core.event import Event
from sse_core.framing import frame
from sse_core.parsing import EventParser

from .effort import Effort, parse
from .report import Judgement, Report, Table, as_text

ROUNDS = 7
BAR = 10.0
FRAMES_A_ROUND = 50_000
STREAM_BYTES = 10_000_000
QUICK_FRAMES, QUICK_STREAM_BYTES = 200, 20_000
CHUNK_BYTES = 65_536
KIND = "update"
ID = "1700000000000-12"


@dataclass(frozen=True)
class Question:
    """Two ways to the same result, run by turns; each call processes ``events`` events. ``bar``: the least ratio, if any."""

    name: str
    theirs_name: str
    events: int
    ours: Callable[[], object]
    theirs: Callable[[], object]
    bar: float | None = None


@dataclass(frozen=True)
class Answer:
    """Medians over the rounds, in nanoseconds of CPU an event; the ratio is the median of the rounds' ratios."""

    ours: float
    theirs: float
    ratio: float


def cpu_ns(run: Callable[[], object], events: int) -> float:
    """CPU time of this process for one event, in nanoseconds."""
    gc.collect()
    start = time.process_time_ns()
    run()
    return (time.process_time_ns() - start) / events


def measure(question: Question, rounds: int = ROUNDS) -> Answer:
    """Run both sides by turns, after one round that is not counted; who begins changes from round to round."""
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds + 1):
        sides = [(question.ours, ours), (question.theirs, theirs)]
        for run, times in sides if number % 2 else reversed(sides):
            times.append(cpu_ns(run, question.events))
    del ours[0], theirs[0]
    return Answer(median(ours), median(theirs), median(b / a for a, b in zip(ours, theirs, strict=True)))


def framing_question(name: str, payload: str, frames: int, *, bar: float | None = None) -> Question:
    """An event that exists already, framed."""
    event = Event(payload, event=KIND, id=ID)
    other = ServerSentEvent(payload, event=KIND, id=ID, sep="\n")
    # The order of the fields differs, which the standard allows.
    if sorted(frame(event).splitlines()) != sorted(other.encode().splitlines()):
        raise AssertionError(f"{name}: the two sides do not frame the same event")

    def ours() -> None:
        for _ in range(frames):
            frame(event)

    def theirs() -> None:
        for _ in range(frames):
            other.encode()

    return Question(name, "sse-starlette", frames, ours, theirs, bar)


def construction_question(name: str, payload: str, frames: int) -> Question:
    """An event made from its fields (by us: validated, too) and framed."""

    def ours() -> None:
        for _ in range(frames):
            frame(Event(payload, event=KIND, id=ID))

    def theirs() -> None:
        for _ in range(frames):
            ServerSentEvent(payload, event=KIND, id=ID, sep="\n").encode()

    return Question(name, "sse-starlette", frames, ours, theirs)


def frame_of(size: int) -> bytes:
    """A frame of exactly this many bytes: a type, an id, one line of data."""
    rest = size - len(frame(Event("", event=KIND, id=ID)))
    return frame(Event("x" * rest, event=KIND, id=ID))


def parsing_question(name: str, event_bytes: int, stream_bytes: int, *, bar: float | None = None) -> Question:
    """A stream of equal events in chunks as a socket gives them, every event looked at."""
    one = frame_of(event_bytes)
    events = stream_bytes // event_bytes
    stream = one * events
    chunks = [stream[at : at + CHUNK_BYTES] for at in range(0, len(stream), CHUNK_BYTES)]

    def ours() -> tuple[int, int]:
        parser = EventParser()
        count = size = 0
        for chunk in chunks:
            for event in parser.feed(chunk):
                count += 1
                size += len(event.data or "")
        return count, size

    def theirs() -> tuple[int, int]:
        response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=iter(chunks))
        count = size = 0
        for event in EventSource(response).iter_sse():
            count += 1
            size += len(event.data)
        return count, size

    if ours() != theirs():
        raise AssertionError(f"{name}: the two sides do not parse the same events")
    return Question(name, "httpx-sse", events, ours, theirs, bar)


def run(effort: Effort) -> Report:
    """Measure, and return a table with what one needs to judge it."""
    rounds = 1 if effort.quick else max(effort.rounds, ROUNDS)
    frames, size = (QUICK_FRAMES, QUICK_STREAM_BYTES) if effort.quick else (FRAMES_A_ROUND, STREAM_BYTES)
    line = "x" * 100
    judgements: list[Judgement] = []
    rows = [["", "sse_core", "the other", "ratio"]]
    for question in (
        framing_question("frame, 100 bytes", line, frames, bar=BAR),
        framing_question("frame, 20 lines of 100 bytes", "\n".join([line] * 20), frames),
        framing_question("frame, 100 characters beyond ASCII", "\xe9" * 100, frames),
        construction_question("construct and frame, 100 bytes", line, frames),
        parsing_question("parse, events of 141 bytes", 141, size, bar=BAR),
        parsing_question("parse, events of 1,400 bytes", 1400, size),
    ):
        answer = measure(question, rounds)
        label = f"{question.name} ({question.theirs_name})"
        rows.append([label, f"{answer.ours:.0f} ns", f"{answer.theirs:.0f} ns", f"{answer.ratio:.1f}"])
        if question.bar is not None:
            met = answer.ratio >= question.bar
            judgements.append(
                Judgement(f"{label}: times as fast", f"{answer.ratio:.1f}", f"at least {question.bar:g}", met)
            )
    return Report(
        "What do framing and parsing cost, beside the libraries in common use?",
        f"CPU time (user + system) an event; medians of {rounds} rounds by turns after one of warm-up. Frames: {frames:,} "
        f"a round; streams: {size:,} bytes in chunks of {CHUNK_BYTES:,}. Both sides give the same result, which is "
        "checked first.",
        judgements,
        [Table("CPU time of an event", rows)],
    )


if __name__ == "__main__":
    print(as_text(run(parse(__doc__))))
