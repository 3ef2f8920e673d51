from collections.abc import Sequence
from typing import Literal

COUNTERS: tuple[str, ...]
END_REASON_NAMES: tuple[str, ...]
STREAM_BYTES: int
MAX_STREAM_TOPICS: int

def is_gauge(name: str) -> bool: ...

class Engine:
    def __init__(
        self,
        *,
        loops: int,
        born: int,
        max_topics: int,
        keepalive_ms: int,
        send_timeout_ms: int,
        drain_retry: tuple[int, int],
        mailbox_bytes: int,
        history_bytes: int,
        ration: int,
        gap_event: bytes,
    ) -> None: ...
    def open_topic(
        self,
        number: int,
        name_json: bytes,
        *,
        policy: Literal["disconnect", "skip", "latest"],
        max_events: int,
        max_bytes: int,
        age_ms: int,
        lag: int,
        floor: int,
    ) -> None: ...
    def close_topic(self, number: int) -> None: ...
    def append(self, topic: int, ident: int, frame: bytes) -> bool: ...
    def append_many(self, items: Sequence[tuple[int, int, bytes]]) -> bool: ...
    def adopt(
        self, fd: int, tag: int, topics: Sequence[int], after: int, fresh: bool = False, unknown: bool = False
    ) -> None: ...
    def drain(self, milliseconds: int) -> None: ...
    def stop(self) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def streams(self) -> int: ...
    def heartbeats(self) -> list[int]: ...
    def topic_state(self, number: int) -> tuple[int, int, int, bool]: ...
    def ended(self) -> list[tuple[int, str]]: ...
