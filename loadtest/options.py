"""The options of a run, as arguments of locust's own command line, and typed for everybody who reads them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from typing import Any

GROUP = "event streams"


@dataclass(frozen=True)
class Option:
    """One option: its name is that of a field of `Options`."""

    name: str
    help: str
    metavar: str | None = None
    repeats: bool = False

    @property
    def flag(self) -> str:
        """How it is written."""
        return "--" + self.name.replace("_", "-")


@dataclass
class Options:
    """Everything that a run can be told. Times are in seconds unless they end in ``_ms``."""

    # ---- where ----
    subscribe_url: str = "/events?topic={topics}"
    publish_url: str = "/publish"
    publish_body: str = '{"topic": "{topic}", "data": "{data}", "id": "{key}"}'
    publish_type: str = "application/json"
    header: tuple[str, ...] = ()
    topic_name: str = "load-{run}-{number}"
    topic_separator: str = "&topic="
    gap_event: str = "gap"
    ca_file: str = ""
    insecure: bool = False
    source_addresses: str = ""
    # ---- how much ----
    topics: int = 1
    topics_a_stream: int = 1
    publishers: int = 1
    rate: float = 20.0
    burst: int = 1
    events: int = 0
    size: int = 200
    publish_tries: int = 1
    # ---- scenarios ----
    disturb_command: str = ""
    disturb_after: float = 0.0
    slow_share: float = 10.0
    stall_ms: float = 1000.0
    prompt_words: int = 50
    # ---- bounds of the run ----
    timeout: float = 60.0
    silence: float = 120.0
    ready_timeout: float = 60.0
    settle: float = 30.0
    # ---- judgement; negative: not judged ----
    max_p50_ms: float = -1.0
    max_p95_ms: float = -1.0
    max_p99_ms: float = -1.0
    max_connect_p99_ms: float = -1.0
    max_first_event_p99_ms: float = -1.0
    max_reconnect_p99_ms: float = -1.0
    max_late_p99_ms: float = -1.0
    max_lost: int = 0
    max_told: int = 0
    max_duplicate: int = 0
    max_disorder: int = 0
    max_altered: int = 0
    max_misdelivered: int = 0
    max_gaps: int = 0
    max_wrong_status: int = 0
    max_cut: int = 0
    max_publish_errors: int = 0
    min_published: float = 90.0
    # ---- what is written ----
    out: str = ""
    run_id: str = ""

    @classmethod
    def of(cls, namespace: object) -> Options:
        """Take ours from what locust has parsed, or what its master has sent. Raises `ValueError` for what makes no sense."""
        made = cls(
            **{each.name: getattr(namespace, each.name) for each in fields(cls) if hasattr(namespace, each.name)}
        )
        made.header = tuple(made.header or ())
        for name in ("topics", "topics_a_stream", "burst", "publish_tries"):
            if getattr(made, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1")
        if made.topics_a_stream > made.topics:
            raise ValueError(
                f"--topics-a-stream {made.topics_a_stream}: there are no more topics than --topics {made.topics}"
            )
        for each in made.header:
            if ":" not in each:
                raise ValueError(f"--header {each!r} is no header: a name, a colon and a value")
        return made

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request, by name."""
        pairs = (each.partition(":") for each in self.header)
        return {name.strip(): value.strip() for name, _, value in pairs}


