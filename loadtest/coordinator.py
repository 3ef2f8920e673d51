"""Conducts a run on locust's master, or in the one process: each phase begins when the one before has come to its end.

Every wait has a bound, so a run ends whatever its server does.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import MasterRunner

from loadtest import messages
from loadtest.clock import identity
from loadtest.ledger import Final, Place
from loadtest.measurements import Measurements
from loadtest.options import Options
from loadtest.scenario import Result, Scenario

logger = logging.getLogger(__name__)

_POLL = 0.05
#: From saying so to the start of publishing, so that everybody has heard of it, in seconds.
_START_DELAY = 0.5
_VERDICT_SECONDS = 60.0


class Coordinator:
    """``conduct`` runs in a greenlet of its own, and returns the result."""

    def __init__(self, environment: Environment, scenario: Scenario, seconds: float) -> None:
        """``seconds`` is for how long is published."""
        self._environment = environment
        self._scenario = scenario
        self._seconds = seconds
        self.options = Options.of(environment.parsed_options)
        self.has_spawned = False
        self._states: dict[str, Mapping[str, Any]] = {}
        self._verdicts: dict[str, Mapping[str, Any]] = {}
        self._obstacles: list[str] = []
        self._streams = 0
        self._disturbed_at: float | None = None

    # ---- what comes from the processes ----

    def on_progress(self, sender: str, message: Mapping[str, Any]) -> None:
        """Take the state of a process."""
        self._states[sender] = message

    def on_verdict(self, sender: str, message: Mapping[str, Any]) -> None:
        """Take what a process has measured."""
        self._verdicts[sender] = message

    def on_ask_time(self, sender: str, message: Mapping[str, Any]) -> None:
        """Say what time it is."""
        answer = {"asked": message["asked"], "time": time.monotonic(), "identity": identity()}
        self._send(messages.TIME, answer, sender)

    # ---- the course of a run ----

    def conduct(self) -> Result:
        """Lead everybody through all phases."""
        options = self.options
        users = options_users(self._environment)
        if not self._wait(lambda: self.has_spawned and self._is_whole(users), options.ready_timeout):
            self._obstacles.append(
                f"only {self._sum('streams')} streams were started within {options.ready_timeout:g} s"
            )
        self._streams = self._sum("streams")
        if self._scenario.publishes:
            self._prime()
        starts_at = time.monotonic() + _START_DELAY
        self._say(messages.GO, at=starts_at, seconds=self._seconds)
        # For shapes, which move from here on.
        self._environment.sse_is_publishing = True  # type: ignore[attr-defined]
        seconds = self._publish(starts_at)
        self._say(messages.DRAIN)
        # A publisher may be waiting for its answer, and try again.
        patience = (options.timeout + 2) * options.publish_tries + 10
        finals: dict[Place, Final] = {}
        if self._scenario.publishes:
            if not self._wait(lambda: all("finals" in each for each in self._states.values()), patience):
                self._obstacles.append(f"publishers did not end within {patience:g} s")
            for each in self._states.values():
                finals |= messages.finals_from(each.get("finals", ()))
        told = messages.finals_to(finals)
        self._say(messages.SETTLE, finals=told)
        if not self._wait(lambda: self._has_settled(), options.settle):
            logger.warning("After %g s something is still to come; now it counts as lost.", options.settle)
        self._say(messages.JUDGE, finals=told)
        if not self._wait(lambda: len(self._verdicts) >= len(self._states), _VERDICT_SECONDS):
            self._obstacles.append(
                f"only {len(self._verdicts)} of {len(self._states)} processes have told what they measured"
            )
        measured = Measurements()
        for verdict in self._verdicts.values():
            measured.add_message(verdict)
        measured.processes = len(self._verdicts)
        measured.counts["lost"] = measured.losses.silent
        measured.counts["told"] = measured.losses.told
        return Result(options, measured, seconds, self._streams, self._disturbed_at, tuple(self._obstacles))

    def _prime(self) -> None:
        first: dict[str, int] = {}
        publishers = 0
        for sender, state in self._states.items():
            first[sender] = publishers
            publishers += state["publishers"]
        if not publishers:
            self._obstacles.append("there is nobody who publishes")
        self._say(messages.PRIME, first=first, publishers=publishers)
        if not self._wait(lambda: self._sum("ready") >= self._sum("streams") > 0, self.options.ready_timeout):
            missing = self._sum("streams") - self._sum("ready")
            logger.warning("%d streams have received nothing within %g s.", missing, self.options.ready_timeout)
        self._streams = self._sum("streams")

    def _publish(self, starts_at: float) -> float:
        """Wait for the end of publishing, disturb when it is time, and return for how long was published."""
        ends_at = starts_at + self._seconds
        after = self.options.disturb_after or self._seconds / 3
        disturbs = self._scenario.disturbs
        command: gevent.Greenlet | None = None
        while time.monotonic() < ends_at:
            if disturbs and time.monotonic() >= starts_at + after:
                disturbs = False
                self._disturbed_at = after
                self._say(messages.DISTURB)
                if self.options.disturb_command:
                    command = gevent.spawn(self._run_command)
            if self._is_finished() and not disturbs and (command is None or command.ready()):
                break
            gevent.sleep(_POLL)
        return max(time.monotonic() - starts_at, 0.001)

    def _is_finished(self) -> bool:
        if not self._states or not self.options.events:
            return False
        if self._scenario.publishes:
            return all(each["finished"] >= each["publishers"] for each in self._states.values())
        return self._sum("answers") >= self.options.events

    def _run_command(self) -> None:
        done = subprocess.run(self.options.disturb_command, shell=True, capture_output=True, text=True, check=False)
        if done.returncode:
            told = (done.stderr or done.stdout).strip()[-500:]
            self._obstacles.append(f"--disturb-command ended with status {done.returncode}: {told}")

    # ---- its own ----

    def _is_whole(self, users: int) -> bool:
        runner = self._environment.runner
        expected = len(runner.clients.all) if isinstance(runner, MasterRunner) else 1
        return (
            len(self._states) >= expected
            and all(each["knows_time"] for each in self._states.values())
            and self._sum("streams") + self._sum("publishers") >= users
        )

    def _has_settled(self) -> bool:
        # Who is still away has not told how long that took.
        return all(
            each["phase"] == messages.SETTLE and each["behind"] == 0 and each["away"] <= 0
            for each in self._states.values()
        )

    def _sum(self, name: str) -> int:
        return sum(int(each[name]) for each in self._states.values())

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            gevent.sleep(_POLL)
        return True

    def _say(self, phase: str, **more: Any) -> None:
        logger.info("Phase: %s", phase)
        self._send(messages.PHASE, {"phase": phase, **more}, None)

    def _send(self, kind: str, data: dict[str, Any], receiver: str | None) -> None:
        runner = self._environment.runner
        assert runner is not None
        runner.send_message(kind, data, receiver)


def options_users(environment: Environment) -> int:
    """Return how many users there should be at the start, of a shape at its first step."""
    if environment.shape_class is not None:
        first = environment.shape_class.tick()
        return int(first[0]) if first else 0
    return int(getattr(environment.parsed_options, "num_users", None) or 1)
