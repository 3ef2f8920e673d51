"""The rules of docs/architecture.md about what may know what, checked on the sources themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import sse_core

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "sse_core"
SERVICE = ROOT / "service"
FANOUT = CORE / "fanout"

#: Which modules of sse_core each one may import. `errors` and the standard library are open to all.
MAY_IMPORT = {
    "sse_core.errors": set(),
    "sse_core.ids": set(),
    "sse_core.event": set(),
    "sse_core.http": set(),
    "sse_core.tables": set(),
    "sse_core.kept": {
        "sse_core.arriving",
        "sse_core.http",
        "sse_core.hub",  # for types
        "sse_core.offer",
        "sse_core.stream",  # for types
        "sse_core.worker",  # for types
    },
    "sse_core.offer": {
        "sse_core.http",
        "sse_core.hub",
        "sse_core.stream",
        "sse_core.worker",
    },  # for types, but the first
    "sse_core.framing": {"sse_core.event"},
    "sse_core.parsing": {"sse_core.event"},
    "sse_core.topics": set(),
    "sse_core.claim": {"sse_core.hub", "sse_core.stream"},  # for types only
    "sse_core.stream": {"sse_core.admission", "sse_core.claim", "sse_core.hub"},  # the hub for types only
    "sse_core.admission": {"sse_core.telemetry"},
    "sse_core.backplane": {"sse_core.event", "sse_core.topics"},
    "sse_core.backplane.memory": {"sse_core.backplane", "sse_core.event", "sse_core.ids"},
    # The Redis side, from names and messages outwards.
    "sse_core.backplane.redis.names": set(),
    "sse_core.backplane.redis.message": {"sse_core.event", "sse_core.ids"},
    "sse_core.backplane.redis.scripts": set(),
    "sse_core.backplane.redis.audience": {"sse_core.backplane.redis.names"},
    "sse_core.backplane.redis.commands": {
        "sse_core.backplane",
        "sse_core.backplane.redis.audience",
        "sse_core.backplane.redis.message",
        "sse_core.backplane.redis.names",
        "sse_core.backplane.redis.scripts",
        "sse_core.event",
        "sse_core.ids",
    },
    "sse_core.backplane.redis": set(),
    "sse_core.backplane.redis.feed": {
        "sse_core.backplane",
        "sse_core.backplane.redis.commands",
        "sse_core.backplane.redis.message",
        "sse_core.event",
    },
    "sse_core.backplane.redis.member": {
        "sse_core.backplane",
        "sse_core.backplane.redis.feed",
        "sse_core.backplane.redis.names",
    },
    "sse_core.backplane.redis.reader": {
        "sse_core.backplane.redis.commands",
        "sse_core.backplane.redis.member",
        "sse_core.backplane.redis.message",
        "sse_core.backplane.redis.subscriber",
        "sse_core.backplane.redis.topology",
    },
    "sse_core.backplane.redis.heart": {
        "sse_core.backplane.redis",
        "sse_core.backplane.redis.audience",
        "sse_core.backplane.redis.commands",
        "sse_core.backplane.redis.member",
        "sse_core.backplane.redis.topology",
    },
    "sse_core.backplane.redis.backplane": {
        "sse_core.backplane",
        "sse_core.backplane.redis",
        *(
            f"sse_core.backplane.redis.{part}"
            for part in ("audience", "commands", "feed", "heart", "member", "names", "reader", "topology")
        ),
        "sse_core.event",
    },
    "sse_core.backplane.redis.url": set(),
    "sse_core.backplane.redis.subscriber": {"sse_core.backplane.redis.url"},
    "sse_core.backplane.redis.topology": {"sse_core.backplane.redis.subscriber", "sse_core.backplane.redis.url"},
    "sse_core.backplane.redis.client": {"sse_core.backplane.redis.subscriber", "sse_core.backplane.redis.url"},
    "sse_core.backplane.redis.publisher": {
        "sse_core.backplane",
        "sse_core.backplane.redis.commands",
        "sse_core.backplane.redis.names",
        "sse_core.backplane.redis.scripts",
        "sse_core.backplane.redis.topology",
        "sse_core.event",
        "sse_core.publication",
        "sse_core.topics",
    },
    "sse_core.hub": {
        "sse_core.admission",
        "sse_core.backplane",
        "sse_core.backplane.memory",
        "sse_core.claim",
        "sse_core.environ",
        "sse_core.event",
        "sse_core.fanout.engine",
        "sse_core.framing",
        "sse_core.ids",
        "sse_core.lease",
        "sse_core.local",
        "sse_core.options",
        "sse_core.producer",
        "sse_core.producers",
        "sse_core.progress",
        "sse_core.publication",
        "sse_core.stream",
        "sse_core.telemetry",
        "sse_core.topics",
    },
    "sse_core.lease": {"sse_core.backplane"},
    "sse_core.environ": set(),
    "sse_core.items": {"sse_core.event"},
    "sse_core.options": {"sse_core.event", "sse_core.fanout.engine"},
    "sse_core.producer": {
        "sse_core.backplane",
        "sse_core.event",
        "sse_core.ids",
        "sse_core.items",
        "sse_core.topics",
    },
    "sse_core.producers": {
        "sse_core.backplane",
        "sse_core.event",
        "sse_core.local",
        "sse_core.producer",
        "sse_core.topics",
    },
    "sse_core.progress": {"sse_core.event", "sse_core.producer"},
    "sse_core.places": {"sse_core.fanout.engine", "sse_core.stream"},  # for types only
    "sse_core.roster": {"sse_core.admission", "sse_core.tables"},
    "sse_core.finite": {"sse_core.event", "sse_core.topics"},
    "sse_core.publication": {"sse_core.event", "sse_core.topics"},
    "sse_core.local": {
        "sse_core.backplane",
        "sse_core.event",
        "sse_core.fanout.engine",
        "sse_core.finite",
        "sse_core.framing",
        "sse_core.ids",
        "sse_core.places",
        "sse_core.roster",
        "sse_core.stream",
        "sse_core.telemetry",
        "sse_core.topics",
    },
    "sse_core.arriving": set(),
    "sse_core.parting": set(),
    "sse_core.worker": {
        "sse_core.arriving",
        "sse_core.claim",
        "sse_core.http",
        "sse_core.hub",
        "sse_core.kept",
        "sse_core.offer",
        "sse_core.parting",
        "sse_core.stream",
    },
    "sse_core.telemetry": {"sse_core.fanout.engine"},
    "sse_core.testing": {"sse_core.event", "sse_core.ids", "sse_core.parsing"},
    # Users of the core like any other: public names alone.
    "sse_core.contrib": set(),
    "sse_core.contrib.flask": {"sse_core"},
    "sse_core.contrib.tqdm": {"sse_core"},
    # Below the line: from the data structures outwards. What is a .pxd only (cell, socket) is part of it.
    "sse_core.fanout": set(),
    "sse_core.fanout.log": {"cell"},
    "sse_core.fanout.mailbox": set(),
    "sse_core.fanout.block": set(),
    "sse_core.fanout.ring": {"cell", "socket"},
    "sse_core.fanout.peer": {"log", "block", "cell", "ring", "socket"},
    "sse_core.fanout.wheel": {"peer"},
    "sse_core.fanout.topic": {"log", "peer", "cell", "ring", "socket"},
    "sse_core.fanout.report": {"mailbox"},
    "sse_core.fanout.timing": {"cell"},
    "sse_core.fanout.loop": {
        *("log", "block", "mailbox", "peer", "ring", "topic", "wheel", "report", "timing", "cell", "socket"),
    },
    "sse_core.fanout.engine": {"mailbox", "peer", "topic", "wheel", "loop", "report", "timing", "cell"},
    "sse_core.fanout.cell": set(),
    "sse_core.fanout.socket": {"log"},
}
#: Third parties, and the only modules that may know them.
CONFINED = {
    "gunicorn": {"sse_core.kept", "sse_core.worker", "sse_kit.server", "sse_kit.logging"},
    "redis": {
        "sse_core.backplane.redis",
        "sse_core.backplane.redis.audience",
        "sse_core.backplane.redis.backplane",
        "sse_core.backplane.redis.client",
        "sse_core.backplane.redis.commands",
        "sse_core.backplane.redis.publisher",
        "sse_core.backplane.redis.scripts",
        "sse_core.backplane.redis.subscriber",
        "sse_core.backplane.redis.topology",
        "sse_core.backplane.redis.url",
        # The attribute `redis` of flask-sse's blueprint; imported when it is asked for.
        "sse_core.contrib.flask",
        "sse_kit.watcher",
    },
    "hiredis": {"sse_core.backplane.redis.subscriber"},
    "flask": {"sse_core.contrib.flask"},
    "tqdm": {"sse_core.contrib.tqdm"},
    # Each is an extra: a provider that nobody uses needs nothing.
    "openai": {"sse_kit.llm.openai"},
    "anthropic": {"sse_kit.llm.anthropic"},
    "httpx2": {f"sse_kit.llm.{part}" for part in ("upstream", "streamed", "openai", "anthropic")},
}
#: Lines of a file, beyond which it has more than one job. A file named here is allowed more, for the reason given.
LONGEST = {".pyx": 450, ".py": 420}
LONGER = {
    "sse_core/fanout/engine.pyx": 620,  # the door: each method posts one kind of mail, or reads cells
    "sse_core/fanout/peer.pyx": 570,  # one subscriber from adoption to its end; the parts share its struct's invariants
    "sse_core/fanout/loop.pyx": 680,  # the turn and its steps, all of them private to the thread that runs it
    "service/settings.py": 620,  # one list of all options, each a field with its default, unit and meaning
    "sse_core/hub.py": 720,  # the one object that users meet; half of it is docstrings
    "sse_core/local.py": 530,  # one object under one lock: what a backplane delivers to, topics and streams
}


class Import(NamedTuple):
    """One imported module, with the names that were taken from it."""

    module: str
    names: tuple[str, ...]


def module_name(path: Path) -> str:
    """The name that a source file is imported by."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "service":
        parts[0] = "sse_kit"
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imports(path: Path) -> Iterator[Import]:
    """What a Python or Cython file imports, wherever the line stands."""
    return python_imports(path) if path.suffix in (".py", ".pyi") else cython_imports(path)


