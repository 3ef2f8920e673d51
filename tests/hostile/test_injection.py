"""No text that comes in breaks out of its field on the wire, through every input that ends there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_core import Event
from sse_core.testing import StreamReader
from tests.servers import Server, running_service
from tests.strategies import texts

#: Over sockets each example takes some milliseconds; what a function does alone is tried more often elsewhere.
OVER_SOCKETS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "log"
    path.touch()
    return path


@pytest.fixture(scope="module")
def service(log: Path) -> Iterator[Server]:
    with running_service(logs={"app": log}, keepalive=60) as server:
        yield server


@pytest.fixture(scope="module")
def stream(service: Server) -> Iterator[StreamReader]:
    """One stream of the topic ``t`` for all examples."""
    with service.reader("/events?topic=t") as reader:
        service.publish("t", "opened")
        assert reader.read()[0].data == "opened"
        yield reader


def marker(service: Server, stream: StreamReader) -> list[Event]:
    """All events of the stream up to one that is published now, without that one."""
    last = service.publish("t", "marker")
    received = stream.read(1)
    while received[-1].id != last:
        received += stream.read(1)
    return received[:-1]


@OVER_SOCKETS
@given(
    data=st.one_of(texts(), st.lists(texts(), max_size=3), st.dictionaries(texts(), texts(), max_size=3)),
    event=st.one_of(st.none(), texts()),
    id=st.one_of(st.none(), texts()),
    retry=st.one_of(st.none(), st.integers(-1, 2**40), texts()),
)
def test_what_is_published_is_one_event_or_none(
    service: Server, stream: StreamReader, data: Any, event: str | None, id: str | None, retry: Any
) -> None:
    """Whatever stands in data, event, id and retry: it is refused, or every listener gets exactly that event and no other."""
    fields = {name: value for name, value in (("event", event), ("id", id), ("retry", retry)) if value is not None}
    body = json.dumps({"topic": "t", "data": data, **fields}).encode()
    answer = service.request("POST", "/publish", body, JSON)
    received = marker(service, stream)

    if answer.status != 200:
        assert answer.status == 422
        assert received == []
        return
    receipt = answer.json()
    if receipt["duplicate"]:
        assert received == []
        return
    (got,) = received
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    assert got.id == receipt["id"]
    assert got.event == (event or None)
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert got.data == expected if isinstance(data, str) else json.loads(got.data or "") == data


@OVER_SOCKETS
@given(topic=texts())
def test_a_topic_is_one_topic_or_none(service: Server, stream: StreamReader, topic: str) -> None:
    """Whatever a topic is called, it is refused, or it is that topic and no other; its gap names it as one JSON string."""
    if topic == "t":
        return
    answer = service.request("POST", "/publish", json.dumps({"topic": topic, "data": 1}).encode(), JSON)
    assert marker(service, stream) == []
    assert answer.status in (200, 403, 422)
    if answer.status == 200 and answer.json()["id"]:
        with service.reader(f"/events?topic={quote(topic, safe='')}&last_event_id=1-1") as reader:
            gap, event = reader.read(2)
            assert (gap.event, json.loads(gap.data or "")["topic"]) == ("gap", topic)
            assert (event.id, event.data) == (answer.json()["id"], "1")


@OVER_SOCKETS
@given(line=st.one_of(texts("\n"), st.binary(max_size=60).filter(lambda line: b"\n" not in line)))
def test_a_line_of_a_log_is_one_event(service: Server, log: Path, line: str | bytes) -> None:
    """Whatever is written into a log, controls and bytes that are no UTF-8 too, one line is one event with it in JSON."""
    raw = line.encode() if isinstance(line, str) else line
    with service.reader("/logs/app") as reader:
        with log.open("ab") as file:
            file.write(b"begin\n" + raw + b"\nend\n")
        lines: list[str] = []
        while lines[-1:] != ["end"]:
            (event,) = reader.read(1)
            if event.event not in ("skipped",):
                lines.append(json.loads(event.data or "")["line"])
        assert "begin" in lines
        kept = lines[len(lines) - lines[::-1].index("begin") :]
        expected = raw.removesuffix(b"\r").decode("utf-8", "replace")
        assert kept in ([expected, "end"], ["end"]) if not expected else kept == [expected, "end"]


@OVER_SOCKETS
@given(name=texts())
def test_the_name_of_a_job_is_data(service: Server, name: str) -> None:
    """Whatever a file is called, it is refused, or its run tells it as one JSON string."""
    octets = {"Content-Type": "application/octet-stream"}
    answer = service.request("POST", f"/jobs?name={quote(name, safe='')}", b"x\n", octets)
    assert answer.status in (202, 400)
    if answer.status == 202:
        with service.reader(answer.json()["events"]) as reader:
            *_, last = reader.read_to_end()
        assert last.event == "done"
        assert json.loads(last.data or "")["name"] == name
