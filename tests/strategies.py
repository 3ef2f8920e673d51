"""What property tests of the wire draw from: legal events, hostile text, hostile streams, and ways to cut a stream."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from sse_core.event import Event

MAX_RETRY = 2**31 - 1

# Whatever UTF-8 can carry, with the characters that matter to the wire drawn often.
_DELICATE = st.sampled_from(
    ["\r", "\n", "\r\n", ":", " ", "\0", "\ufeff", "\x85", "\u2028", "data: x", "id: 1", "\n\n"]
)
_ANY = st.characters(exclude_categories=["Cs"])


def texts(exclude: str = "", *, min_size: int = 0) -> st.SearchStrategy[str]:
    """Text that can be encoded and has none of the excluded characters."""
    pieces = st.one_of(_ANY, _DELICATE).filter(lambda piece: not set(piece) & set(exclude))
    return st.lists(pieces, min_size=min_size, max_size=12).map("".join)


def _optional(values: st.SearchStrategy[str] | st.SearchStrategy[int]) -> st.SearchStrategy[str | int | None]:
    return st.one_of(st.none(), values)


def events(*, with_data: bool = True) -> st.SearchStrategy[Event]:
    """Any event that the constructor accepts; without data it has another field at least."""
    made = st.builds(
        Event,
        texts() if with_data else _optional(texts()),
        event=_optional(texts("\r\n", min_size=1)),
        id=_optional(texts("\r\n\0")),
        retry=_optional(st.integers(0, MAX_RETRY)),
        comment=_optional(texts()),
    )
    return made if with_data else made.filter(lambda event: repr(event) != "Event()")


_PIECES = st.sampled_from(
    [
        *(bytes([byte]) for byte in b"\r\n: \0a19"),
        *(b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"),
        *(b"data", b"event", b"id", b"retry", b"data:", b"event:", b"id:", b"retry:", b"data: x\n", b"id: 7\n"),
        *(b"event: a\n", b"retry: 25\n", b"99999999999", b"dat", b"DATA"),
        *(b"\xef", b"\xbb", b"\xbf", b"\xef\xbb\xbf"),
        *(b"\xc3\xa9", b"\xe2\x82", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\xc0\x8a", b"\x80", b"\xff", b"\xf4\x90"),
    ]
)


def streams() -> st.SearchStrategy[bytes]:
    """Bytes that nearly make sense as an event stream."""
    return st.lists(st.one_of(_PIECES, st.binary(max_size=3)), max_size=60).map(b"".join)


def cuts(stream: bytes) -> st.SearchStrategy[list[bytes]]:
    """The stream in chunks cut anywhere, empty ones included."""
    places = st.lists(st.integers(0, len(stream)), max_size=20)
    return places.map(lambda at: [stream[a:b] for a, b in pairwise([0, *sorted(at), len(stream)])])
