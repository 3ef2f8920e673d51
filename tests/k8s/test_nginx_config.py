"""nginx's configuration in a pod: the shipped files at the places where the containers mount them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sse_kit.nginxkit import program
from tests.k8s.manifests import OVERLAYS, ROOT, Object, find, overlay

PLACE = "/etc/sse-kit/nginx"


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def mounted(objects: list[Object], workload: str, container: str) -> dict[str, str]:
    """Path to content of each file that a container of a Deployment gets from ConfigMaps."""
    pod = find(objects, "Deployment", workload)["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    (mounts,) = (each["volumeMounts"] for each in containers(pod) if each["name"] == container)
    files = {}
    for mount in mounts:
        source = volumes[mount["name"]].get("configMap")
        if source is not None:
            data = find(objects, "ConfigMap", source["name"])["data"]
            files |= {f"{mount['mountPath']}/{key}": text for key, text in data.items()}
    return files


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_shipped_file_is_mounted_where_nginx_looks_for_it(name: str) -> None:
    """A pod has all files of nginx/ at their own places; what differs is in site/ alone, or is a server more."""
    files = mounted(overlay(name), "sse-kit", "nginx")

    shipped = {path.relative_to(ROOT / "nginx"): path.read_text() for path in (ROOT / "nginx").rglob("*.conf")}
    for path, text in shipped.items():
        if path.parts[:2] == ("conf.d", "templates"):
            continue
        found = files[f"{PLACE}/{path}"]
        if path.parts[0] != "site":
            assert found == text, path


@pytest.mark.parametrize("name", OVERLAYS)
def test_nginx_takes_what_is_mounted(name: str, tmp_path: Path) -> None:
    """The real nginx finds no fault, not even a warning, with the configuration of a rendered pod."""
    config = lay_out(mounted(overlay(name), "sse-kit", "nginx"), tmp_path)

    assert check(config, tmp_path) == (0, "")


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    """nginx refuses a pod's configuration without one of its files, so the check above can fail."""
    files = mounted(overlay("production"), "sse-kit", "nginx")
    del files[f"{PLACE}/snippets/location/stream.conf"]

    status, said = check(lay_out(files, tmp_path), tmp_path)

    assert status != 0
    assert "stream.conf" in said


def lay_out(files: dict[str, str], folder: Path) -> Path:
    for path, text in files.items():
        target = folder / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (folder / "run/tmp").mkdir(parents=True)
    return folder / PLACE.removeprefix("/") / "nginx.conf"


def check(config: Path, folder: Path) -> tuple[int, str]:
    nginx = program.find()
    assert nginx is not None
    done = subprocess.run(
        [nginx.path, "-t", "-q", "-p", str(folder / "run"), "-c", str(config), "-e", "stderr"],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr
