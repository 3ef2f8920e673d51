"""The component `loadtest`: what its pods run, run here as they would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.check_kubernetes import K8S, kubectl, parse
from tests.k8s.manifests import composed, find, pod_of
from tests.k8s.rules.numbers import settings_of
from tests.ports import free_port
from tests.stack import running_stack

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0


def test_master_and_workers_find_each_other() -> None:
    """The script of the pods leads to a run of all workers with the service's token, and the master's log is the report."""
    objects = composed("loadtest")
    script = find(objects, "ConfigMap", "load-script")["data"]["run.sh"]
    settings = find(objects, "ConfigMap", "load")["data"]
    count = int(settings["WORKERS"])
    options = "-u 6 -r 50 --events 30 --min-published 0 --ready-timeout 90 --settle 90"
    with running_stack(tokens={"loader": "a-token-of-some-length"}) as stack:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **settings,
            "TARGET": stack.nginx.url,
            "OPTIONS": options,
            "SSE_KIT_TOKENS": json.dumps({"loader": "a-token-of-some-length"}),
            "MASTER": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
        }
        pods = [
            subprocess.Popen(
                ["sh", "-c", script, "run.sh", kind],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for kind in ["master", *["worker"] * count]
        ]
        try:
            logs = [pod.communicate(timeout=PATIENCE)[0] for pod in pods]
        finally:
            for pod in pods:
                pod.kill()
                pod.wait()

    assert [pod.returncode for pod in pods] == [0] * (1 + count), logs
    assert "6 streams, " in logs[0]
    assert f"{count} process(es)" in logs[0]
    assert "published 30" in logs[0]
    assert logs[0].rstrip().endswith("PASSED")


def test_as_many_workers_run_as_the_master_waits_for() -> None:
    """WORKERS is the number of the Job's pods: with fewer the master would wait for ever."""
    objects = composed("loadtest")
    job = find(objects, "Job", "load-worker")["spec"]
    settings = find(objects, "ConfigMap", "load")["data"]

    assert job["parallelism"] == job["completions"] == int(settings["WORKERS"])


def test_the_run_is_within_the_limits_of_a_client() -> None:
    """What run.env asks for is not refused by limits of one address or subject, however streams are spread over pods."""
    objects = composed("loadtest")
    run = find(objects, "ConfigMap", "load")["data"]
    users, rate = (int(re.findall(rf"(?:^|\s){option} (\d+)", run["OPTIONS"])[0]) for option in ("-u", "-r"))
    settings = settings_of(objects)
    site = find(objects, "ConfigMap", "nginx-site")["data"]
    (streams,) = re.findall(r"^limit_conn streams (\d+);", site["streams.conf"], re.MULTILINE)
    (connects,) = re.findall(r"zone=connect:\S+ rate=(\d+)r/s;", site["rates.conf"])
    workers = int(run["WORKERS"])

    assert users <= settings.max_streams_per_subject
    assert users <= workers * min(int(streams), settings.max_streams_per_address)
    assert rate <= workers * int(connects)


def test_the_overlay_of_the_docs_renders(tmp_path: Path) -> None:
    """What docs/deploy/kubernetes.md has for an overlay is a run of what it says, and lets the workers have more streams."""
    text = (ROOT / "docs/deploy/kubernetes.md").read_text("utf-8")
    (example,) = re.findall(r"^```\n(components:\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    # kustomize takes no absolute path of a folder.
    way = os.path.relpath(K8S, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{way}/base]\n" + example.replace("../..", way))
    (tmp_path / "trusted.conf").write_text("10.244.0.0/16 1;\n")
    objects = parse(kubectl("kustomize", str(tmp_path)))
    job = pod_of(find(objects, "Job", "load-worker"))["containers"][0]
    run = find(objects, "ConfigMap", "load")

    assert run["data"]["OPTIONS"].startswith("-u 5000 ")
    assert job["envFrom"][0]["configMapRef"]["name"] == run["metadata"]["name"]
    assert job["image"] == "registry.example.com/sse-kit-load:0.1.0"
    assert find(objects, "ConfigMap", "nginx-site")["data"]["trusted.conf"] == "10.244.0.0/16 1;\n"
    assert settings_of(objects).max_streams_per_subject >= 5000


def test_what_is_targeted_is_the_service() -> None:
    """The Jobs load this service by its name in the cluster, and the master is where the workers look for it."""
    objects = composed("loadtest")
    target = find(objects, "ConfigMap", "load")["data"]["TARGET"].removeprefix("http://")
    master = find(objects, "Service", "load-master")["spec"]

    assert find(objects, "Service", target)["spec"]["ports"][0]["port"] == 80
    assert master["ports"][0]["port"] == 5557
    assert pod_of(find(objects, "Job", "load-master"))["containers"][0]["ports"][0]["containerPort"] == 5557
