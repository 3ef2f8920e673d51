"""Makes locust run a scenario: its options, one participant in each process, the coordinator, the report, the exit code.

A scenario's file calls `run_by_locust`, so that it is a locustfile: ``locust -f loadtest/scenarios/steady.py``.
"""

from __future__ import annotations

import faulthandler
import logging
import secrets
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from locust.util.timespan import parse_timespan

from loadtest import messages, report
from loadtest.coordinator import Coordinator
from loadtest.options import Options, add_to
from loadtest.participant import Participant
from loadtest.publish_user import PublishUser
from loadtest.scenario import Result, Scenario
from loadtest.thresholds import Judgement, exit_code, judge

logger = logging.getLogger(__name__)

#: A run that is bounded by --events alone is ended after so many seconds all the same.
_LONGEST = 600.0
#: Added to all bounds of a run; then it is ended by force, be its greenlets stuck or not.
_MARGIN = 300.0


def run_by_locust(scenario: Scenario) -> None:
    """Attach a scenario to the locust that is being started in this process."""
    conduct = _Conduct(scenario)
    events.init_command_line_parser.add_listener(conduct.on_parser)
    events.init.add_listener(conduct.on_init)
    events.test_start.add_listener(conduct.on_start)
    events.spawning_complete.add_listener(conduct.on_spawned)
    events.test_stop.add_listener(conduct.on_stop)
    events.quitting.add_listener(conduct.on_quitting)
    events.quit.add_listener(conduct.on_quit)


class _Conduct:
    """What is the same for all runs of a process."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._environment: Environment
        self._participant: Participant | None = None
        self._coordinator: Coordinator | None = None
        self._greenlet: gevent.Greenlet | None = None
        self._text = ""
        self._has_ended = False

    # ---- locust's events ----

    def on_parser(self, parser: ArgumentParser, **_: Any) -> None:
        """Add the options."""
        add_to(parser, self._scenario.defaults)
        common = ("num_users", "spawn_rate", "run_time")
        parser.set_defaults(
            **{name: self._scenario.defaults[name] for name in common if name in self._scenario.defaults}
        )

    def on_init(self, environment: Environment, runner: Any, **_: Any) -> None:
        """Take over what locust would decide by itself, and listen to the other processes."""
        self._environment = environment
        given: Any = environment.parsed_options
        try:
            options = Options.of(given)
        except ValueError as error:
            sys.exit(f"loadtest: {error}")
        if not isinstance(runner, WorkerRunner):
            given.run_id = options.run_id or secrets.token_hex(4)
            seconds = given.run_time
            if isinstance(seconds, str):
                seconds = parse_timespan(seconds)
            self._seconds = float(seconds or (_LONGEST if options.events else 30.0))
            # Ends the run itself, in the middle of what is to be judged: the coordinator ends it instead.
            given.run_time = None
            if self._scenario.publishes:
                given.num_users = (given.num_users or 1) + options.publishers
            bound = self._seconds + options.ready_timeout * 2 + options.settle + _MARGIN
            bound += options.publish_tries * options.timeout
            if given.headless:
                faulthandler.dump_traceback_later(bound, exit=True)
            runner.register_message(messages.PROGRESS, self._to_coordinator("on_progress"))
            runner.register_message(messages.VERDICT, self._to_coordinator("on_verdict"))
            runner.register_message(messages.ASK_TIME, self._to_coordinator("on_ask_time"))
        for user in environment.user_classes:
            if issubclass(user, PublishUser):
                user.fixed_count = options.publishers
        if not isinstance(runner, MasterRunner):
            runner.register_message(messages.PHASE, self._on_phase)
            runner.register_message(messages.TIME, self._on_time)

    def on_start(self, environment: Environment, **_: Any) -> None:
        """Begin a run."""
        runner = environment.runner
        if not isinstance(runner, MasterRunner):
            if self._participant is not None:
                self._participant.close()
            self._participant = Participant(environment, self._scenario.publishes)
            environment.sse_participant = self._participant  # type: ignore[attr-defined]
        if not isinstance(runner, WorkerRunner):
            self._has_ended = False
            self._coordinator = Coordinator(environment, self._scenario, self._seconds)
            self._greenlet = gevent.spawn(self._run, self._coordinator)

    def on_spawned(self, **_: Any) -> None:
        """All users were started."""
        if self._coordinator is not None:
            self._coordinator.has_spawned = True

    def on_stop(self, **_: Any) -> None:
        """Whatever ended the run, it does not go on."""
        greenlet = self._greenlet
        if greenlet is not None and not self._has_ended and greenlet is not gevent.getcurrent():
            greenlet.kill(block=False)

    def on_quitting(self, environment: Environment, **_: Any) -> None:
        """Decide on the exit code where the run was not judged."""
        if isinstance(environment.runner, WorkerRunner):
            # What a worker has seen is the master's to judge.
            environment.process_exit_code = 0
        elif self._coordinator is not None and not self._has_ended:
            self._text = "The run was cut short: nothing is judged, so it has failed.\n"
            environment.process_exit_code = 1
        if getattr(environment.parsed_options, "csv_prefix", None):
            # Locust writes its CSV files once a second, and not at the end.
            gevent.sleep(1.2)

    def on_quit(self, **_: Any) -> None:
        """Print the report, below locust's own tables."""
        if self._text:
            print(f"\n{self._text}", flush=True)

    # ---- messages ----

    def _to_coordinator(self, method: str) -> Any:
        def listener(environment: Environment, msg: Any, **_: Any) -> None:
            if self._coordinator is not None:
                getattr(self._coordinator, method)(msg.node_id, msg.data)

        return listener

    def _on_phase(self, environment: Environment, msg: Any, **_: Any) -> None:
        if self._participant is not None:
            self._participant.on_phase(msg.data)

    def _on_time(self, environment: Environment, msg: Any, **_: Any) -> None:
        if self._participant is not None:
            self._participant.on_time(msg.data)

    # ---- the run ----

    def _run(self, coordinator: Coordinator) -> None:
        environment = self._environment
        runner = environment.runner
        assert runner is not None
        try:
            result = coordinator.conduct()
            judgements = judge(result)
            self._finish(result, judgements)
            environment.process_exit_code = exit_code(judgements)
        except Exception:
            logger.exception("The run could not be judged.")
            self._text = "The run could not be judged, so it has failed.\n"
            environment.process_exit_code = 1
        self._has_ended = True
        options: Any = environment.parsed_options
        if options.headless:
            runner.quit()
        else:
            runner.stop()
            print(f"\n{self._text}", flush=True)

    def _finish(self, result: Result, judgements: list[Judgement]) -> None:
        self._text = report.as_text(self._scenario, result, judgements)
        if result.options.out:
            report.write(Path(result.options.out), self._scenario, result, judgements)
