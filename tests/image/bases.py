"""The images that ours build on, made of Debian's packages under the very names that our files use.

None can be pulled where only package registries are reached. They are made once and kept below the user's cache folder,
since a Debian is not made in a moment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
from pathlib import Path

from tests.image.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
SUITE = "trixie"
KEPT_SECONDS = 30 * 86_400

#: Python and nothing more: what the slim image of Python is.
SLIM = ["ca-certificates", "python3", "python3-venv"]
INSTALL = "apt-get update -qq && apt-get install -qq -y --no-install-recommends"
CLEAN = "apt-get clean && rm -rf /var/lib/apt/lists/*"
DERIVED = f"""\
ARG SLIM
FROM $SLIM AS compiler
RUN {INSTALL} gcc libc6-dev python3-dev && {CLEAN}
FROM $SLIM AS neighbours
RUN {INSTALL} curl nginx redis-server && {CLEAN} && rm /etc/nginx/sites-enabled/*
"""


def _argument(name: str) -> str:
    (value,) = re.findall(rf"^ARG {name}=(\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    return str(value)


#: With a compiler, without one: the names are the Dockerfile's.
COMPILER = _argument("BUILD_IMAGE")
PYTHON = _argument("PYTHON_IMAGE")
NEIGHBOURS = "localhost/sse-kit-neighbours:test"


def folder() -> Path:
    """Where they are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sse-kit" / "images"


def bases() -> Path:
    """Return the storage that has them, for `Engine.take`; it is made if there is none yet."""
    recipe = repr((SUITE, SLIM, DERIVED, COMPILER, PYTHON, NEIGHBOURS))
    target = folder() / f"bases-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _make(target)
        os.utime(target)
        for old in folder().glob("bases-*"):
            # Of an older state of this file, and of no other checkout that is still in use.
            if old.is_dir() and old.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(old)
    return target


def _make(target: Path) -> None:
    with Engine() as engine:
        # Beside its place, so that it can be renamed: what was interrupted is never taken for the whole.
        new = target.with_name("new")
        context = engine.root / "context"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(SLIM)}", SUITE]
        engine.run(*command, engine.root / "slim.tar", timeout=900)
        engine.run("podman", "import", engine.root / "slim.tar", PYTHON)
        context.mkdir()
        (context / "Dockerfile").write_text(DERIVED)
        for stage, name in (("compiler", COMPILER), ("neighbours", NEIGHBOURS)):
            engine.build(context, "--build-arg", f"SLIM={PYTHON}", "--target", stage, "--tag", name)
        engine.run("buildah", "rm", "--all")
        engine.unmount()
        shutil.rmtree(new, ignore_errors=True)
        shutil.move(engine.graph, new)
        new.rename(target)