def python_imports(path: Path) -> Iterator[Import]:
    package = module_name(path) if path.stem == "__init__" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, node.module or ""]).strip(".")
            yield Import(module, tuple(alias.name for alias in node.names))


def cython_imports(path: Path) -> Iterator[Import]:
    text = re.sub(r"#.*", "", path.read_text())
    for match in re.finditer(r"^\s*from +([\w.]+) +c?import +(\([^)]*\)|[^\n]*)", text, re.MULTILINE):
        names = (name.split()[0] for name in match[2].strip("()").replace("\n", " ").split(",") if name.strip())
        yield Import(match[1], tuple(names))
    for match in re.finditer(r"^ *c?import +([\w., ]+)", text, re.MULTILINE):
        yield from (Import(name.split()[0], ()) for name in match[1].split(","))


def sources(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes and "build" not in path.parts)


def written_files() -> list[Path]:
    """What was written by hand: neither built nor fetched."""
    folders = (".ci", "benchmarks", "docs", "examples", "loadtest", "nginx", "scripts", "service", "sse_core", "tests")
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in folders:
        found += (path for path in (ROOT / folder).rglob("*") if path.is_file())
    built = {".c", ".so", ".pyc"}
    return sorted(path for path in found if path.suffix not in built and ".build" not in path.parts)


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


