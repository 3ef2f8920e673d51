"""The documents speak of things that exist: names, defaults, counters, files, links; and their programs run."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sse_core import EventParser, Hub, MemoryBackplane, RedisBackplane, TopicOptions
from sse_kit.settings import Settings
from tests.test_examples import Program

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "loadtest/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = ("benchmarks", "docs", "examples", "k8s", "loadtest", "nginx", "scripts", "service", "sse_core", "tests")
#: A table with one of these columns is about options, and has their defaults.
OPTION_COLUMNS = ("bound", "option")


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """What is written as code within the text."""
    return re.findall(r"`([^`\n]+)`", text)


def programs(path: Path) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def tables(path: Path) -> Iterator[tuple[list[str], list[list[str]]]]:
    """The head and the rows of each table."""
    is_row = [line.startswith("|") for line in prose(path).splitlines()]
    for row, group in itertools.groupby(zip(is_row, prose(path).splitlines(), strict=True), key=lambda pair: pair[0]):
        if row:
            head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for _, line in group)
            yield head, rows


def rows_of(column: str) -> list[dict[str, str]]:
    """All rows of all tables that have that column, by column."""
    return [
        dict(zip(head, row, strict=True))
        for path in DOCUMENTS
        for head, rows in tables(path)
        if column in head
        for row in rows
    ]


def resolve(name: str) -> Any:
    """The object of a dotted name. Raises where there is none."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise LookupError(name)


def defaults() -> dict[str, Any]:
    """The defaults of all options that a document may name, each by its name."""
    found: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        found[name] = field.default
    for owner in (EventParser, RedisBackplane, MemoryBackplane, TopicOptions, Hub):
        parameters = inspect.signature(owner).parameters.values() if owner is not EventParser else ()
        found |= {parameter.name: parameter.default for parameter in parameters}
    return found


class TestNames:
    """What is named exists."""

    @pytest.mark.parametrize("path", DOCUMENTS, ids=place)
    def test_every_name_of_the_packages_can_be_imported(self, path: Path) -> None:
        """`sse_core.x` and `sse_kit.x` in a document are names that Python finds."""
        for span in spans(prose(path)):
            if re.fullmatch(r"(sse_core|sse_kit)(\.\w+)+", span):
                assert resolve(span) is not None

    @pytest.mark.parametrize("path", DOCUMENTS, ids=place)
    def test_every_attribute_of_a_class_exists(self, path: Path) -> None:
        """`Hub.publish` and its like are attributes of the class."""
        homes = {
            "Hub": "sse_core",
            "EventStream": "sse_core",
            "Ledger": "sse_core.testing",
            "StreamReader": "sse_core.testing",
            "EventWorker": "sse_core.worker",
            "Engine": "sse_core.fanout.engine",
            "ThreadWorker": "gunicorn.workers.gthread",
        }
        for span in spans(prose(path)):
            match = re.fullmatch(r"([A-Z]\w+)\.(\w+)", span)
            if match:
                assert hasattr(resolve(f"{homes[match[1]]}.{match[1]}"), match[2]), span

    @pytest.mark.parametrize("path", DOCUMENTS, ids=place)
    def test_every_file_and_folder_exists(self, path: Path) -> None:
        """A path that begins with a folder of the repository leads to something."""
        for span in spans(prose(path)):
            if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]*", span):
                assert (ROOT / span).exists(), span

    @pytest.mark.parametrize("path", DOCUMENTS, ids=place)
    def test_every_link_leads_somewhere(self, path: Path) -> None:
        """Relative links point at files of the repository, and their anchors at headings."""
        for target in re.findall(r"\]\(([^)]+)\)", prose(path)):
            if target.startswith("https://"):
                continue
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), flags=re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in slugs, target

    def test_every_function_that_is_named_is_in_the_file_named_with_it(self) -> None:
        """Names of native functions, which Python cannot find, are in the sources."""
        native = "".join(path.read_text() for path in (ROOT / "sse_core" / "fanout").glob("*.pyx"))
        for path in DOCUMENTS:
            for span in spans(prose(path)):
                if re.fullmatch(r"_[a-z_]+", span):
                    assert f" {span}(" in native, span


class TestNumbers:
    """What is said of options and counters is so."""

    def test_every_option_of_a_table_has_the_default_that_it_says(self) -> None:
        """The tables of bounds and options agree with the signatures."""
        known = defaults()
        rows = [(row[column].strip("`"), row["default"]) for column in OPTION_COLUMNS for row in rows_of(column)]

        assert rows
        for name, default in rows:
            assert name in known, name
            assert known[name] == ast.literal_eval(default.strip("`")), name

    def test_every_option_of_the_hub_and_of_topics_is_documented(self) -> None:
        """No option has to be found by reading the code."""
        documented = {row[column].strip("`") for column in OPTION_COLUMNS for row in rows_of(column)}
        options = {*inspect.signature(Hub).parameters, *inspect.signature(TopicOptions).parameters}

        # The policies have a table of their own, and a function that decides is no bound.
        assert options - documented == {"policy", "authorize"}

    def test_every_counter_of_a_table_is_counted(self) -> None:
        """The counters beside the bounds are keys of a running hub's numbers."""
        with Hub() as hub:
            hub.publish("a", "b")
            counted = {*hub.stats(), *RedisBackplane("redis://127.0.0.1:6379/0").stats()}
        named = {span for row in rows_of("counter") for span in spans(row["counter"])}

        assert named
        assert named <= counted

    def test_the_gap_s_reasons_are_the_engine_s(self) -> None:
        """The table of reasons has each that the engine can give, and no other."""
        native = (ROOT / "sse_core" / "fanout" / "peer.pyx").read_text()
        given = set(re.findall(r'return b"([a-z-]+)"', native))
        documented = {row["reason"].strip("`") for row in rows_of("reason")}

        assert documented == given

    def test_the_routes_are_those_of_the_openapi_document(self) -> None:
        """The summary of the HTTP interface names what the service answers to."""
        document = json.loads((ROOT / "service" / "openapi.json").read_text())
        routes = {route for row in rows_of("route") for route in re.findall(r"(?:GET|POST) (/[^`?]*)", row["route"])}

        assert routes == {path for path in document["paths"] if not path.startswith("/static")}


