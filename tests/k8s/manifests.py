"""The manifests of k8s/ as Kubernetes would get them: rendered by kubectl, read as objects."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
OVERLAYS = sorted(folder.name for folder in (ROOT / "k8s/overlays").iterdir() if folder.is_dir())

#: An object of Kubernetes.
Object = dict[str, Any]


@functools.cache
def rendered(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder."""
    kubectl = shutil.which("kubectl")
    assert kubectl is not None, "there is no kubectl, which renders the manifests: see docs/deploy/kubernetes.md"
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(folder: Path) -> list[Object]:
    """The objects of a folder; each call makes new ones, which a test may break."""
    return [each for each in yaml.safe_load_all(rendered(folder)) if each is not None]


def overlay(name: str) -> list[Object]:
    """The objects of an overlay."""
    return objects(ROOT / "k8s/overlays" / name)


def find(among: list[Object], kind: str, name: str) -> Object:
    """The object of that kind whose name is, or before its hash was, ``name``."""
    found = [
        each
        for each in among
        if each["kind"] == kind
        and (each["metadata"]["name"] == name or each["metadata"]["name"].rpartition("-")[0] == name)
    ]
    assert len(found) == 1, (kind, name, [each["metadata"]["name"] for each in found])
    return found[0]