CORE_SOURCES = sources(CORE, ".py", ".pyi", ".pyx", ".pxd")
SERVICE_SOURCES = sources(SERVICE, ".py")
LOADTEST_SOURCES = sources(ROOT / "loadtest", ".py")
#: Of loadtest/, what runs within locust. All else can be imported anywhere: locust changes the sockets of its whole process.
WITHIN_LOCUST = {"user", "publish_user", "participant", "coordinator", "plugin", "shapes"}
NATIVE = sources(CORE, ".pyx", ".pxd")


class TestImports:
    """Who may know whom."""

    @pytest.mark.parametrize("path", CORE_SOURCES, ids=place)
    def test_a_module_of_the_core_imports_only_what_lies_below_it(self, path: Path) -> None:
        """Data structures know no loop, the loop no hub, the hub no server; the table above is all there is."""
        name = module_name(path)
        if name == "sse_core":
            return
        allowed = {
            f"sse_core.fanout.{part}" if name.startswith("sse_core.fanout") and "." not in part else part
            for part in MAY_IMPORT[name]
        }
        if name.startswith("sse_core.fanout"):
            allowed.add("sse_core.ids")
        found = {each.module for each in imports(path) if each.module.split(".")[0] == "sse_core"}

        assert found - {name, "sse_core.errors"} <= allowed

    def test_the_engine_imports_nothing_of_python_but_os(self) -> None:
        """Below the line there is no Python to call; only the door asks for a pid and a text for an errno."""
        native = {"cython", "libc", "posix", "sse_core"}
        found = {
            (path.stem, each.module)
            for path in sources(FANOUT, ".pyx", ".pxd")
            for each in imports(path)
            if each.module.split(".")[0] not in native
        }

        assert found == {("engine", "os")}

    def test_third_parties_are_known_only_where_they_are_named(self) -> None:
        """Importing the core needs neither gunicorn nor Redis: only the modules made for them import them."""
        for path in CORE_SOURCES + SERVICE_SOURCES:
            for each in imports(path):
                owners = CONFINED.get(each.module.split(".")[0])
                assert owners is None or module_name(path) in owners, f"{place(path)} imports {each.module}"

    def test_the_core_knows_nothing_of_the_service_and_of_frameworks(self) -> None:
        """What embeds the core brings the framework; the core has no dependency at all, but for what `contrib` is made for."""
        foreign = {"sse_kit", "falcon", "flask", "django", "bottle", "pydantic", "msgspec", "structlog", "click"}
        for path in CORE_SOURCES:
            found = {each.module.split(".")[0] for each in imports(path)} & foreign
            assert found <= ({path.stem} if path.parent.name == "contrib" else set()), place(path)

    def test_nothing_of_the_core_knows_what_is_contributed(self) -> None:
        """An interface that somebody else made can be left out: no module of the core or the service is built on it."""
        for path in CORE_SOURCES + SERVICE_SOURCES:
            assert not [each.module for each in imports(path) if each.module.startswith("sse_core.contrib")], place(
                path
            )

    @pytest.mark.parametrize("path", SERVICE_SOURCES, ids=place)
    def test_the_service_imports_only_public_names_of_the_core(self, path: Path) -> None:
        """The service is one more user of the core, and what it needs any user can have."""
        for each in imports(path):
            if each.module.split(".")[0] == "sse_core":
                assert each.module == "sse_core", f"{each.module} is no public place"
                assert set(each.names) <= set(sse_core.__all__)

    def test_resources_do_not_import_one_another(self) -> None:
        """A resource is one route; what two of them share has a module of its own."""
        for path in sources(SERVICE / "resources", ".py"):
            modules = {each.module for each in imports(path)}
            assert not {name for name in modules if name.startswith("sse_kit.resources")}, place(path)

    @pytest.mark.parametrize("path", LOADTEST_SOURCES, ids=place)
    def test_the_load_generator_knows_the_public_core_and_not_the_service(self, path: Path) -> None:
        """It judges any server, so it shares nothing with ours but events, their parser and errors."""
        for each in imports(path):
            assert each.module.split(".")[0] != "sse_kit"
            if each.module.split(".")[0] == "sse_core":
                assert each.module == "sse_core"
                assert set(each.names) <= {"Event", "EventParser", "SSEError"}

    @pytest.mark.parametrize("path", LOADTEST_SOURCES, ids=place)
    def test_what_judges_a_load_test_does_not_need_locust(self, path: Path) -> None:
        """Client, ledger, clock, thresholds and report can be imported without changing a process's sockets."""
        if path.stem in WITHIN_LOCUST or path.parent.name == "scenarios":
            return
        # `__main__` starts locust, and nothing else.
        found = {each.module for each in imports(path)} - ({"locust.main"} if path.stem == "__main__" else set())

        assert not {name for name in found if name.split(".")[0] == "locust"}
        assert not found & {f"loadtest.{name}" for name in WITHIN_LOCUST}

    def test_nothing_is_imported_by_star(self) -> None:
        """Where a name comes from can be read off the file."""
        for path in CORE_SOURCES + SERVICE_SOURCES:
            assert not [each.module for each in imports(path) if "*" in each.names], place(path)

    def test_private_names_stay_in_their_module(self) -> None:
        """A leading underscore means that a name may change without looking elsewhere."""
        for path in CORE_SOURCES + SERVICE_SOURCES:
            taken = [name for each in imports(path) for name in each.names if private(name)]
            assert not taken, f"{place(path)} imports {taken}"
            if path.suffix == ".py":
                foreign = foreign_private_attributes(ast.parse(path.read_text()))
                assert not foreign, f"{place(path)} uses {foreign}"

    def test_the_environment_is_read_in_one_place(self) -> None:
        """Options come from `sse_kit.settings`; a second reader would be an option that nobody finds."""
        readers = {
            place(path)
            for path in CORE_SOURCES + SERVICE_SOURCES
            if re.search(r"\bos\.(environ|getenv)\b", path.read_text())
        }

        assert readers == set()


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def foreign_private_attributes(tree: ast.Module) -> set[str]:
    """Private attributes that are read of something which is not this module's own."""
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and private(node.attr)}
    return used - own


