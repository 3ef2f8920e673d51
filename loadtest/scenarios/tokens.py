"""How soon does an answer of a language model begin, how fast does it come, and does it stall?

Each stream asks for an answer and reads it to its end, again and again. Measured is what somebody who waits sees: the time
to the first token, tokens a second, and pauses. Streams that end without their last event are failures. The model's own time
is part of it: for the server alone ask one that echoes.
"""

from __future__ import annotations

import time
from urllib.parse import quote, urljoin

import gevent

from loadtest import messages
from loadtest.plugin import run_by_locust
from loadtest.scenario import Result, Scenario
from loadtest.templates import fill
from loadtest.user import SSEUser, is_stream
from sse_core import Event, SSEError

FIRST = "first event"
PAUSE = "pause between tokens"
WHOLE = "whole answer"
#: Events that end an answer: ours, and the data by which others do.
ENDS = ("done", "failed")
END_OF_DATA = "[DONE]"


class Asker(SSEUser):
    """Asks one question after the other."""

    _asked = 0

    def turn(self) -> None:
        """One answer."""
        participant = self.participant
        participant.wait_while(messages.SPAWN)
        if participant.phase != messages.GO:
            gevent.sleep(0.1)
            return
        self._asked += 1
        options = participant.options
        words = " ".join(f"word{number}" for number in range(options.prompt_words))
        values = {
            "prompt": quote(f"{self.ledger.name}.{self._asked} {words}"),
            "run": options.run_id,
            "number": self._asked,
        }
        self.client.move(urljoin(self.host or "", fill(options.subscribe_url, values)))
        participant.busy += 1
        try:
            self._answer()
        finally:
            participant.busy -= 1
            self.client.close()

    def _answer(self) -> None:
        participant = self.participant
        asked = time.monotonic()
        try:
            head = self.client.open()
            if not is_stream(head):
                participant.failed(
                    "wrong status", f"{head.status}, {head.headers.get('content-type', 'no Content-Type')}"
                )
                gevent.sleep(self.client.retry / 1000)
                return
            participant.timed("SSE", "connect", (time.monotonic() - asked) * 1000)
            self._read(asked)
        except (OSError, SSEError) as error:
            participant.failed("cut", f"{type(error).__name__}: {error}")
            gevent.sleep(self.client.retry / 1000)

    def _read(self, asked: float) -> None:
        participant, measured = self.participant, self.participant.measured
        first = last = 0.0
        while (events := self.client.receive()) is not None:
            now = self.client.received_at
            for event in events:
                if self._is_end(event):
                    if event.event == "failed":
                        participant.failed("cut", f"failed: {event.data}")
                        return
                    measured.counts["answers"] += 1
                    participant.timed("SSE", WHOLE, (now - asked) * 1000)
                    return
                if event.event is not None or not event.data:
                    continue
                measured.counts["delivered"] += 1
                since = participant.since_start(now + participant.clock.offset)
                if since is not None:
                    measured.seconds[int(since)].delivered += 1
                if first:
                    pause = (now - last) * 1000
                    measured.times[PAUSE].add(pause)
                    if pause >= participant.options.stall_ms:
                        measured.failed("stalled", f"no token for {participant.options.stall_ms:g} ms or longer")
                else:
                    first = now
                    participant.timed("SSE", FIRST, (now - asked) * 1000)
                last = now
        participant.failed("cut", "ended without its last event")

    def _is_end(self, event: Event) -> bool:
        return event.event in ENDS or event.data == END_OF_DATA


def answer(result: Result) -> str:
    """Say it in one sentence."""
    measured = result.measured
    first = measured.times[FIRST]
    if not measured.counts["answers"]:
        return "No answer came to its end."
    pause = measured.times[PAUSE].mean
    speed = 1000 / pause if pause else 0.0
    return (
        f"The first token came after {first.percentile(50):.0f} ms at the median and {first.percentile(99):.0f} ms at p99, "
        f"then {speed:,.1f} tokens a second for each of {result.streams:,} readers; {measured.counts['answers']:,} answers, "
        f"{measured.counts['stalled']:,} pauses of {result.options.stall_ms:g} ms or longer."
    )


SCENARIO = Scenario(
    __doc__,
    answer,
    {"num_users": 20, "spawn_rate": 20, "run_time": "30s", "subscribe_url": "/generate?prompt={prompt}"},
    main_time=FIRST,
    publishes=False,
)
run_by_locust(SCENARIO)
