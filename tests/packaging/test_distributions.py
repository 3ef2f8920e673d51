"""What `pip install` gets: the source distribution, the wheel that is built from it, and an environment with nothing else.

Nothing is fetched: the tools that build are those of the environment the tests run in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = (".ci", "benchmarks", "docs", "examples", "nginx", "scripts", "service", "sse_core", "tests")
BUILT = shutil.ignore_patterns("*.so", "*.c", "__pycache__", ".build", "*.egg-info")

USE_THE_CORE = """
import sys
from sse_core import Event, EventParser, Hub, frame

with Hub() as hub:
    stream = hub.subscribe("news")
    next(stream)
    receipt = hub.publish("news", "hello")
    chunk = next(stream)
    stream.close()
assert chunk == frame(Event("hello"), receipt.id)
(event,) = EventParser().feed(chunk)
print(event.data, sorted({name.partition(".")[0] for name in sys.modules} & {"gunicorn", "falcon", "pip"}))
"""
PLACE_OF_THE_SERVICE = "import sse_core, sse_kit; print(sse_core.__file__, sse_kit.__file__, sep='\\n')"


def run(*command: object, environment: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command that has to succeed and return what it printed."""
    # An option of the machine's pip must not decide what a test installs.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "SSE_KIT_"))}
    done = subprocess.run(
        [str(part) for part in command], env=clean | (environment or {}), cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Distributions:
    """Both distributions, and a new environment in which the wheel is all there is."""

    def __init__(self, folder: Path) -> None:
        # A copy, since a build writes C files and metadata beside its sources.
        tree = folder / "tree"
        tree.mkdir()
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy(path, tree)
        for name in WRITTEN:
            shutil.copytree(ROOT / name, tree / name, ignore=BUILT)
        self.sources = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
        run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, tree)
        (self.sdist,) = folder.glob("*.tar.gz")
        offline = ("--isolated", "--no-index", "--no-cache-dir", "--disable-pip-version-check")
        # What pip does with a source distribution before it installs it.
        run(sys.executable, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", folder / "wheel", self.sdist)
        (self.wheel,) = (folder / "wheel").iterdir()
        environment = folder / "environment"
        venv.create(environment, with_pip=False, symlinks=True)
        self.bin = environment / "bin"
        self.python = self.bin / "python"
        # No index and no --no-deps: it can only succeed if there is nothing else to install.
        run(sys.executable, "-m", "pip", "--python", self.python, "install", *offline, self.wheel)

    def written(self, folder: str, *suffixes: str) -> set[str]:
        """The files of a folder that have one of the suffixes, by their paths; taken from the copy that was built."""
        return {name for name in self.sources if name.startswith(f"{folder}/") and Path(name).suffix in suffixes}

    def sdist_files(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {member.name.partition("/")[2] for member in archive if member.isfile()}

    def wheel_files(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def metadata(self) -> Message:
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    return Distributions(tmp_path_factory.mktemp("distributions"))


class TestSourceDistribution:
    """The archive that anybody can build from."""

    def test_it_holds_all_that_was_written(self, distributions: Distributions) -> None:
        """Sources, types, documents, examples, nginx's configuration and tests: it can be built, run and tested."""
        files = distributions.sdist_files()
        expected = (
            distributions.written("sse_core", ".py", ".pyi", ".pyx", ".pxd", ".lua")
            | distributions.written("service", ".py", ".js", ".css", ".html", ".svg", ".json")
            | distributions.written("nginx", ".conf")
            | distributions.written("docs", ".md")
            | distributions.written("examples", ".py", ".html")
            | distributions.written("scripts", "", ".py")
            | distributions.written("benchmarks", ".py")
            | distributions.written("tests", ".py", ".json")
            | {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "setup.py", "sse_core/py.typed"}
        )

        assert expected - files == set()

    def test_it_holds_nothing_that_was_built(self, distributions: Distributions) -> None:
        """C files and objects of one machine's Cython and compiler stay on that machine."""
        files = distributions.sdist_files()

        assert [name for name in files if name.endswith((".so", ".pyc")) or name.startswith("build/")] == []
        assert [name for name in files if name.startswith("sse_core/") and name.endswith(".c")] == []


class TestWheel:
    """What lands in site-packages."""

    def test_its_top_level_is_the_core_and_the_kit(self, distributions: Distributions) -> None:
        """No package named `service` or `tests` gets in the way of somebody's own."""
        top = {name.partition("/")[0] for name in distributions.wheel_files()}

        assert {name for name in top if not name.endswith(".dist-info")} == {"sse_core", "sse_kit"}

    def test_it_holds_types_and_declarations(self, distributions: Distributions) -> None:
        """Type checkers find stubs and markers, and Cython code can cimport the core."""
        expected = distributions.written("sse_core", ".pyi", ".pxd") | {"sse_core/py.typed", "sse_kit/py.typed"}

        assert expected - distributions.wheel_files() == set()

    def test_it_holds_the_scripts_that_redis_runs(self, distributions: Distributions) -> None:
        """The backplane reads its Lua from beside its modules."""
        scripts = distributions.written("sse_core", ".lua")

        assert {Path(name).stem for name in scripts} >= {"publish", "beat", "history", "lease"}
        assert scripts - distributions.wheel_files() == set()

    def test_it_holds_what_the_service_serves(self, distributions: Distributions) -> None:
        """The page and the OpenAPI document are data, and are installed with the code."""
        expected = {
            name.replace("service/", "sse_kit/", 1)
            for name in distributions.written("service/static", ".js", ".css", ".html", ".svg")
        }

        assert (expected | {"sse_kit/openapi.json"}) - distributions.wheel_files() == set()

    def test_it_holds_no_sources_of_compiled_code(self, distributions: Distributions) -> None:
        """Neither Cython's sources nor the C made of them are of use to who installs it."""
        assert [name for name in distributions.wheel_files() if name.endswith((".c", ".pyx"))] == []

    def test_every_module_is_compiled(self, distributions: Distributions) -> None:
        """Each .pyx has become an extension for this interpreter."""
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        expected = {name.removesuffix(".pyx") + suffix for name in distributions.written("sse_core", ".pyx")}

        assert {name for name in distributions.wheel_files() if name.endswith(".so")} == expected

    def test_it_depends_on_nothing_without_an_extra(self, distributions: Distributions) -> None:
        """Who embeds the core gets the core alone; frameworks and servers come by extras."""
        required = distributions.metadata().get_all("Requires-Dist") or []

        assert required
        assert [each for each in required if "extra ==" not in each] == []


class TestInstalled:
    """An environment in which it was installed from the source distribution."""

    def test_the_core_works_with_nothing_else_installed(self, distributions: Distributions) -> None:
        """A hub streams, a frame is made and parsed, and no other package is there to help."""
        assert run(distributions.python, "-c", USE_THE_CORE, cwd=distributions.bin) == "hello []\n"

    def test_the_scripts_are_read_from_what_was_installed(self, distributions: Distributions) -> None:
        """With the extra `redis` the commands find their Lua in site-packages, outside of the repository."""
        program = (
            "import sse_core.backplane.redis.scripts as scripts\n"
            "print(scripts.__file__, scripts.PUBLISH.text.startswith('#!lua'), sep='\\n')\n"
        )
        borrowed = {"PYTHONPATH": sysconfig.get_path("purelib")}
        place, found = run(
            distributions.python, "-c", program, environment=borrowed, cwd=distributions.bin
        ).splitlines()

        assert place.startswith(str(distributions.bin.parent))
        assert found == "True"

    def test_the_command_runs_with_the_service_s_dependencies(self, distributions: Distributions) -> None:
        """`sse-kit` of the new environment finds its modules there and tells what it can do."""
        # The dependencies of the extra come from the environment of the tests; its own copy of us must not.
        borrowed = {"PYTHONPATH": sysconfig.get_path("purelib")}
        places = run(distributions.python, "-c", PLACE_OF_THE_SERVICE, environment=borrowed, cwd=distributions.bin)
        told = run(distributions.bin / "sse-kit", "--help", environment=borrowed, cwd=distributions.bin)
        serve = run(distributions.bin / "sse-kit", "serve", "--help", environment=borrowed, cwd=distributions.bin)

        assert all(place.startswith(str(distributions.bin.parent)) for place in places.split())
        assert all(command in told for command in ("serve", "publish", "listen"))
        assert "--bind" in serve

    def test_the_service_answers_from_what_was_installed(self, distributions: Distributions) -> None:
        """The application is made outside of the repository, with its page and its OpenAPI document."""
        program = (
            "import falcon.testing\n"
            "from sse_kit.app import create_app\n"
            "client = falcon.testing.TestClient(create_app())\n"
            "print(client.simulate_get('/').status_code, client.simulate_get('/openapi.json').json['openapi'])\n"
        )
        borrowed = {"PYTHONPATH": sysconfig.get_path("purelib")}

        assert run(distributions.python, "-c", program, environment=borrowed, cwd=distributions.bin).startswith(
            "200 3.1"
        )
