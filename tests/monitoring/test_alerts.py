"""Alert rules, by promtool: each fires when somebody has to act, is silent when nobody has, and says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "monitoring/alerts.yaml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
}
RUNBOOK = ROOT / "docs/runbook.md"

A = 'job="sse-kit", instance="a"'
B = 'job="sse-kit", instance="b"'
#: For an hour: as it is, and growing by one or ten a minute.
STILL, ONES, TENS = "0x60", "0+1x60", "0+10x60"


class Case(NamedTuple):
    """Series for which an alert fires, those for which it does not, and the labels that it then has besides its severity."""

    bad: dict[str, str]
    good: dict[str, str]
    labels: dict[str, str]


AT = {"job": "sse-kit", "instance": "a"}
FEED = {"job": "sse-kit", "namespace": "n"}
CASES = {
    "SseKitDown": Case({f"up{{{A}}}": STILL}, {f"up{{{A}}}": "1x60"}, AT),
    "SseKitBackplaneDown": Case(
        {f'sse_kit_backplane_up{{{A}, namespace="n", worker="1"}}': "1x10 0x50"},
        {f'sse_kit_backplane_up{{{A}, namespace="n", worker="1"}}': "1x10 0 1x49"},
        {**AT, "namespace": "n"},
    ),
    "SseKitBackplaneUnsteady": Case(
        {f'sse_kit_backplane_reconnects_total{{{A}, namespace="n"}}': ONES},
        {f'sse_kit_backplane_reconnects_total{{{A}, namespace="n"}}': "0x20 3x40"},
        AT,
    ),
    "SseKitFeedRestarted": Case(
        {f'sse_kit_backplane_restarts_total{{{A}, namespace="n"}}': "0x50 1x10"},
        {f'sse_kit_backplane_restarts_total{{{A}, namespace="n"}}': "7x60"},
        FEED,
    ),
    "SseKitUndeliverable": Case(
        {f'sse_kit_backplane_undeliverable_total{{{A}, namespace="n"}}': "0x50 1x10"},
        {f'sse_kit_backplane_undeliverable_total{{{A}, namespace="n"}}': "7x60"},
        FEED,
    ),
    "SseKitEventsLost": Case(
        {f'sse_kit_events_lost_total{{{A}, namespace="n"}}': "0x50 1x10"},
        {f'sse_kit_events_lost_total{{{A}, namespace="n"}}': "7x60"},
        {**AT, "namespace": "n"},
    ),
    "SseKitHistoryTooShort": Case(
        {
            f'sse_kit_gaps_total{{{A}, namespace="n", reason="trimmed"}}': ONES,
            f'sse_kit_streams_resumed_total{{{A}, namespace="n"}}': TENS,
        },
        {
            f'sse_kit_gaps_total{{{A}, namespace="n", reason="trimmed"}}': ONES,
            f'sse_kit_gaps_total{{{A}, namespace="n", reason="overflow"}}': TENS,
            f'sse_kit_streams_resumed_total{{{A}, namespace="n"}}': "0+100x60",
        },
        FEED,
    ),
    "SseKitFull": Case(
        {
            f'sse_kit_streams_refused_total{{{A}, namespace="n"}}': ONES,
            f'sse_kit_draining{{{A}, namespace="n"}}': STILL,
            f'sse_kit_backplane_up{{{A}, namespace="n"}}': "1x60",
        },
        {
            f'sse_kit_streams_refused_total{{{A}, namespace="n"}}': ONES,
            f'sse_kit_draining{{{A}, namespace="n"}}': "1x60",
            f'sse_kit_streams_refused_total{{{B}, namespace="n"}}': ONES,
            f'sse_kit_backplane_up{{{B}, namespace="n"}}': STILL,
        },
        AT,
    ),
    "SseKitDescriptorsShort": Case(
        {f"process_open_fds{{{A}}}": "95x60", f"process_max_fds{{{A}}}": "100x60"},
        {f"process_open_fds{{{A}}}": "80x60", f"process_max_fds{{{A}}}": "100x60"},
        AT,
    ),
    "SseKitPublishRefused": Case(
        {f'sse_kit_publish_refused_total{{{A}, namespace="n"}}': ONES},
        {f'sse_kit_publish_refused_total{{{A}, namespace="n"}}': "0x10 9x50"},
        {**AT, "namespace": "n"},
    ),
    "SseKitSlowDelivery": Case(
        {
            f'sse_kit_publish_to_socket_seconds_bucket{{{A}, namespace="n", le="0.5"}}': TENS,
            f'sse_kit_publish_to_socket_seconds_bucket{{{A}, namespace="n", le="1.0"}}': "0+20x60",
            f'sse_kit_publish_to_socket_seconds_bucket{{{A}, namespace="n", le="+Inf"}}': "0+20x60",
        },
        {
            f'sse_kit_publish_to_socket_seconds_bucket{{{A}, namespace="n", le="0.01"}}': TENS,
            f'sse_kit_publish_to_socket_seconds_bucket{{{A}, namespace="n", le="0.5"}}': TENS,
            f'sse_kit_publish_to_socket_seconds_bucket{{{A}, namespace="n", le="+Inf"}}': TENS,
        },
        {**AT, "namespace": "n"},
    ),
    "SseKitSlowClients": Case(
        {
            f'sse_kit_streams_ended_total{{{A}, namespace="n", reason="lagging"}}': TENS,
            f'sse_kit_streams{{{A}, namespace="n"}}': "100x60",
        },
        {
            f'sse_kit_streams_ended_total{{{A}, namespace="n", reason="client"}}': TENS,
            f'sse_kit_streams_ended_total{{{A}, namespace="n", reason="timeout"}}': ONES,
            f'sse_kit_streams{{{A}, namespace="n"}}': "100x60",
        },
        FEED,
    ),
    "SseKitStreamsCut": Case(
        {
            f'sse_kit_streams_resumed_total{{{A}, namespace="n"}}': "0+100x60",
            f'sse_kit_streams{{{A}, namespace="n"}}': "100x60",
        },
        {
            f'sse_kit_streams_resumed_total{{{A}, namespace="n"}}': TENS,
            f'sse_kit_streams{{{A}, namespace="n"}}': "100x60",
        },
        FEED,
    ),
    "SseKitDrainStuck": Case(
        {f'sse_kit_draining{{{A}, namespace="n"}}': "1x60"},
        {f'sse_kit_draining{{{A}, namespace="n"}}': "0x20 1x3 0x37"},
        AT,
    ),
    "SseKitWorkersRestart": Case(
        {f'sse_kit_streams{{{A}, namespace="default", worker="{pid}"}}': f"_x{40 + pid} 1 _x60" for pid in range(1, 9)}
        | {f'sse_kit_streams{{{A}, namespace="default", worker="99"}}': "1x60"},
        {f'sse_kit_streams{{{A}, namespace="default", worker="{pid}"}}': "1x60" for pid in range(1, 9)}
        | {f"process_start_time_seconds{{{B}}}": "1x30 2x30"},
        AT,
    ),
    "SseKitRunsFail": Case(
        {
            f'sse_kit_producers_ended_total{{{A}, namespace="n", reason="failed"}}': ONES,
            f'sse_kit_producers_ended_total{{{A}, namespace="n", reason="finished"}}': ONES,
        },
        {
            f'sse_kit_producers_ended_total{{{A}, namespace="n", reason="failed"}}': ONES,
            f'sse_kit_producers_ended_total{{{A}, namespace="n", reason="finished"}}': TENS,
        },
        FEED,
    ),
    "SseKitKeysForgotten": Case(
        {f'sse_kit_idempotency_keys_evicted_total{{{A}, namespace="n"}}': ONES},
        {f'sse_kit_idempotency_keys_evicted_total{{{A}, namespace="n"}}': "0x20 7x40"},
        FEED,
    ),
    "SseKitWatchPolls": Case(
        {f"sse_kit_watch_held{{{A}}}": "1x60", f"sse_kit_watch_notified{{{A}}}": STILL},
        {f"sse_kit_watch_held{{{A}}}": "1x60", f"sse_kit_watch_notified{{{A}}}": "1x60"},
        {"job": "sse-kit"},
    ),
    "NginxDown": Case({'nginx_up{instance="a"}': STILL}, {'nginx_up{instance="a"}': "1x60"}, {"instance": "a"}),
    "NginxDropsConnections": Case(
        {'nginx_connections_accepted{instance="a"}': TENS, 'nginx_connections_handled{instance="a"}': ONES},
        {'nginx_connections_accepted{instance="a"}': TENS, 'nginx_connections_handled{instance="a"}': TENS},
        {"instance": "a"},
    ),
    "RedisDown": Case({'redis_up{instance="a"}': STILL}, {'redis_up{instance="a"}': "1x60"}, {"instance": "a"}),
    "RedisMemoryShort": Case(
        {'redis_memory_used_bytes{instance="a"}': "95x60", 'redis_memory_max_bytes{instance="a"}': "100x60"},
        # Without a bound it is told as 0.
        {'redis_memory_used_bytes{instance="a"}': "95x60", 'redis_memory_max_bytes{instance="a"}': STILL},
        {"instance": "a"},
    ),
    "RedisEvictsKeys": Case(
        {'redis_evicted_keys_total{instance="a"}': "0x50 1x10"},
        {'redis_evicted_keys_total{instance="a"}': "7x60"},
        {"instance": "a"},
    ),
}


def promtool(*arguments: str) -> None:
    """Run it; whatever it complains of fails the test."""
    program = shutil.which("promtool")
    assert program is not None, "scripts/install-system-packages test"
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def unit_test(name: str, series: dict[str, str], expected: list[dict[str, Any]], at: str) -> dict[str, Any]:
    """One test of promtool's."""
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": expected}],
    }