OPTIONS = (
    Option(
        "subscribe_url", "where a stream is, below --host or whole; {topic}: its first topic, {topics}: all of them"
    ),
    Option("topic_separator", "what stands between several topics of {topics}"),
    Option("publish_url", "where to publish, by POST; {topic}, {data}, {key}"),
    Option("publish_body", "the body of a publish; {topic}, {data}, {key}: none of them needs quoting"),
    Option("publish_type", "its Content-Type", "TYPE"),
    Option("header", "a header of every request, may be repeated", "'NAME: VALUE'", repeats=True),
    Option("topic_name", "the names of topics; {run}: the run's id, {number}: from 0"),
    Option("gap_event", "the name of events by which the server announces a loss", "NAME"),
    Option("ca_file", "a file of certificates to believe, for https", "FILE"),
    Option("insecure", "believe every certificate"),
    Option("source_addresses", "addresses to connect from, by turns: one has 28,000 ports at most", "ADDRESS,..."),
    Option("topics", "how many topics there are"),
    Option("topics_a_stream", "how many of them a stream has"),
    Option("publishers", "how many publish at the same time; each waits for its answer before it publishes the next"),
    Option("rate", "events a second, of all publishers together; 0: as many as are taken"),
    Option("burst", "so many events at once, the next ones when --rate says so"),
    Option("events", "end after so many events were published (0: when --run-time says so)"),
    Option("size", "at least so many characters of data in an event"),
    Option("publish_tries", "how often an event is tried before its publishing has failed"),
    Option(
        "disturb_command",
        "storm, rolling: what restarts the server, for a shell; without it storm cuts its own streams",
    ),
    Option("disturb_after", "storm, rolling, slow: when, in seconds from the start of publishing (0: after a third)"),
    Option("slow_share", "slow: so many percent of the streams stop reading"),
    Option("stall_ms", "tokens: a pause from which on an answer has stalled"),
    Option("prompt_words", "tokens: how many words {prompt} has in --subscribe-url"),
    Option("timeout", "to connect, for the head of an answer, for an answer to a publish"),
    Option("silence", "after so long without a byte a stream is given up"),
    Option("ready_timeout", "for all streams to be there and subscribed"),
    Option("settle", "at most so long for what was published to arrive at the end"),
    Option("max_p50_ms", "bound of the delivery's median"),
    Option("max_p95_ms", "bound of its 95th percentile"),
    Option("max_p99_ms", "bound of its 99th percentile"),
    Option("max_connect_p99_ms", "bound of the time from connecting to the head of the answer"),
    Option(
        "max_first_event_p99_ms", "bound of the time from connecting to the first event; of tokens: to the first token"
    ),
    Option("max_reconnect_p99_ms", "bound of the time from a stream's end to the head of the next answer"),
    Option("max_late_p99_ms", "bound of the generator's own lateness: beyond it the figures are not worth much"),
    Option("max_lost", "events that never came, and nobody said so"),
    Option("max_told", "events that never came, as a gap event had told"),
    Option("max_duplicate", "events that came twice"),
    Option("max_disorder", "events that came after a later one of the same source and topic"),
    Option("max_altered", "events that are not what was published"),
    Option("max_misdelivered", "events of a topic that the stream had not asked for"),
    Option("max_gaps", "gap events"),
    Option("max_wrong_status", "answers to a stream's request other than 200 and text/event-stream"),
    Option("max_cut", "streams that the server ended or the network broke; of tokens: answers without an end"),
    Option("max_publish_errors", "events whose publishing was not answered with success"),
    Option("min_published", "how much of what --rate asks for was published, in percent"),
    Option("out", "the folder for all that is written: the report as text, JSON and CSV, and a plot", "FOLDER"),
    Option("run_id", "the run's name in topics and events; random without it", "NAME"),
)


def add_to(parser: argparse.ArgumentParser, defaults: dict[str, Any] | None = None) -> None:
    """Add all options to a parser. ``defaults``, a scenario's own, replace those of `Options`."""
    group = parser.add_argument_group(GROUP, "Bounds that are negative are not judged.")
    known = {each.name: each.default for each in fields(Options)} | (defaults or {})
    for option in OPTIONS:
        default = known[option.name]
        text = option.help.replace("%", "%%")
        if option.repeats:
            group.add_argument(option.flag, action="append", metavar=option.metavar, help=text)
        elif isinstance(default, bool):
            group.add_argument(option.flag, action="store_true", default=default, help=text)
        else:
            shown = "" if default == "" else " (default: %(default)s)"
            metavar = option.metavar or {int: "N", float: "X", str: "TEMPLATE"}[type(default)]
            group.add_argument(option.flag, type=type(default), default=default, metavar=metavar, help=text + shown)
