from io import BytesIO
from typing import Any

class Request:
    method: str
    uri: str
    path: str
    query: str
    fields: dict[str, str]
    body: BytesIO
    environ: dict[str, Any] | None
    fragment: str
    version: tuple[int, int]
    scheme: str
    proxy_protocol_info: None

    def should_close(self) -> bool: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...

def parse_request(data: bytes, most_line: int, most_fields: int, most_field: int) -> Request | None: ...
def format_head(status: str, headers: list[tuple[str, str]], dropped: frozenset[str]) -> tuple[bytes, int] | None: ...