class TestScenarios:
    """What docs/scenarios.md promises is there, down to the test."""

    SCENARIOS = ROOT / "docs" / "scenarios.md"

    def test_every_row_names_something_and_a_test_of_it(self) -> None:
        """A feature of somebody else's document has a place here and a test; nothing is only claimed."""
        every = list(tables(self.SCENARIOS))

        assert len(every) == 4
        for head, rows in every:
            assert head == ["there", "here", "a test of it", "better"]
            for there, here, test, _ in rows:
                assert there, here
                assert here, there
                assert re.search(r"`tests/[\w/]+\.py::test_\w+`", test), there

    @pytest.mark.parametrize("path", DOCUMENTS, ids=place)
    def test_every_test_that_is_named_exists(self, path: Path) -> None:
        """`tests/file.py::test_name` is a function of that file, be it in a class or not."""
        for span in spans(path.read_text("utf-8")):
            file, separator, name = span.partition("::")
            if separator and file.startswith("tests/"):
                functions = (node for node in ast.walk(ast.parse((ROOT / file).read_text())))
                assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}, span

    def test_every_route_that_is_named_is_one(self) -> None:
        """`GET /...` and `POST /...` in the text are in the OpenAPI document."""
        paths = json.loads((ROOT / "service" / "openapi.json").read_text())["paths"]
        named = [span for span in spans(prose(self.SCENARIOS)) if re.fullmatch(r"(GET|POST) /\S*", span)]

        assert named
        for span in named:
            method, _, path = span.partition(" ")
            # A parameter of the query that the example of a document has.
            assert method.lower() in paths[path.partition("?")[0]], span

    def test_every_panel_that_is_named_is_on_the_page(self) -> None:
        """A panel is called as its heading is."""
        page = (ROOT / "service" / "static" / "index.html").read_text()
        headings = {heading.strip() for heading in re.findall(r"<h2 [^>]*>([^<]+)", page)}
        named = set(re.findall(r'panel "([^"]+)"', self.SCENARIOS.read_text("utf-8")))

        assert named
        assert named <= headings

    def test_every_setting_that_is_named_is_one(self) -> None:
        """Settings are called by their names."""
        text = prose(self.SCENARIOS)
        named = re.findall(r"the settings? `(\w+)`", text) + re.findall(r"the settings `\w+` and `(\w+)`", text)

        assert named
        assert set(named) <= set(Settings.model_fields)


class TestPrograms:
    """What is shown runs."""

    @pytest.mark.parametrize(
        ("path", "number"),
        [(path, number) for path in DOCUMENTS for number in range(len(programs(path)))],
        ids=lambda value: place(value) if isinstance(value, Path) else str(value),
    )
    def test_every_program_runs(self, path: Path, number: int) -> None:
        """Each block of Python stands for itself: it can be copied and executed."""
        exec(compile(programs(path)[number], f"{path.name}, block {number}", "exec"), {"__name__": "app"})

    def test_the_readme_s_applications_stream_under_their_command(self) -> None:
        """The programs that a reader meets first, saved as app.py, do what they promise."""
        first, second = programs(ROOT / "README.md")
        with served(first) as application, application.listen() as reader:
            status, _, answer = application.request("POST", "/publish", b'{"title": "It works"}', "application/json")
            (event,) = reader.read()
        with served(second) as application:
            target = "/generate?prompt=so+it+does"
            with application.listen(target) as reader:
                seen = reader.read()
            with application.listen(target, last_event_id=seen[-1].id) as again:
                events = seen + again.read_to_end()

        assert status == 200
        assert (event.id, event.data) == (answer, '{"title":"It works"}')
        assert [event.data for event in events] == [
            *(f'{{"token":"{word}"}}' for word in ("so", "it", "does")),
            '{"reason":"finished"}',
        ]

    def test_the_readme_s_application_has_ten_lines(self) -> None:
        """Embedding is ten lines; should it take more, the README has to say so."""
        first, _ = programs(ROOT / "README.md")

        assert len([line for line in first.splitlines() if line]) == 10


@contextmanager
def served(program: str) -> Iterator[Program]:
    """Run a program of the README by the command that stands there."""
    (command,) = re.findall(r"^(gunicorn .*)$", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    with tempfile.TemporaryDirectory(prefix="sse-") as folder:
        (Path(folder) / "app.py").write_text(program)
        running = Program(command.split(), Path(folder), cwd=Path(folder), ready="/nowhere")
        try:
            yield running
        finally:
            running.stop()
