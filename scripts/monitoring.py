#!/usr/bin/env python3
"""Writes what is derived in monitoring/ and k8s/components/monitoring/: the PrometheusRule, and Grafana's dashboard.

scripts/monitoring.py          write both
scripts/monitoring.py --check  exit with 1 if one of them is not what it would write
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ALERTS = ROOT / "monitoring/alerts.yaml"
RULE = ROOT / "k8s/components/monitoring/prometheus-rule.yaml"
DASHBOARD = ROOT / "monitoring/dashboard.json"

RULE_HEAD = """\
# monitoring/alerts.yaml as an object of the Prometheus operator. Written by scripts/monitoring.py.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sse-kit
  labels:
    app.kubernetes.io/name: sse-kit
spec:
"""

WIDTH, COLUMNS, HEIGHT = 24, 3, 8


class Panel(NamedTuple):
    """One chart: its title, the question it answers, Grafana's unit, and expressions by legend."""

    title: str
    question: str
    unit: str
    expressions: dict[str, str]


def _rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[$__rate_interval]))"


def _quantiles(metric: str, by: str = "") -> dict[str, str]:
    labels = f"{by}, le" if by else "le"
    return {
        f"{quantile} {{{{{by}}}}}" if by else str(quantile): (
            f"histogram_quantile({quantile}, sum by ({labels}) (rate({metric}_bucket[$__rate_interval])))"
        )
        for quantile in (0.5, 0.99)
    }


ROWS: dict[str, list[Panel]] = {
    "Streams": [
        Panel("Open streams", "How many listen?", "short", {"{{namespace}}": "sum by (namespace) (sse_kit_streams)"}),
        Panel(
            "Begun and ended",
            "Do they come and go, and why?",
            "ops",
            {
                "begun": _rate("sse_kit_streams_adopted_total"),
                "came back": _rate("sse_kit_streams_resumed_total"),
                "sent away": _rate("sse_kit_streams_refused_total"),
                "ended: {{reason}}": _rate("sse_kit_streams_ended_total", "reason"),
            },
        ),
        Panel(
            "Stopping",
            "Is a server sending its streams away?",
            "short",
            {"{{instance}}": "max by (instance) (sse_kit_draining)"},
        ),
    ],
    "Events": [
        Panel(
            "Published and delivered",
            "How much flows?",
            "ops",
            {
                "published": _rate("sse_kit_events_published_total"),
                "delivered": _rate("sse_kit_events_delivered_total"),
                "refused": _rate("sse_kit_publish_refused_total"),
            },
        ),
        Panel(
            "From publish to socket",
            "How late are they?",
            "s",
            _quantiles("sse_kit_publish_to_socket_seconds", "namespace"),
        ),
        Panel("Sent", "How much is that on the wire?", "Bps", {"sent": _rate("sse_kit_sent_bytes_total")}),
    ],
    "What is lost, and who lags": [
        Panel("Gaps", "Who is told of a loss, and why?", "ops", {"{{reason}}": _rate("sse_kit_gaps_total", "reason")}),
        Panel(
            "Lag",
            "How far behind is the slowest?",
            "bytes",
            {"{{instance}}": "max by (instance) (sse_kit_lag_bytes)"},
        ),
        Panel(
            "Blocked streams",
            "How many take nothing now?",
            "short",
            {"{{instance}}": "sum by (instance) (sse_kit_streams_blocked)"},
        ),
        Panel(
            "Replays",
            "Where does what was missed come from?",
            "ops",
            {
                "streams, from {{source}}": _rate("sse_kit_replays_total", "source"),
                "events": _rate("sse_kit_events_replayed_total"),
            },
        ),
        Panel(
            "History evicted",
            "Which bound ends an event's time?",
            "ops",
            {"{{by}}": _rate("sse_kit_events_evicted_total", "by")},
        ),
        Panel(
            "History",
            "What do the logs take?",
            "bytes",
            {"{{instance}}": "sum by (instance) (sse_kit_history_bytes)"},
        ),
    ],
    "Loops": [
        Panel("Turn of a loop", "Is a loop busy?", "s", _quantiles("sse_kit_loop_turn_seconds", "instance")),
        Panel(
            "Mailboxes",
            "Do publishers run ahead of the loops?",
            "bytes",
            {"{{instance}}": "sum by (instance) (sse_kit_mailbox_bytes)"},
        ),
        Panel(
            "Processor",
            "How much of a core is used?",
            "percentunit",
            {"{{instance}}": 'sum by (instance) (rate(process_cpu_seconds_total{job="sse-kit"}[$__rate_interval]))'},
        ),
        Panel(
            "Memory",
            "What is in RAM?",
            "bytes",
            {"{{instance}}": 'sum by (instance) (process_resident_memory_bytes{job="sse-kit"})'},
        ),
        Panel(
            "Descriptors",
            "How far from the limit?",
            "percentunit",
            {
                "{{instance}}": 'max by (instance) (process_open_fds{job="sse-kit"} / process_max_fds{job="sse-kit"})',
            },
        ),
        Panel(
            "Runs",
            "How do they end?",
            "ops",
            {"{{reason}}": _rate("sse_kit_producers_ended_total", "reason")},
        ),
    ],
    "Around it": [
        Panel(
            "Backplane",
            "Does Redis answer each worker?",
            "short",
            {"{{instance}}": "min by (instance) (sse_kit_backplane_up)"},
        ),
        Panel(
            "nginx",
            "How many connections has it?",
            "short",
            {
                "active": "sum by (instance) (nginx_connections_active)",
                "requests a second": _rate("nginx_http_requests_total"),
            },
        ),
        Panel(
            "Redis",
            "What does it use?",
            "bytes",
            {"used": "redis_memory_used_bytes", "most": "redis_memory_max_bytes"},
        ),
    ],
}


def prometheus_rule() -> str:
    """The rules, indented under the head."""
    lines = [line for line in ALERTS.read_text().splitlines() if not line.startswith("#")]
    return RULE_HEAD + "".join(f"  {line}\n" if line else "\n" for line in lines)


def dashboard() -> str:
    """The dashboard in Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "id": len(panels) + 1, "gridPos": _place(0, y, WIDTH, 1)})
        y += 1
        for number, panel in enumerate(row):
            column = number % COLUMNS
            width = WIDTH // COLUMNS
            place = _place(column * width, y + number // COLUMNS * HEIGHT, width, HEIGHT)
            panels.append(_chart(panel, len(panels) + 1, place))
        y += -(-len(row) // COLUMNS) * HEIGHT
    document = {
        "title": "sse-kit",
        "uid": "sse-kit",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "tags": ["sse-kit"],
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }
    return json.dumps(document, indent=2) + "\n"


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _chart(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.question,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + position), "datasource": source, "expr": expression, "legendFormat": legend}
            for position, (legend, expression) in enumerate(panel.expressions.items())
        ],
    }


def main(arguments: list[str]) -> int:
    """Write or check; return the exit code."""
    stale = 0
    for path, text in ((RULE, prometheus_rule()), (DASHBOARD, dashboard())):
        if path.exists() and path.read_text() == text:
            continue
        if arguments == ["--check"]:
            print(f"{path.relative_to(ROOT)} is not what scripts/monitoring.py writes")
            stale = 1
        else:
            path.write_text(text)
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
