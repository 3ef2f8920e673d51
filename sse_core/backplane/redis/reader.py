"""`Reader`: the thread that owns one subscriber connection, for all namespaces whose primary is the same server.

Theory of operation:

1. Everything that touches the connection or a `Feed` runs on this thread. Others post requests and wait for an event.
2. After each connect all channels are subscribed anew, every confirmation is awaited, and only then is history fetched:
   what arrives live from then on and what is fetched leave no hole between them.
3. A beat is due each second. After `_SILENCE` without one, or any event, the connection counts as dead, even if the
   kernel thinks otherwise: the slot may have moved, the primary may be cut off.
4. The topics of a hub are left a while after their last stream has ended, for those who only reconnect.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import selectors
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from sse_core.backplane.redis.commands import Clock
from sse_core.backplane.redis.member import Member
from sse_core.backplane.redis.message import MessageError, decode, parse_number
from sse_core.backplane.redis.subscriber import Subscriber
from sse_core.backplane.redis.topology import Topology, is_retryable
from sse_core.errors import BackplaneError, HubClosedError

_log = logging.getLogger("sse_core.backplane.redis")

#: Seconds without a beat of a namespace after which the connection counts as dead: three are missing.
_SILENCE = 3.5
#: Seconds that a topic is kept at least: between a stream's head and its adoption it must not be left.
_LEAST_GRACE = 1.0
#: Seconds between two attempts to connect: the first, and the most.
_BACKOFF = 0.1, 2.0
#: Seconds after which a connection was a good one, and the next attempts begin soon again.
_WELL = 5.0


class _SilenceError(ConnectionError):
    """The connection says nothing any more, or not what it should."""


class _AnewError(Exception):
    """Namespaces have come or gone: connect anew for those that there are."""


class Reader:
    """See the module. ``rejoin`` is given the members that turn out to belong to another server."""

    def __init__(self, topology: Topology, shard: Hashable, member: Member, rejoin: Callable[[Member], None]) -> None:
        self._topology = topology
        self._shard = shard
        self._rejoin = rejoin
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._joining = [member]
        self._channels: dict[bytes, tuple[Member, str | None]] = {}
        # Channels whose unsubscription was asked for and is not confirmed, with how often.
        self._leaving: Counter[bytes] = Counter()
        self._subscriber: Subscriber | None = None
        self._ended = False
        self._waking, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"sse-redis-{shard}", daemon=True)
        self._thread.start()

    # ---- from other threads ----

    def join(self, member: Member) -> bool:
        """Take a member up; False if this reader has ended."""
        with self._lock:
            if self._ended:
                return False
            self._joining.append(member)
            self._signal()
        return True

    def wake(self) -> None:
        """Make it look at what was asked of it, or that a member is closed. When no member is left it ends."""
        # Under the lock: once it has ended the descriptor's number may be somebody else's.
        with self._lock:
            if not self._ended:
                self._signal()

    def _signal(self) -> None:
        # Full means that it is awake already.
        with contextlib.suppress(BlockingIOError):
            os.write(self._woken, b"\0")

    # ---- the thread ----

    def _run(self) -> None:
        attempt = 0
        connected_at = 0.0
        try:
            while True:
                try:
                    self._take_up()
                    if not self._members:
                        if self._end_if_unused():
                            return
                        continue
                    self._connect()
                    connected_at = time.monotonic()
                    self._serve()
                except _AnewError:
                    self._hang_up()
                except HubClosedError:
                    # In the middle of a delivery. `_take_up` leaves the namespace out, once its backplane is closed.
                    self._hang_up()
                    self._sleep(_BACKOFF[0])
                except Exception as error:
                    if not (is_retryable(error) or isinstance(error, _SilenceError)):
                        _log.exception("Reading from Redis failed; connecting anew.")
                    else:
                        _log.warning("The connection to Redis was lost (%s); connecting anew.", error)
                    self._disconnect()
                    self._refresh()
                    # What fails again at once is not asked for history again and again.
                    if connected_at and time.monotonic() - connected_at > _WELL:
                        attempt = 0
                    connected_at = 0.0
                    least, most = _BACKOFF
                    self._sleep(min(least * 2**attempt, most) * random.uniform(0.5, 1.0))
                    attempt = min(attempt + 1, 10)
                    for member in self._members.values():
                        member.reconnects += 1
        finally:
            self._disconnect()
            with self._lock:
                self._ended = True
                os.close(self._waking)
                os.close(self._woken)

    def _end_if_unused(self) -> bool:
        with self._lock:
            self._ended = not self._joining
            return self._ended

    def _refresh(self) -> None:
        try:
            self._topology.refresh()
        except Exception as error:
            _log.warning("Redis could not be asked for its primaries: %s", error)

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._has_closed() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _has_closed(self) -> bool:
        return any(member.closed for member in self._members.values())

    def _take_up(self) -> None:
        """Take the members that wait for it, and give away those whose primary is another server now."""
        with self._lock:
            joining, self._joining = self._joining, []
        for member in joining:
            self._members[member.names.namespace] = member
        for namespace, member in list(self._members.items()):
            if member.closed:
                member.fail(BackplaneError(1.0, "the hub was closed"))
            elif self._topology.shard(namespace) != self._shard:
                # If nobody can take it now, it is tried again.
                self._rejoin(member)
            else:
                continue
            del self._members[namespace]

    def _connect(self) -> None:
        """Connect, subscribe all, await the confirmations, catch up."""
        self._channels = {}
        self._leaving.clear()
        for member in self._members.values():
            self._channels[member.names.beat] = member, None
            self._channels |= {member.names.live(topic): (member, topic) for topic in member.feed.topics}
        self._subscriber = self._topology.connect(next(iter(self._members)))
        self._subscriber.subscribe(self._channels)
        self._await_confirmations(set(self._channels))
        for member in self._members.values():
            member.feed.catch_up()
            member.connected = member.tried = True
            member.note_moved()
        for member in self._members.values():
            member.heard_at = time.monotonic()

    def _await_confirmations(self, awaited: set[bytes]) -> None:
        assert self._subscriber is not None
        deadline = time.monotonic() + _SILENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self._subscriber, selectors.EVENT_READ)
            while awaited:
                # What else arrives is older than the clock that catching up begins with.
                for kind, channel, _ in self._subscriber.receive():
                    if kind == b"ssubscribe":
                        awaited.discard(channel)
                        deadline = time.monotonic() + _SILENCE
                if awaited:
                    if self._has_closed():
                        raise _AnewError
                    if time.monotonic() > deadline:
                        raise _SilenceError("subscriptions were not confirmed in time")
                    selector.select(0.1)

    def _serve(self) -> None:
        assert self._subscriber is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._subscriber, selectors.EVENT_READ)
            selector.register(self._waking, selectors.EVENT_READ)
            while True:
                replies = self._subscriber.receive()
                for kind, channel, data in replies:
                    self._dispatch(kind, channel, data)
                if self._joining or self._has_closed():
                    # That is rare, and connecting anew for all is the one way to begin.
                    raise _AnewError
                now = time.monotonic()
                for member in self._members.values():
                    if replies:
                        member.note_moved()
                    elif now - member.heard_at > _SILENCE:
                        # Nothing is left to read: it is Redis that is silent, and not this thread that was busy.
                        raise _SilenceError(f"no beat for {now - member.heard_at:.1f} s")
                    self._look_after(member, now)
                selector.select(0.5)
                with contextlib.suppress(BlockingIOError):
                    os.read(self._waking, 4096)

    def _dispatch(self, kind: bytes, channel: bytes, data: bytes | int) -> None:
        if kind == b"sunsubscribe" and channel in self._leaving:
            self._leaving[channel] -= 1
            if not self._leaving[channel]:
                del self._leaving[channel]
            return
        member, topic = self._channels.get(channel, (None, None))
        if member is None:
            return
        if kind == b"smessage":
            assert isinstance(data, bytes)
            member.heard_at = time.monotonic()
            if topic is None:
                member.feed.beat(_clock(data))
            else:
                try:
                    member.feed.live(topic, decode(data))
                except MessageError as error:
                    # What of it is stored comes from the history, where each event is by itself.
                    _log.error("A message in %r cannot be read: %s", topic, error)
                    member.feed.counts["backplane_undeliverable"] += 1
                    member.feed.catch_up()
        elif kind == b"ssubscribe":
            member.awaited.discard(channel)
            if not member.awaited and member.openings:
                self._fill(member)
        elif kind == b"sunsubscribe":
            # One that nobody asked for: the slot has moved to another server.
            raise _SilenceError("the server ended a subscription")

    def _look_after(self, member: Member, now: float) -> None:
        if member.requests and not member.openings:
            self._begin_opening(member)
        # Not between a subscription and its filling: a topic would be left that is about to be filled.
        if now - member.swept_at > member.grace / 4 and not member.openings:
            member.swept_at = now
            self._sweep(member, now, member.grace)

    def _begin_opening(self, member: Member) -> None:
        """Subscribe what the streams that wait have asked for, all together."""
        assert self._subscriber is not None
        channels: dict[bytes, tuple[Member, str | None]] = {}
        while member.requests:
            opening = member.requests.popleft()
            member.openings.append(opening)
            channels |= {
                member.names.live(topic): (member, topic) for topic in opening.topics if not member.feed.has(topic)
            }
        if not channels:
            self._fill(member)
            return
        self._channels |= channels
        member.awaited = set(channels)
        self._subscriber.subscribe(channels)

    def _fill(self, member: Member) -> None:
        """All subscriptions are confirmed: fetch the history, and let the streams begin."""
        assert self._subscriber is not None
        topics = [topic for opening in member.openings for topic in opening.topics]
        refused = member.feed.fill(topics)
        # Those that nobody listens to make room, before their time.
        if refused and self._sweep(member, time.monotonic(), _LEAST_GRACE):
            refused = member.feed.fill(topics)
        self._unsubscribe(member, list(refused))
        # Only now: if fetching fails, they are told by `_disconnect`.
        openings, member.openings = member.openings, []
        for opening in openings:
            opening.finish(next((refused[topic] for topic in opening.topics if topic in refused), None))
        member.note_moved()

    def _sweep(self, member: Member, now: float, grace: float) -> bool:
        """Leave the topics that have had no stream for a while; say whether there were any."""
        left = []
        for topic, streams in member.receiver.audience().items():
            if streams:
                member.touched[topic] = now
            elif now - member.touched.setdefault(topic, now) >= grace and member.feed.leave(topic):
                left.append(topic)
                member.touched.pop(topic, None)
        self._unsubscribe(member, left)
        # Those that were wanted, but could not be had.
        for topic, at in list(member.touched.items()):
            if now - at > member.grace and not member.feed.has(topic):
                member.touched.pop(topic, None)
        return bool(left)

    def _unsubscribe(self, member: Member, topics: Sequence[str]) -> None:
        channels = [member.names.live(topic) for topic in topics]
        for channel in channels:
            del self._channels[channel]
            self._leaving[channel] += 1
        if channels and self._subscriber is not None:
            self._subscriber.unsubscribe(channels)

    def _hang_up(self) -> None:
        """Close the connection; who waits goes on waiting for the next one."""
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
        for member in self._members.values():
            member.hang_up()

    def _disconnect(self) -> None:
        """The connection is lost: tell those who wait."""
        self._hang_up()
        for member in [*self._members.values(), *self._joining]:
            member.fail(BackplaneError(1.0, "the connection to Redis was lost"))


def _clock(data: bytes) -> Clock:
    last, _, born = data.partition(b" ")
    numbers = parse_number(last), parse_number(born)
    if numbers[0] is None or numbers[1] is None:
        raise _SilenceError(f"a beat that is none: {data!r}")
    return Clock(numbers[0], numbers[1])
