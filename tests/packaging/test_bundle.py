"""The service as one file: made from the wheel and the libraries of this environment, run where there is only Python."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts.bundle import PREAMBLE, BundleError, bundle, installed, needed, unpack
from tests.packaging.distributions import Distributions
from tests.servers import TIMEOUT, running_service

#: The Python that this environment was made of, without anything that was installed for it.
PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"

WHERE_FROM = """
import sys, sse_kit.app, sse_kit.server, sse_core.worker, sse_core.backplane.redis.scripts
places = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
print(*sorted(place for place in places if place), sep="\\n")
"""


class Bundle:
    """The file, and how to run it: without environment, without site-packages, unpacked into a folder of its own."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.file = folder / "dist" / "sse-kit.pyz"
        self.libraries = bundle(self.file, extras=["service"], wheel=wheel)
        self.unpacked = folder / "unpacked"
        self.alone = ["env", "-i", f"SHIV_ROOT={self.unpacked}"]
        self.command = [*self.alone, str(PYTHON), "-I", "-S", str(self.file)]

    def run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, distributions: Distributions) -> Bundle:
    return Bundle(tmp_path_factory.mktemp("bundle"), distributions.wheel)


class TestBundle:
    """What `make bundle` makes."""

    def test_it_serves(self, made: Bundle) -> None:
        """It serves the page, the document, a stream and what is published, and its other commands talk to it."""
        with running_service(command=made.command) as server:
            page = server.request("GET", "/")
            files = [server.request("GET", path) for path in ("/static/main.js", "/static/style.css", "/openapi.json")]
            with server.reader("/events?topic=a") as reader:
                published = server.run("publish", "a", "hello")
                (event,) = reader.read()
            listened = server.run("listen", "a", "--last-event-id", "0-0", "--max", "1")
            code = server.stop()

        assert (page.status, page.headers["content-type"]) == (200, "text/html")
        assert [file.status for file in files] == [200, 200, 200]
        assert (event.data, event.id) == ("hello", published.stdout.strip())
        assert listened.stdout == "hello\n"
        assert code == 0

    def test_it_needs_nothing_but_python(self, made: Bundle) -> None:
        """All that it runs comes out of itself or belongs to Python: nothing of this machine's environments."""
        places = made.run(*made.alone, "SHIV_INTERPRETER=1", str(PYTHON), "-I", "-S", str(made.file), "-c", WHERE_FROM)
        own = [Path(place) for place in places.splitlines() if made.unpacked in Path(place).parents]
        others = {Path(place) for place in places.splitlines()} - set(own)

        # Below the folder with the file's digest, and site-packages in it.
        packages = {place.relative_to(made.unpacked).parts[2] for place in own}
        assert packages >= {"sse_core", "sse_kit", "falcon", "gunicorn", "redis"}
        assert [place for place in others if "site-packages" in place.parts or "dist-packages" in place.parts] == []

    def test_scripts_for_redis(self, made: Bundle) -> None:
        """The Lua that Redis runs is found in it."""
        program = "from sse_core.backplane.redis import scripts; print(scripts.PUBLISH.text.startswith('#!lua'))"
        printed = made.run(*made.alone, "SHIV_INTERPRETER=1", str(PYTHON), "-I", "-S", str(made.file), "-c", program)

        assert printed == "True\n"

    def test_it_is_a_command(self, made: Bundle) -> None:
        """It is executable by itself, and begins with the version of Python that it was made for."""
        with made.file.open("rb") as file:
            first = file.readline().decode()

        assert first == f"#!/usr/bin/env python{sys.version_info.major}.{sys.version_info.minor}\n"
        assert made.file.stat().st_mode & 0o111 == 0o111

    def test_the_same_again(self, made: Bundle, tmp_path: Path, distributions: Distributions) -> None:
        """The same wheel and the same libraries make the same file."""
        again = tmp_path / "again.pyz"
        bundle(again, extras=["service"], wheel=distributions.wheel)

        assert again.read_bytes() == made.file.read_bytes()


class TestRefusals:
    """What cannot be made, or cannot run, says why."""

    def test_another_python(self) -> None:
        """Under a Python that its compiled code is not for it ends with the reason and the remedy."""
        program = PREAMBLE.format(suffix=".cpython-399-riscv64-linux-gnu.so")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT)

        assert done.returncode == 1
        assert ".cpython-399-riscv64-linux-gnu.so" in done.stderr
        assert "make bundle" in done.stderr

    @pytest.mark.parametrize(
        ("requirement", "reason"),
        [
            (
                "no-such-library-anywhere[x]>=1; extra == 'y'",
                "which is not installed: pip install 'no-such-library-anywhere>=1'",
            ),
            ("pytest<1", "x needs pytest<1, and [0-9.]+ is installed"),
        ],
    )
    def test_a_library_that_is_not_here(self, requirement: str, reason: str) -> None:
        """A library that is missing, or too old, is named together with who needs it."""
        with pytest.raises(BundleError, match=reason):
            installed(Requirement(requirement), "x")

    def test_an_extra_that_is_none(self, distributions: Distributions, tmp_path: Path) -> None:
        """An extra that the package does not have is refused by its name."""
        with pytest.raises(BundleError, match="there is no extra nonsense"):
            bundle(tmp_path / "x.pyz", extras=["service", "nonsense"], wheel=distributions.wheel)


def test_what_is_needed(tmp_path: Path) -> None:
    """What a library needs in turn comes too, each once; what only another extra or another Python needs does not."""
    wheel = tmp_path / "x.whl"
    requires = [
        "falcon",
        "Flask; extra == 'web'",
        "werkzeug>=1; extra == 'web'",
        "redis[hiredis]; extra == 'store'",
        "pytest; python_version < '3'",
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        metadata = ["Name: x", "Version: 1", *(f"Requires-Dist: {each}" for each in requires)]
        archive.writestr("x-1.dist-info/METADATA", "\n".join(["Metadata-Version: 2.1", *metadata, ""]))
    own = unpack(wheel, tmp_path / "target")

    def names(*extras: str) -> list[str]:
        return sorted(each.name.lower() for each in needed(own, extras))

    assert names() == ["falcon"]
    assert set(names("web")) >= {"falcon", "flask", "werkzeug", "jinja2"}
    assert len(names("web")) == len(set(names("web")))
    assert {"redis", "hiredis"} < set(names("store"))
