# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Alerts that promtool has tried, a dashboard as its program writes it, and only metrics that the agent has."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from storpool_agent import metrics
from storpool_agent.metrics import Reading

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "packaging" / "observability"
ALERTS = (OBSERVABILITY / "alerts.yml").read_text()
DASHBOARD: dict[str, Any] = json.loads((OBSERVABILITY / "dashboard.json").read_text())
DOCUMENT = (ROOT / "docs" / "operating.md").read_text()
PROMTOOL_TIMEOUT_S = 60.0
NAME = re.compile(r"\b(?:storpool_agent|process)_[a-z0-9_]+")
ALERT = re.compile(r"^      - alert: (\w+)\n((?:        .*\n|\n)+)", re.MULTILINE)
ROW = re.compile(r"^\| `((?:storpool_agent|process)_\w+)` \| ([a-z]+)(?:: ([^|]+))? \| .+ \|$", re.MULTILINE)


@pytest.mark.parametrize(
    "command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]], ids=" ".join
)
def test_promtool_is_content(command: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *command],
        cwd=OBSERVABILITY,
        capture_output=True,
        text=True,
        check=False,
        timeout=PROMTOOL_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_by_promtool() -> None:
    tried = (OBSERVABILITY / "alerts_test.yml").read_text()
    assert {name for name, _ in alerts() if name not in tried} == set()


@pytest.mark.parametrize(("name", "rule"), ALERT.findall(ALERTS), ids=[name for name, _ in ALERT.findall(ALERTS)])
def test_every_alert_says_how_bad_it_is_and_what_to_do(name: str, rule: str) -> None:
    assert re.search(r"^          severity: (critical|warning)$", rule, re.MULTILINE)
    assert re.search(r"^          summary: .+$", rule, re.MULTILINE)
    assert re.search(r"^          description: .+$", rule, re.MULTILINE)
    assert f'runbook_url: "file:///usr/share/doc/storpool-agent/operating.md#{name.lower()}"' in rule
    assert re.search(rf"^### {name}\n\n\S", DOCUMENT, re.MULTILINE), "its section in docs/operating.md"


def test_no_section_is_about_an_alert_that_there_is_not() -> None:
    section = DOCUMENT.split("\n## Alerts\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^### (.+)$", section, re.MULTILINE)) == sorted(dict(alerts()))


def test_the_dashboard_is_as_its_program_writes_it() -> None:
    written = subprocess.run(
        [sys.executable, OBSERVABILITY / "dashboard.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PROMTOOL_TIMEOUT_S,
    ).stdout
    assert json.loads(written) == DASHBOARD, "make dashboard"


def test_panels_do_not_overlap_and_stay_within_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_queries_are_about_metrics_that_the_agent_has() -> None:
    used = {name for query in (*queries(), ALERTS) for name in NAME.findall(query)}
    assert used - set(told()) == set()


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for query in queries() for name in NAME.findall(query)}
    families = {name for name in declared() if name.startswith("storpool_agent_")}
    assert {name for name in families if not any(one.startswith(name) for one in shown)} == set()


def test_every_metric_has_its_line_with_its_kind_and_labels() -> None:
    lines = ROW.findall(DOCUMENT)
    assert len(lines) == len({name for name, _, _ in lines}), "listed twice"
    assert {name: (kind, labels.replace("`", "")) for name, kind, labels in lines} == declared()


def alerts() -> list[tuple[str, str]]:
    return ALERT.findall(ALERTS)


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def declared() -> dict[str, tuple[str, str]]:
    """Name, kind and labels of all that the registry has."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: (family.type, labels)
        for family, labels in families()
    }


def families() -> Iterator[tuple[Any, str]]:
    for collector in {*metrics.REGISTRY._collector_to_names}:
        labels = ""
        if isinstance(collector, Reading):
            labels = ", ".join(collector._labels)
        elif isinstance(collector, MetricWrapperBase):
            labels = ", ".join(collector._labelnames)
        for family in collector.collect():
            yield family, labels


def told() -> Iterator[str]:
    """Every name that a series can have."""
    for name, (kind, _) in declared().items():
        yield from (f"{name}_{part}" for part in ("bucket", "count", "sum")) if kind == "histogram" else (name,)
