"""What `pip install` gets: the source distribution, the wheel that is built from it, and an environment with nothing else."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from tests.packaging.distributions import ROOT, Distributions, run

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


class TestSourceDistribution:
    """The archive that anybody can build from."""

    def test_it_holds_all_that_was_written(self, distributions: Distributions) -> None:
        """Sources, types, documents, examples, configuration, manifests and tests: it can be built, run and tested."""
        files = distributions.sdist_files()
        expected = (
            distributions.written("sse_core", ".py", ".pyi", ".pyx", ".pxd", ".lua")
            | distributions.written("service", ".py", ".js", ".css", ".html", ".svg", ".json")
            | distributions.written("nginx", ".conf", ".yaml")
            | distributions.written("k8s", ".yaml", ".conf", ".env")
            | distributions.written("docs", ".md")
            | distributions.written("examples", ".py", ".html", ".md", ".txt", ".yaml")
            | distributions.written("deploy", ".conf", ".service", ".sysusers", ".txt")
            | distributions.written("scripts", "", ".py")
            | distributions.written("benchmarks", ".py")
            | distributions.written("loadtest", ".py", ".md")
            | distributions.written("tests", ".py", ".json")
            | {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "setup.py", "sse_core/py.typed"}
            | {"Dockerfile", ".dockerignore", "compose.yaml"}
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

    def test_it_holds_the_configuration_of_nginx(self, distributions: Distributions) -> None:
        """What `sse-kit nginx` lays out is data of the package, each file of it."""
        files = distributions.written("nginx", ".conf")

        assert {f"sse_kit/{name}" for name in files} - distributions.wheel_files() == set()

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
        assert all(command in told for command in ("serve", "publish", "listen", "nginx"))
        assert "--bind" in serve

    def test_nginx_is_configured_from_what_was_installed(self, distributions: Distributions, tmp_path: Path) -> None:
        """`sse-kit nginx` lays out the files of the new environment, byte for byte those of the repository."""
        borrowed = {"PYTHONPATH": sysconfig.get_path("purelib")}
        command = (distributions.bin / "sse-kit", "nginx", tmp_path / "kit", "--no-check")
        printed = run(*command, environment=borrowed, cwd=distributions.bin)
        written = {str(path.relative_to(tmp_path / "kit")) for path in (tmp_path / "kit").rglob("*.conf")}

        assert printed == f"{tmp_path}/kit/nginx.conf\n"
        assert {f"nginx/{name}" for name in written} == distributions.written("nginx", ".conf")
        for name in written:
            assert (tmp_path / "kit" / name).read_bytes() == (ROOT / "nginx" / name).read_bytes(), name

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
