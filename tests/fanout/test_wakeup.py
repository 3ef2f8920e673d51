"""No wake-up is lost: every interleaving of publishers, an adoption and a loop that goes to sleep, in a model.

The model is the protocol of `mailbox.pyx` with one atomic step for each thing that another thread could see happen: lock, a
write, a read, unlock. The loop of the model waits for ever, whereas the real one looks again after a second: so that a lost
wake-up is a state from which nothing moves on, instead of a delay that nobody notices. What is wrong on purpose (`MUTANTS`)
must be found, or the model would prove nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "sse_core/fanout"

#: What a mail is: a stream to be adopted, or an event.
ADOPT, EVENT = "adopt", "event"


@dataclass(frozen=True)
class State:
    """All that the threads share, and where each of them is."""

    box: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    asleep: bool = False
    #: Whether epoll has an edge of the eventfd that was not waited for yet.
    edge: bool = False
    #: Of the loop: subscribers of the topic.
    count: int = 0
    locked_by: str | None = None
    #: The next step of each thread, by name.
    at: tuple[tuple[str, str], ...] = ()
    #: What a thread has read and acts on later, by name.
    seen: tuple[tuple[str, bool], ...] = ()
    #: Events that reached the subscriber.
    delivered: int = 0

    def step(self, thread: str) -> str:
        return dict(self.at)[thread]

    def go(self, thread: str, step: str, **changes: object) -> State:
        at = tuple(sorted({**dict(self.at), thread: step}.items()))
        return replace(self, at=at, **changes)

    def note(self, thread: str, value: bool) -> tuple[tuple[str, bool], ...]:
        return tuple(sorted({**dict(self.seen), thread: value}.items()))


def signal(state: State, mutant: str) -> dict[str, object]:
    """`mailbox_wake`, under the lock."""
    if not state.asleep:
        return {}
    return {"asleep": False, "edge": state.edge or mutant != "the signal is forgotten"}


def post(state: State, thread: str, mutant: str) -> Iterator[State]:
    """A thread that posts one mail, to be read whatever the loop does: `mailbox_post`, or `Engine.append`."""
    kind = ADOPT if thread.startswith("adopter") else EVENT
    step = state.step(thread)
    if step == "begin":
        if mutant == "subscribers are counted before the lock":
            yield state.go(thread, "lock", seen=state.note(thread, state.count > 0))
        elif mutant == "whether the loop sleeps is read before the lock":
            yield state.go(thread, "lock", seen=state.note(thread, state.asleep))
        else:
            yield state.go(thread, "lock")
    elif step == "lock" and state.locked_by is None:
        first = "wake" if mutant == "the loop is woken before the mail is there" else "put"
        yield state.go(thread, first, locked_by=thread)
    elif step == "put":
        following = "unlock" if mutant == "the loop is woken before the mail is there" else "wake"
        yield state.go(thread, following, box=(*state.box, kind))
    elif step == "wake":
        wanted = kind == ADOPT or state.count > 0
        changes: dict[str, object] = {}
        if mutant == "subscribers are counted before the lock" and kind == EVENT:
            wanted = dict(state.seen)[thread]
        if mutant == "an adoption does not wake" and kind == ADOPT:
            wanted = False
        if mutant == "whether the loop sleeps is read before the lock":
            changes = {"asleep": False, "edge": True} if wanted and dict(state.seen)[thread] else {}
        elif wanted:
            changes = signal(state, mutant)
        if mutant == "the loop is woken before the mail is there":
            # And the lock is given up in between, or the order would not matter.
            yield state.go(thread, "lock again", locked_by=None, **changes)
        else:
            yield state.go(thread, "unlock", **changes)
    elif step == "lock again" and state.locked_by is None:
        yield state.go(thread, "put", locked_by=thread)
    elif step == "unlock":
        yield state.go(thread, "done", locked_by=None)


def loop(state: State, mutant: str) -> Iterator[State]:
    """The loop: `mailbox_take`, the mail one by one, `mailbox_doze`, `epoll_wait`."""
    me = "loop"
    step = state.step(me)
    unlocked = mutant == "mail is taken without the lock"
    if step == "take" and (state.locked_by is None or unlocked):
        if unlocked:
            # What was put between reading the box and emptying it is lost.
            yield state.go(me, "empty", taken=state.box)
        else:
            yield state.go(me, "read", taken=state.box, box=(), asleep=False)
    elif step == "empty":
        yield state.go(me, "read", box=(), asleep=False)
    elif step == "read":
        if not state.taken:
            yield state.go(me, "doze")
            return
        mail, rest = state.taken[0], state.taken[1:]
        if mail == ADOPT:
            yield state.go(me, "read", taken=rest, count=state.count + 1)
        else:
            yield state.go(me, "read", taken=rest, delivered=state.delivered + (state.count > 0))
    elif step == "doze" and mutant == "the box is looked at before the lock":
        yield state.go(me, "doze, locked", seen=state.note(me, not state.box))
    elif step == "doze" and mutant == "sleep is noted after the lock":
        if state.locked_by is None:
            yield state.go(me, "note", seen=state.note(me, not state.box))
    elif step == "note":
        empty = dict(state.seen)[me]
        yield state.go(me, "wait" if empty else "take", asleep=empty)
    elif step == "doze" and mutant == "nobody notes that the loop sleeps":
        if state.locked_by is None:
            yield state.go(me, "take" if state.box else "wait")
    elif step in ("doze", "doze, locked") and state.locked_by is None:
        empty = dict(state.seen)[me] if step == "doze, locked" else not state.box
        if mutant == "the loop sleeps on a full box":
            empty = True
        following = "take"
        if empty:
            following = "clear" if mutant == "the eventfd is cleared before the wait" else "wait"
        yield state.go(me, following, asleep=empty)
    elif step == "clear":
        yield state.go(me, "wait", edge=False)
    elif step == "wait" and state.edge:
        yield state.go(me, "take", edge=False)


def stuck(threads: tuple[str, ...], mutant: str = "") -> list[State]:
    """Every state from which nothing moves on, over all interleavings."""
    begin = State(at=tuple(sorted([("loop", "take"), *((thread, "begin") for thread in threads)])))
    seen, todo, found = {begin}, [begin], []
    while todo:
        state = todo.pop()
        following = [*loop(state, mutant), *(after for thread in threads for after in post(state, thread, mutant))]
        if not following:
            found.append(state)
        for after in following:
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return found


def is_lost(state: State) -> bool:
    """Whether mail lies there that somebody waits for: an adoption, or an event behind one."""
    if any(step not in ("done", "wait") for _, step in state.at):
        return True
    waiting = (*state.taken, *state.box)
    return ADOPT in waiting or (state.count > 0 and EVENT in waiting)


MUTANTS = (
    "the signal is forgotten",
    "subscribers are counted before the lock",
    "whether the loop sleeps is read before the lock",
    "the loop is woken before the mail is there",
    "an adoption does not wake",
    "mail is taken without the lock",
    "the box is looked at before the lock",
    "sleep is noted after the lock",
    "nobody notes that the loop sleeps",
    "the loop sleeps on a full box",
    "the eventfd is cleared before the wait",
)
CASTS = (("publisher 1", "publisher 2"), ("adopter", "publisher 1"), ("adopter", "publisher 1", "publisher 2"))


@pytest.mark.parametrize("threads", CASTS, ids=" and ".join)
def test_no_interleaving_leaves_mail_with_a_sleeping_loop(threads: tuple[str, ...]) -> None:
    """However publishers, an adoption and the loop take turns, the loop never sleeps on mail that somebody waits for."""
    found = stuck(threads)
    assert found
    assert not [state for state in found if is_lost(state)]


def posted(state: State, threads: tuple[str, ...]) -> bool:
    """Whether all that was posted is still somewhere: read, or waiting."""
    read = state.count + len(state.taken) + len(state.box)
    return read >= sum(thread.startswith("adopter") for thread in threads)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_protocol_is_found(mutant: str) -> None:
    """The model finds each way in which a wake-up or a mail could be lost."""
    assert any(is_lost(state) or not posted(state, threads) for threads in CASTS for state in stuck(threads, mutant)), (
        "the model does not see it"
    )


#: What the model is of, comments and declarations left out. Where one of these is changed the model has to follow.
PROTOCOL = {
    ("mailbox.pyx", "mailbox_wake"): """
        if mailbox.asleep:
            mailbox.asleep = False
            write(mailbox.eventfd, &one, sizeof(one))
    """,
    ("mailbox.pyx", "mailbox_doze"): """
        pthread_mutex_lock(&mailbox.lock)
        empty = mailbox.fill == 0
        mailbox.asleep = empty
        pthread_mutex_unlock(&mailbox.lock)
        return empty
    """,
    ("mailbox.pyx", "mailbox_post"): """
        pthread_mutex_lock(&mailbox.lock)
        result = mailbox_reserve(mailbox, mail_size(mail.body))
        if result == 0:
            mailbox_put(mailbox, mail, body)
            mailbox_wake(mailbox)
        pthread_mutex_unlock(&mailbox.lock)
        return result
    """,
}


def lines(text: str) -> list[str]:
    """The lines of a text that do something."""
    found = (re.sub(r"\s+#.*", "", line).strip() for line in text.splitlines())
    return [line for line in found if line and not line.startswith(("#", "cdef ", '"""'))]


@pytest.mark.parametrize(("file", "function"), PROTOCOL, ids=lambda name: name)
def test_the_model_is_of_the_code(file: str, function: str) -> None:
    """The functions that the model stands for are those that the model was made of."""
    source = (SOURCE / file).read_text(encoding="utf-8")
    body = re.search(rf"^cdef [^\n]*\b{function}\([^\n]*\n(.*?)(?=^\S|\Z)", source, re.MULTILINE | re.DOTALL)
    assert body is not None
    assert lines(body[1]) == lines(PROTOCOL[file, function])
