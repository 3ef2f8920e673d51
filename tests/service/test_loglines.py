from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_kit.loglines import INITIAL_BYTES, Line, LineSplitter, NotAFileError, OpenLog, TruncatedError


@given(lines=st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line)), cuts=st.lists(st.integers(0, 60)))
def test_chunks_do_not_matter(lines: list[bytes], cuts: list[int]) -> None:
    """The same lines come out however the bytes are cut, and none is lost: each is short, or its cut is counted."""
    splitter = LineSplitter(max_bytes=4)
    data = b"".join(line + b"\n" for line in lines)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    found = [line for start, end in itertools.pairwise(edges) for line in splitter.feed(data[start:end])]

    assert len(found) == len(lines)
    assert splitter.rest() is None
    assert splitter.start == len(data)
    for line, given_line in zip(found, lines, strict=True):
        assert data[line.start :].startswith(given_line + b"\n")
        if len(given_line) <= 4:
            assert line[:2] == (given_line.removesuffix(b"\r").decode("utf-8", "replace"), 0)
        else:
            shown = len(given_line) - line.cut
            assert line.text == given_line[:shown].decode("utf-8", "replace")
            assert 0 < shown <= 4


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"unfinished", []),
        (b"a\nb\n", [Line("a"), Line("b", start=2)]),
        (b"\n\n", [Line(""), Line("", start=1)]),
        (b"a\r\nb\rc\n", [Line("a"), Line("b\rc", start=3)]),
        (b"\xff\xe2\x82\n", [Line("\ufffd\ufffd")]),
        (b"123456789\n", [Line("12345678", cut=1)]),
        ("1234567€\n".encode(), [Line("1234567", cut=3)]),
        (b"x" * 100 + b"\nshort\n", [Line("xxxxxxxx", cut=92), Line("short", start=101)]),
    ],
)
def test_lines(data: bytes, lines: list[Line]) -> None:
    """Lines are whole, end in LF or CRLF, and are cut at a character when they are longer than 8 bytes."""
    assert list(LineSplitter(max_bytes=8).feed(data)) == lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a log would be."""
    return tmp_path / "log"


@pytest.fixture
def opened(path: Path) -> Iterator[OpenLog]:
    """A log with three lines and an unfinished one."""
    path.write_bytes(b"one\ntwo\nthree\nunfi")
    log = OpenLog(path, 1000)
    yield log
    log.close()


def rest_of(log: OpenLog) -> list[str]:
    found = []
    while (lines := log.read()) is not None:
        found += [line.text for line in lines]
    return found


@pytest.mark.parametrize(
    ("lines", "shown"),
    [(0, []), (1, ["three"]), (2, ["two", "three"]), (3, ["one", "two", "three"]), (9, ["one", "two", "three"])],
)
def test_last_lines(path: Path, opened: OpenLog, lines: int, shown: list[str]) -> None:
    """The last lines are whole lines; the unfinished one follows when it is finished."""
    opened.skip_to_last(lines)
    assert rest_of(opened) == shown

    with path.open("ab") as file:
        file.write(b"nished\n")
    assert rest_of(opened) == ["unfinished"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"", []),
        (b"unfinished", []),
        (b"\n", [""]),
        (b"x" * INITIAL_BYTES + b"\nlast\n", ["last"]),
        (b"x" * (INITIAL_BYTES + 1), []),
        (b"start\n" + b"y\n" * (INITIAL_BYTES // 2), ["y"] * (INITIAL_BYTES // 2 - 1)),
    ],
)
def test_last_lines_are_bounded(path: Path, content: bytes, shown: list[str]) -> None:
    """However long the lines are, only the end of the file is searched, and no line is shown from its middle on."""
    path.write_bytes(content)
    log = OpenLog(path, 1 << 22)
    try:
        log.skip_to_last(INITIAL_BYTES)
        assert rest_of(log) == shown
    finally:
        log.close()


def test_truncation_is_seen(path: Path, opened: OpenLog) -> None:
    """A file that became shorter is known as truncated, and read from its start."""
    rest_of(opened)
    os.truncate(path, 0)
    with pytest.raises(TruncatedError):
        opened.read()

    assert opened.restart() == Line("unfi", start=14)
    path.write_bytes(b"new\n")
    assert rest_of(opened) == ["new"]


def test_truncation_and_growth_is_seen(path: Path, opened: OpenLog) -> None:
    """A file that was truncated and has outgrown our place since is known by its other content."""
    rest_of(opened)
    with path.open("r+b") as file:
        file.truncate()
        file.write(b"other content, and more of it than before\n")

    with pytest.raises(TruncatedError):
        opened.read()
    opened.restart()
    assert rest_of(opened) == ["other content, and more of it than before"]


def test_growth_is_no_truncation(path: Path, opened: OpenLog) -> None:
    """A file that only grows is not truncated."""
    rest_of(opened)
    for number in range(100):
        with path.open("ab") as file:
            file.write(b"%d\n" % number)
        assert rest_of(opened)[-1].endswith(str(number))


def test_which_file_the_path_names(path: Path, opened: OpenLog) -> None:
    """A renamed file is told from the one that takes its place, and from a path that names nothing."""
    assert opened.is_at(path) is True

    path.rename(path.with_suffix(".1"))
    assert opened.is_at(path) is None
    path.write_bytes(b"")
    assert opened.is_at(path) is False


def test_only_files(tmp_path: Path) -> None:
    """What has no end to read to is refused at once: a folder, a pipe."""
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(NotAFileError):
            OpenLog(path, 1000)