class TestNativeCode:
    """Below the engine's door nothing knows Python."""

    @pytest.mark.parametrize("name", ["log", "mailbox", "block", "peer", "topic", "wheel", "report", "timing", "loop"])
    def test_every_native_function_runs_without_the_gil(self, name: str) -> None:
        """Each C function of the engine is `noexcept nogil`, so no exception and no Python object can get in."""
        functions = [
            line for path in (FANOUT / f"{name}.pyx", FANOUT / f"{name}.pxd") for line in signatures(path.read_text())
        ]

        assert functions
        assert [line for line in functions if not re.search(r"\) noexcept nogil:?$", line)] == []

    def test_the_inline_functions_of_shared_headers_run_without_the_gil(self) -> None:
        """What the engine takes from outside its folder (writing ids) obeys the same rule."""
        functions = signatures((CORE / "ids.pxd").read_text())

        assert functions
        assert all(line.endswith("noexcept nogil:") for line in functions)

    def test_the_gil_is_released_in_one_place(self) -> None:
        """Loops never hold it, so there is nothing to release but for the wait until their threads have ended."""
        found = [
            (place(path), line.strip())
            for path in NATIVE
            for line in path.read_text().splitlines()
            if re.search(r"\bwith +(no)?gil\b", line)
        ]

        assert found == [("sse_core/fanout/engine.pyx", "with nogil:")]

    def test_atomics_are_in_one_file(self) -> None:
        """Everything but counters and published pointers crosses threads by a mailbox and its mutex."""
        holders = {place(path) for path in NATIVE if re.search(r"__atomic|__sync_|stdatomic", path.read_text())}

        assert holders == {"sse_core/fanout/cell.pxd"}

    def test_locks_are_taken_and_given_back_as_often(self) -> None:
        """Each lock has its unlock in the same file, at least one for each way out."""
        for path in sources(FANOUT, ".pyx"):
            text = path.read_text()
            taken = len(re.findall(r"^ +pthread_mutex_lock\(", text, re.MULTILINE))
            given = len(re.findall(r"^ +pthread_mutex_unlock\(", text, re.MULTILINE))
            assert taken <= given, place(path)

    def test_every_python_face_has_a_stub(self) -> None:
        """Compiled modules that Python imports are typed by a .pyi beside them."""
        for path in sources(CORE, ".pyx"):
            has_face = re.search(r"^(cdef class|def|class|[A-Z_]+ *=)", path.read_text(), re.MULTILINE)
            assert bool(has_face) == path.with_suffix(".pyi").exists(), place(path)

    def test_every_shared_declaration_has_a_body_or_is_foreign(self) -> None:
        """A .pxd belongs to the .pyx beside it, but for the two that declare C alone."""
        alone = {path.stem for path in sources(CORE, ".pxd") if not path.with_suffix(".pyx").exists()}

        assert alone == {"cell", "socket"}


