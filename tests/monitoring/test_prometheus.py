"""A real Prometheus scrapes the service through nginx, nginx's exporter and Redis', and is asked for the numbers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sse_core.testing import StreamReader
from tests.nginx_server import Nginx, short_folder
from tests.ports import free_port
from tests.redisserver import redis_server
from tests.servers import Server, running_service

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARD = json.loads((ROOT / "monitoring/dashboard.json").read_text())
EXPRESSIONS = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])})
RULES = [
    rule for group in yaml.safe_load((ROOT / "monitoring/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
METRIC = re.compile(r"\b(?:sse_kit|nginx|redis|process)_[a-z_]+\b")
# A condition that comes true late is slow, not wrong.
PATIENCE = 90.0
STREAMS, EVENTS = 40, 25


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    """Ask until there is an answer, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:g} s"
        time.sleep(0.1)
    return answer


@contextmanager
def process(*command: str) -> Iterator[None]:
    """Run a program that is stopped at the end, by its pid."""
    path = shutil.which(command[0])
    assert path is not None, "scripts/install-system-packages test"
    with subprocess.Popen([path, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        try:
            yield
        finally:
            started.terminate()


class Prometheus:
    """A Prometheus and what it watches."""

    def __init__(self, port: int, service: Server, nginx: Nginx) -> None:
        self.service = service
        self.nginx = nginx
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API; None while it does not listen."""
        try:
            with urllib.request.urlopen(
                f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", timeout=30
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                # It listens before it is ready.
                return None
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        except urllib.error.URLError:
            return None

    def value(self, expression: str) -> float | None:
        """The value of an expression with one; None for none."""
        found = self.ask("query", query=expression)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def wait(self, expression: str, expected: float) -> None:
        """Wait until an expression has that value."""
        wait_for(f"{expression} == {expected}", lambda: self.value(expression) == expected)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """All of it: Redis, two workers, nginx, the exporters, and Prometheus with the shipped rules."""
    folder = short_folder()
    (folder / "a.log").write_text("a line\n")
    status, nginx_exporter, redis_exporter, port = (free_port() for _ in range(4))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        redis = stack.enter_context(redis_server(tmp_path_factory.mktemp("redis")))
        service = stack.enter_context(
            running_service(
                workers=2,
                backplane=redis.url,
                logs={"a": str(folder / "a.log")},
                watch_keys=["k"],
                drain_seconds=0.2,
            )
        )
        nginx = stack.enter_context(Nginx(service.url, status=f"127.0.0.1:{status}"))
        stack.enter_context(
            process(
                "prometheus-nginx-exporter",
                f"-nginx.scrape-uri=http://127.0.0.1:{status}/status",
                f"-web.listen-address=127.0.0.1:{nginx_exporter}",
            )
        )
        stack.enter_context(
            process(
                "prometheus-redis-exporter",
                f"-redis.addr={redis.url}",
                f"-web.listen-address=127.0.0.1:{redis_exporter}",
            )
        )
        config = yaml.safe_load((ROOT / "monitoring/prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ROOT / "monitoring/alerts.yaml")]
        targets = {"sse-kit": nginx.port, "nginx": nginx_exporter, "redis": redis_exporter}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
            job |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        stack.enter_context(
            process(
                "prometheus",
                f"--config.file={folder}/prometheus.yaml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            )
        )
        found = Prometheus(port, service, nginx)
        wait_for("all is scraped", lambda: found.value("sum(up)") == len(targets))
        yield found


def test_what_prometheus_is_told_is_what_happened(prometheus: Prometheus) -> None:
    """Streams, events, ends and latencies under load are the numbers that Prometheus has afterwards."""
    before = prometheus.service.request("GET", "/metrics").body.decode()
    assert "sse_kit_streams" in before
    published = prometheus.value("max(sse_kit_events_published_total)") or 0
    readers = [StreamReader(("127.0.0.1", prometheus.nginx.port), "/events?topic=load") for _ in range(STREAMS)]
    prometheus.wait("sum(sse_kit_streams)", STREAMS)
    wait_for("nginx has them", lambda: (prometheus.value("nginx_connections_active") or 0) >= STREAMS)
    for number in range(EVENTS):
        prometheus.service.publish("load", number)
    for reader in readers:
        reader.read(EVENTS)

    # Each worker has every event, and delivers it to its own streams.
    prometheus.wait("sum(sse_kit_events_delivered_total)", STREAMS * EVENTS)
    wait_for("published", lambda: (prometheus.value("max(sse_kit_events_published_total)") or 0) >= published + EVENTS)
    wait_for("latency", lambda: (prometheus.value("sum(sse_kit_publish_to_socket_seconds_count)") or 0) >= EVENTS)
    slowest = "histogram_quantile(1, sum by (le) (sse_kit_publish_to_socket_seconds_bucket))"
    wait_for("the slowest", lambda: (prometheus.value(slowest) or 0) > 0)

    last = readers[0].last_event_id
    for reader in readers:
        reader.close()
    prometheus.wait("sum(sse_kit_streams)", 0)
    prometheus.wait('sum(sse_kit_streams_ended_total{reason="client"})', STREAMS)
    prometheus.wait("sum(sse_kit_streams_resumed_total)", 0)
    with StreamReader(("127.0.0.1", prometheus.nginx.port), "/events?topic=load", last_event_id=last):
        prometheus.wait("sum(sse_kit_streams_resumed_total)", 1)
        prometheus.wait("sum(sse_kit_replays_total)", 1)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_dashboard_asks_what_prometheus_can_answer(prometheus: Prometheus, expression: str) -> None:
    """Every expression of the dashboard is valid, and each metric in it is one that is really scraped."""
    asked = expression.replace("$__rate_interval", "1m")
    assert prometheus.ask("query", query=asked)["resultType"] == "vector"

    for metric in METRIC.findall(expression):
        wait_for(f"{metric} is scraped", lambda metric=metric: prometheus.value(f"count({metric})"))


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_the_alerts_are_about_metrics_that_exist(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    """An alert on a metric that nobody has would be silent for ever."""
    for metric in METRIC.findall(rule["expr"]):
        wait_for(f"{metric} is scraped", lambda metric=metric: prometheus.value(f"count({metric})"))


def test_prometheus_evaluates_the_rules(prometheus: Prometheus) -> None:
    """The shipped rules are loaded as they are, and evaluating them is no error."""

    def evaluated() -> list[dict[str, Any]]:
        groups = prometheus.ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = wait_for("all rules are evaluated", evaluated)

    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
    assert {rule["health"] for rule in rules} == {"ok"}
