"""The hubs that the settings describe: their options are fields of `Settings`, one to one."""

from __future__ import annotations

from sse_core import Hub, TopicOptions

from .backplane import create_backplanes
from .settings import Settings
from .topics import (
    DOCTOR_PREFIX,
    METRIC_TOPIC,
    REVOCATION_HISTORY_FACTOR,
    REVOCATION_SECONDS,
    REVOCATION_TOPIC,
    RUN_PREFIX,
    SERVER_PREFIX,
    WATCH_PREFIX,
)

# What charts are drawn from: five minutes of some thirty workers, one event of 300 bytes a second each. Who lags is told a
# gap and goes on: a hole in a chart is not worth the end of a stream that carries other topics too.
METRIC_HISTORY = TopicOptions(policy="skip", history_age=300.0, history_events=10_000, history_bytes=4 << 20)

# An entry of the revocations, framed: 255 characters of four bytes each, and what is around them.
MOST_ENTRY_BYTES = 1280

# Those that a hub has for runs by itself.
RUN_OPTIONS = TopicOptions(ends=True, history_events=100_000, history_bytes=8 << 20, lag_bytes=8 << 20)


def create_hubs(settings: Settings) -> dict[str, Hub]:
    """Return a hub for each namespace. They are values until first used: no thread, no descriptor, no connection.

    Raises `ConfigurationError` for options that contradict each other.
    """
    topics = {pattern: options.options() for pattern, options in settings.topics.items()}
    if not any(pattern.startswith(RUN_PREFIX) for pattern in topics):
        # Before a pattern for everything: without an end a topic cannot be a run, and nobody who writes "*" means that.
        topics = {RUN_PREFIX + "*": RUN_OPTIONS, **topics}
    # Before whatever the settings say: who was shut out must not come in again because a pattern was short.
    kept = settings.max_revocations * REVOCATION_HISTORY_FACTOR
    revocations = TopicOptions(
        history_events=kept, history_bytes=kept * MOST_ENTRY_BYTES, history_age=float(REVOCATION_SECONDS)
    )
    topics = {REVOCATION_TOPIC: revocations, **topics}
    topics.setdefault(METRIC_TOPIC, METRIC_HISTORY)
    # Counters are a state: who listens wants the newest, and nobody resumes them. A pattern of the settings comes first.
    topics.setdefault(SERVER_PREFIX + "*", TopicOptions(policy="latest", history_events=1))
    # So is a watched value, which may be old and still be the newest.
    topics.setdefault(WATCH_PREFIX + "*", TopicOptions(policy="latest", history_events=1, history_age=0))
    # A moment of one client. What it asks for last has to fit.
    topics.setdefault(DOCTOR_PREFIX + "*", TopicOptions(history_events=64, history_bytes=2 << 20, history_age=60))
    backplane_of = create_backplanes(settings)
    return {
        namespace: Hub(
            backplane_of(namespace),
            loops=settings.loops,
            topics=topics,
            keepalive=settings.keepalive,
            retry=settings.retry,
            send_timeout=settings.send_timeout,
            gap_event=settings.gap_event,
            max_event_bytes=settings.max_event_bytes,
            max_streams=settings.max_streams,
            max_topics=settings.max_topics,
            max_stream_topics=settings.max_stream_topics,
            max_history_bytes=settings.max_history_bytes,
            mailbox_bytes=settings.mailbox_bytes,
            max_producers=settings.max_producers,
            ahead_bytes=settings.ahead_bytes,
            drain_seconds=settings.drain_seconds,
            drain_retry=settings.drain_retry,
            io_uring=settings.io_uring,
        )
        for namespace in settings.namespaces
    }