def test_the_rules_are_valid() -> None:
    """promtool takes the file, without Kubernetes."""
    promtool("check", "rules", str(FILE))


@pytest.mark.parametrize("name", RULES)
def test_an_alert_fires_when_it_must_and_only_then(name: str, tmp_path: Path) -> None:
    """Each alert fires, with its labels, in the case that it is for, waits for as long as it says, and is silent else."""
    rule, case = RULES[name], CASES[name]
    fires = {
        "exp_labels": {**case.labels, **rule["labels"]},
        "exp_annotations": rule["annotations"],
    }
    tests = [
        unit_test(name, case.bad, [fires], "55m"),
        unit_test(name, case.good, [], "55m"),
    ]
    if "for" in rule:
        tests.append(unit_test(name, case.bad, [], "0m"))
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [str(FILE)], "tests": tests}))

    promtool("test", "rules", str(tmp_path / "test.yaml"))


def test_nothing_known_is_an_alert(tmp_path: Path) -> None:
    """A Prometheus that knows no server at all says so."""
    rule = RULES["SseKitDown"]
    fires = {"exp_labels": {"job": "sse-kit", **rule["labels"]}, "exp_annotations": rule["annotations"]}
    tests = [unit_test("SseKitDown", {"other": "1x60"}, [fires], "55m")]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [str(FILE)], "tests": tests}))

    promtool("test", "rules", str(tmp_path / "test.yaml"))


