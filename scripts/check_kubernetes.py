#!/usr/bin/env python3
"""Render every overlay of k8s/, and every component on the base, and check each object against the API of Kubernetes.

The schemas are strict, a field that does not exist is a fault, and so is a kind that has no schema, unless it is one of
`FOREIGN`. What is shown by that is the shape of single objects; tests/k8s/ has rules about how they fit together.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from kubernetes_validate import utils

K8S = Path(__file__).resolve().parent.parent / "k8s"

#: The oldest that nodes of a cluster may reasonably have, one in between, and the newest there is a schema for.
VERSIONS = ("1.31", "1.34", "1.37")

#: The oldest kubectl that these manifests were rendered by.
OLDEST_KUBECTL = (1, 32)

#: Kinds that Kubernetes does not have until somebody installs them: no schema of it can know them.
FOREIGN = frozenset(
    {
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("monitoring.coreos.com/v1", "PodMonitor"),
        ("monitoring.coreos.com/v1", "PrometheusRule"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
    }
)

#: An object of Kubernetes.
Object = dict[str, Any]


class RenderError(Exception):
    """What kubectl says of manifests that it cannot render, or that there is no kubectl."""


ADVICE = f"Install version {'.'.join(map(str, OLDEST_KUBECTL))} or later: of Debian 13, or of Kubernetes' own packages"


@functools.cache
def version_of(program: str) -> tuple[int, int]:
    """Return what a kubectl says of itself; zeros for what is none."""
    told = subprocess.run([program, "version", "--client", "--output", "json"], capture_output=True, text=True)
    found = re.search(r'"gitVersion": *"v(\d+)\.(\d+)', told.stdout)
    return (0, 0) if found is None else (int(found[1]), int(found[2]))


def kubectl(*arguments: str) -> str:
    """Return what kubectl prints. Raises `RenderError`."""
    program = shutil.which("kubectl")
    if program is None:
        raise RenderError(f"there is no kubectl, which renders k8s/. {ADVICE}")
    if (version := version_of(program)) < OLDEST_KUBECTL:
        raise RenderError(f"{program} is of version {version[0]}.{version[1]}. {ADVICE}")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RenderError(done.stderr.strip())
    return done.stdout


@functools.cache
def text_of(folder: Path) -> str:
    """Return what kustomize makes of a folder. Raises `RenderError`."""
    return kubectl("kustomize", str(folder))


@functools.cache
def composed_text(components: tuple[str, ...]) -> str:
    """Return the base with components on it. Raises `RenderError`."""
    with tempfile.TemporaryDirectory() as name:
        # kustomize takes no absolute path of a folder.
        way = os.path.relpath(K8S, Path(name).resolve())
        used = [f"{way}/components/{each}" for each in components]
        folder = Path(name).resolve()
        (folder / "kustomization.yaml").write_text(json.dumps({"resources": [f"{way}/base"], "components": used}))
        return kubectl("kustomize", str(folder))


def parse(text: str) -> list[Object]:
    """Return the objects of rendered manifests."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each is not None]


def overlays() -> list[str]:
    """Return the names of all overlays."""
    return sorted(each.name for each in (K8S / "overlays").iterdir() if each.is_dir())


def components() -> list[str]:
    """Return the names of all components."""
    return sorted(each.parent.name for each in (K8S / "components").glob("*/kustomization.yaml"))


def places() -> Iterator[tuple[str, list[Object]]]:
    """Yield what can be installed: a name, and its objects. Raises `RenderError`."""
    for name in overlays():
        yield f"overlays/{name}", parse(text_of(K8S / "overlays" / name))
    for name in components():
        yield f"base with components/{name}", parse(composed_text((name,)))


def schema_faults(objects: Iterable[Object], version: str) -> list[str]:
    """Return what is wrong with objects by the API of one version of Kubernetes, a sentence each."""
    faults = []
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        if (each["apiVersion"], each["kind"]) in FOREIGN:
            continue
        try:
            used = utils.validate(each, version, strict=True)
        except utils.ValidationError as error:
            faults.append(f"{name}: {'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})")
        except utils.SchemaNotFoundError:
            faults.append(f"{name}: Kubernetes {version} does not know a {each['kind']} of {each['apiVersion']}")
        else:
            # It takes an older version's schemas where it lacks one, without a word.
            if used != version:
                faults.append(f"{name}: there are no schemas of Kubernetes {version}, only of {used}")
    return faults


def main() -> None:
    """Check everything; exit with 1 and the faults if there are any."""
    # It reads and parses megabytes for each object anew.
    utils.schema_contents = functools.cache(utils.schema_contents)
    faults: list[str] = []
    seen: set[str] = set()
    count = 0
    try:
        tool = json.loads(kubectl("version", "--client", "--output", "json"))
        for place, objects in places():
            # Most objects are the same everywhere.
            new = [each for each in objects if json.dumps(each) not in seen]
            seen.update(json.dumps(each) for each in new)
            count += 1
            for version in VERSIONS:
                faults += [f"{place}: {fault}" for fault in schema_faults(new, version)]
    except RenderError as error:
        sys.exit(f"check_kubernetes: {error}")
    if faults:
        sys.exit("\n".join(faults))
    print(
        f"Kubernetes: {count} places, {len(seen)} different objects, valid for {', '.join(VERSIONS)}; rendered by kubectl "
        f"{tool['clientVersion']['gitVersion']}, kustomize {tool['kustomizeVersion']}"
    )


if __name__ == "__main__":
    main()
