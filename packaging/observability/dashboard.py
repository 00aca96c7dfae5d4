# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The dashboard for Grafana 9 or later, as `make dashboard` writes it to dashboard.json.

A test runs every query of it against a Prometheus that has scraped a real agent.
"""

import json
from dataclasses import dataclass
from typing import Any

AT = 'job=~"$job",instance=~"$instance"'
FAILED = 'outcome="failure"'
OVER = "[$__rate_interval]"
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """What is shown: `queries` are (expression, legend)."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    description: str = ""


def series(name: str, *more: str) -> str:
    """One metric of the chosen hosts."""
    return f"storpool_agent_{name}{{{','.join((AT, *more))}}}"


def rate(name: str, by: str, *more: str) -> str:
    return f"sum by ({by}) (rate({series(name, *more)}{OVER}))"


def quantile(q: float, name: str, by: str) -> str:
    buckets = f"rate({series(name + '_bucket')}{OVER})"
    return f"histogram_quantile({q}, sum by ({by}, le) ({buckets}))"


def number(title: str, expression: str, unit: str = "short", description: str = "") -> Panel:
    return Panel(title, ((expression, ""),), unit, "stat", 4, description)


ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        number("Hosts that serve commands", f"sum({series('ready')})"),
        number("Hosts with an agent", f"count({series('build_info')})"),
        number("Commands failed in the last hour", f"sum(increase({series('commands_total', FAILED)}[1h]))"),
        number("Guests that have not let go of a disk", f"sum({series('pending_unplugs')})"),
        number("Leftovers of copies", f"sum({series('leftovers')})"),
        number("Drift found", f"sum({series('drift_findings')})", description="By the last look of each host."),
        Panel(
            "Checks of /healthz and /readyz",
            ((f"min by (instance, check) ({series('check_passing')})", "{{instance}} {{check}}"),),
            kind="state-timeline",
            width=16,
            description="1: it passes.",
        ),
        Panel("Versions", ((f"count by (version) ({series('build_info')})", "{{version}}"),)),
    ),
    "Commands": (
        Panel("Commands", ((rate("commands_total", "command"), "{{command}}"),), "ops"),
        Panel("Failures by code", ((rate("commands_total", "code", FAILED), "{{code}}"),), "ops"),
        Panel("Messages refused, by code", ((rate("refused_messages_total", "code"), "{{code}}"),), "ops"),
        Panel(
            "Duration, 95 of 100 are faster",
            ((quantile(0.95, "command_duration_seconds", "command"), "{{command}}"),),
            "s",
            description="From the start to the reply.",
        ),
        Panel("Steps, 95 of 100 are faster", ((quantile(0.95, "step_duration_seconds", "step"), "{{step}}"),), "s"),
        Panel(
            "Wait before the start, 95 of 100 wait less",
            ((quantile(0.95, "command_wait_seconds", "lane"), "{{lane}}"),),
            "s",
            description="Behind other commands for the same object, and for a thread.",
        ),
        Panel("Accepted and not finished", ((f"sum by (state) ({series('unfinished_requests')})", "{{state}}"),)),
        Panel("Control requests", ((rate("control_requests_total", "command"), "{{command}}"),), "ops"),
        Panel("Drained", ((series("draining"), "{{instance}}"),)),
    ),
    "Lanes": (
        Panel(
            "Threads at work",
            (
                (f"sum by (lane) ({series('lane_active_workers')})", "{{lane}}"),
                (f"sum by (lane) ({series('lane_workers')})", "{{lane}}, all"),
            ),
        ),
        Panel("Waiting for a thread", ((f"sum by (lane) ({series('lane_queued')})", "{{lane}}"),)),
        Panel(
            "The first has waited", ((f"max by (lane) ({series('lane_oldest_queued_age_seconds')})", "{{lane}}"),), "s"
        ),
    ),
    "Broker": (
        Panel("Links that are up", ((series("broker_connected"), "{{instance}} {{link}}"),)),
        Panel(
            "Connections made", ((rate("broker_connections_total", "instance, link"), "{{instance}} {{link}}"),), "ops"
        ),
        Panel("Outbox", ((series("outbox_messages"), "{{instance}}"),)),
        Panel("Oldest message in the outbox", ((series("outbox_oldest_age_seconds"), "{{instance}}"),), "s"),
    ),
    "StorPool and libvirt": (
        Panel("Calls of StorPool's API", ((rate("storpool_requests_total", "outcome"), "{{outcome}}"),), "ops"),
        Panel(
            "Calls, 95 of 100 are faster",
            ((quantile(0.95, "storpool_request_duration_seconds", "call"), "{{call}}"),),
            "s",
        ),
        Panel("libvirt is connected", ((series("libvirt_connected"), "{{instance}}"),)),
        Panel("Connections to libvirt made", ((rate("libvirt_connections_total", "instance"), "{{instance}}"),), "ops"),
        Panel("Drift, by kind", ((f"sum by (kind) ({series('drift_findings')})", "{{kind}}"),)),
        Panel("Clock set", ((series("clock_jumps_total"), "{{instance}}"),)),
        Panel("Oldest pending unplug", ((series("pending_unplug_oldest_age_seconds"), "{{instance}}"),), "s"),
    ),
    "Copies": (
        Panel("Throughput", ((rate("copied_bytes_total", "command, phase"), "{{command}} {{phase}}"),), "Bps"),
        Panel("Copies", ((f"sum by (state) ({series('copies')})", "{{state}}"),)),
        Panel("Standing still", ((series("copy_stalled_seconds"), "{{instance}}"),), "s"),
    ),
    "Journal": (
        Panel(
            "Commits, 99 of 100 are faster",
            ((quantile(0.99, "journal_commit_duration_seconds", "instance"), "{{instance}}"),),
            "s",
        ),
        Panel("Commits", ((rate("journal_commit_duration_seconds_count", "instance"), "{{instance}}"),), "ops"),
        Panel("Size", ((f"sum by (instance) ({series('journal_size_bytes')})", "{{instance}}"),), "bytes"),
        Panel(
            "Free for it",
            ((f"{series('state_dir_available_bytes')} / {series('state_dir_size_bytes')}", "{{instance}}"),),
            "percentunit",
        ),
    ),
    "Process": (
        Panel("Memory", ((f"process_resident_memory_bytes{{{AT}}}", "{{instance}}"),), "bytes"),
        Panel("CPU", ((f"rate(process_cpu_seconds_total{{{AT}}}{OVER})", "{{instance}}"),), "percentunit"),
        Panel("Open files", ((f"process_open_fds{{{AT}}}", "{{instance}}"),)),
        Panel("Up since", ((f"time() - process_start_time_seconds{{{AT}}}", "{{instance}}"),), "s"),
    ),
}


def dashboard() -> dict[str, Any]:
    """Rows from top to bottom, panels from left to right."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                **_at(0, y, WIDTH, 1),
            }
        )
        y += 1
        x, height = 0, 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            height = 4 if panel.kind == "stat" else 8
            panels.append({"id": len(panels) + 1, **_shown(panel), **_at(x, y, panel.width, height)})
            x += panel.width
        y += height
    return {
        "title": "storpool-agent",
        "uid": "storpool-agent",
        "description": "Hosts that run storpool-agent. Made by packaging/observability/dashboard.py.",
        "tags": ["storpool"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


def _shown(panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [
        {"refId": chr(ord("A") + place), "datasource": source, "expr": expression, "legendFormat": legend or "__auto"}
        for place, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {},
    }


def _at(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _variables() -> list[dict[str, Any]]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    chosen = {"type": "query", "datasource": source, "refresh": 2, "includeAll": True, "multi": True, "allValue": ".*"}
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {**chosen, "name": "job", "query": "label_values(storpool_agent_build_info, job)"},
        {
            **chosen,
            "name": "instance",
            "query": 'label_values(storpool_agent_build_info{job=~"$job"}, instance)',
            "label": "Host",
        },
    ]


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