def signatures(text: str) -> list[str]:
    """The heads of the C functions at the module's level, each on one line. Not of classes, enums, structs and externs."""
    found = []
    for match in re.finditer(r"^cdef (?!class|extern|enum|struct|object\b)[^\n=]*?\([^)]*\)[^\n]*", text, re.MULTILINE):
        line = " ".join(match[0].split())
        opened = line.count("(") - line.count(")")
        assert opened == 0, f"a signature that this test cannot read: {line}"
        found.append(line)
    return found


class TestHouseRules:
    """What holds for every file."""

    def test_every_test_has_a_docstring(self) -> None:
        """A test says in one sentence which fact about the product it holds."""
        silent = [
            f"{place(path)}::{node.name}"
            for path in sorted((ROOT / "tests").rglob("test_*.py"))
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and not ast.get_docstring(node)
        ]

        assert silent == []

    @pytest.mark.parametrize("path", [*sources(CORE, ".pyx", ".py"), *SERVICE_SOURCES, *LOADTEST_SOURCES], ids=place)
    def test_a_file_has_one_job(self, path: Path) -> None:
        """A file that outgrows its bound is split, or its length has a reason here."""
        lines = len(path.read_text().splitlines())

        assert lines <= LONGER.get(place(path), LONGEST[path.suffix])

    def test_no_file_names_a_place_on_a_developer_s_machine(self) -> None:
        """What is written here holds on any machine: no home folder, no checkout's path, no private registry."""
        # In pieces, or this file would name them itself.
        places = re.compile(
            "|".join(["/" + "root/", "/" + "home/[a-z]", "/" + "work/", "/" + "tmp/v/", "/opt/" + "pypi"])
        )
        found = []
        for path in written_files():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            found += [f"{place(path)}: {match[0]}" for match in places.finditer(text)]

        assert found == []

    def test_nothing_is_left_for_later(self) -> None:
        """What is not done is not here: no note to self, no stub."""
        marks = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "raise NotImplemented" + "Error"]))
        code = [
            path for path in written_files() if path.suffix in (".py", ".pyx", ".pxd", ".js", ".conf", ".md", ".css")
        ]

        assert [place(path) for path in code if marks.search(path.read_text())] == []
