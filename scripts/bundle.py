#!/usr/bin/env python3
"""Make one file of the service and all that it needs: `sse-kit.pyz serve` runs where there is nothing but Python.

The libraries are those of the environment that runs this, and so those that the tests ran with; nothing is fetched.
The file is for the same Python, system and processor, since some of it is compiled; elsewhere it says so and ends.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
ENTRY_POINT = "sse_kit.cli:main"

# Before the program, since otherwise a missing module of a foreign name would be all that is told.
PREAMBLE = """\
import importlib.machinery, sys
if {suffix!r} not in importlib.machinery.EXTENSION_SUFFIXES:
    sys.exit(
        "sse-kit: this file has code compiled for {suffix}, and this Python runs "
        + importlib.machinery.EXTENSION_SUFFIXES[0] + ": make one for it with `make bundle`"
    )
"""


class BundleError(Exception):
    """The reason, for a person to read."""


def build_wheel(folder: Path) -> Path:
    """Build our own wheel in ``folder`` with the tools of this environment, and return it. Raises `BundleError`."""
    # By way of the source distribution: built in place, the wheel would have what older builds have left in build/.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise BundleError(f"the wheel could not be built:\n{done.stdout}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpack(wheel: Path, target: Path) -> Distribution:
    """Lay out a wheel in ``target`` and return what it is."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    (metadata,) = target.glob("*.dist-info")
    return PathDistribution(metadata)


def needed(distribution_: Distribution, extras: Iterable[str]) -> Iterator[Distribution]:
    """Yield all that a distribution with those extras needs, each once and as it is installed here.

    Raises `BundleError` for what is not, or not in a version that will do.
    """
    wanted = [(distribution_, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    yielded: set[str] = set()
    while wanted:
        asking, its_extras = wanted.pop()
        for text in asking.requires or ():
            requirement = Requirement(text)
            if requirement.marker is not None and not any(
                requirement.marker.evaluate({"extra": extra}) for extra in its_extras or {""}
            ):
                continue
            found = installed(requirement, asking.name)
            key = (found.name, frozenset(requirement.extras))
            if key in seen:
                continue
            seen.add(key)
            wanted.append((found, frozenset(requirement.extras)))
            if found.name not in yielded:
                yielded.add(found.name)
                yield found


def installed(requirement: Requirement, by: str) -> Distribution:
    """Return what meets a requirement here. Raises `BundleError`."""
    wanted = f"{requirement.name}{requirement.specifier}"
    try:
        found = distribution(requirement.name)
    except PackageNotFoundError:
        raise BundleError(f"{by} needs {wanted}, which is not installed: pip install '{wanted}'") from None
    if not requirement.specifier.contains(found.version, prereleases=True):
        raise BundleError(f"{by} needs {wanted}, and {found.version} is installed")
    return found


def copy(distribution_: Distribution, target: Path) -> None:
    """Copy the files of an installed distribution to ``target``. Raises `BundleError`."""
    if distribution_.files is None:
        raise BundleError(f"{distribution_.name} does not say which files are its own: install it with pip")
    for file in distribution_.files:
        # Commands and manuals lie outside; what Python has compiled it compiles again.
        if file.parts[0] == ".." or "__pycache__" in file.parts:
            continue
        there = target / file
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(Path(str(file.locate())).read_bytes())


def bundle(output: Path, *, extras: Iterable[str], wheel: Path | None = None) -> list[Distribution]:
    """Write the file to ``output`` and return what is in it besides ourselves. Raises `BundleError`.

    ``wheel`` is ours; without one it is built.
    """
    extras = list(extras)
    with tempfile.TemporaryDirectory(prefix="sse-kit-bundle-") as temporary:
        folder = Path(temporary)
        target = folder / "site-packages"
        target.mkdir()
        own = unpack(wheel or build_wheel(folder), target)
        unknown = set(extras) - set(own.metadata.get_all("Provides-Extra") or ())
        if unknown:
            raise BundleError(f"there is no extra {', '.join(sorted(unknown))}")
        libraries = list(needed(own, extras))
        for each in libraries:
            copy(each, target)
        suffix = EXTENSION_SUFFIXES[0]
        preamble = folder / "check_python.py"
        preamble.write_text(PREAMBLE.format(suffix=suffix), encoding="utf-8")
        output.parent.mkdir(parents=True, exist_ok=True)
        python = f"/usr/bin/env python{sys.version_info.major}.{sys.version_info.minor}"
        command = [sys.executable, "-m", "shiv", "--site-packages", str(target), "--entry-point", ENTRY_POINT]
        # The same sources give the same file, byte for byte, whenever it is made.
        command += ["--reproducible", "--compressed", "--python", python, "--preamble", str(preamble)]
        done = subprocess.run(
            [*command, "--output-file", str(output)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise BundleError(f"shiv failed:\n{done.stdout}")
    return libraries


def main() -> None:
    """Read the command line, make the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the file to write")
    parser.add_argument("--extras", default="service", help="extras of sse-kit, with commas (default: %(default)s)")
    parser.add_argument("--wheel", type=Path, help="the wheel of sse-kit; built if it is not given")
    options = parser.parse_args()
    try:
        libraries = bundle(options.output, extras=options.extras.split(","), wheel=options.wheel)
    except BundleError as error:
        sys.exit(f"bundle: {error}")
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB, with")
    print("\n".join(sorted(f"  {each.name} {each.version}" for each in libraries)))


if __name__ == "__main__":
    main()