def test_every_alert_has_its_case_and_its_entry() -> None:
    """Whoever is woken finds what to do: the runbook has an entry for each alert, for no other, and the alert names it."""
    entries = re.findall(r"^## (.+)$", RUNBOOK.read_text(), re.MULTILINE)

    assert list(CASES) == list(RULES) == entries
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")


def test_what_is_derived_is_not_stale() -> None:
    """The PrometheusRule and the dashboard are what the script writes, so that the plain rules are the only ones."""
    done = subprocess.run([ROOT / "scripts/monitoring.py", "--check"], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


def test_the_component_renders() -> None:
    """In a cluster the rules are those of the file, the metrics' Service is scraped, and the dashboard is Grafana's."""
    kubectl = shutil.which("kubectl")
    assert kubectl is not None, "there is no kubectl, which renders the manifests"
    done = subprocess.run(
        [kubectl, "kustomize", str(ROOT / "k8s/components/monitoring")], capture_output=True, text=True, check=True
    )
    objects = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    service = yaml.safe_load((ROOT / "k8s/base/service/metrics-service.yaml").read_text())
    monitor = objects["ServiceMonitor"]["spec"]

    assert objects["PrometheusRule"]["spec"] == yaml.safe_load(FILE.read_text())
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["endpoints"][0]["honorLabels"] is True
    assert objects["ConfigMap"]["data"]["sse-kit.json"] == (ROOT / "monitoring/dashboard.json").read_text()
