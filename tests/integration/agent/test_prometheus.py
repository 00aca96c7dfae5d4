# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a real agent that works: the dashboard shows all of it, and the alerts are quiet."""

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from integration.agent.copy_lab import MIB, CopyLab, running_copy_lab
from prometheus_process import Prometheus, running_prometheus
from raw_client import raw_client
from storpool_commands.client import CommandFailed
from storpool_commands.control import GetDriftReport, Ping
from storpool_commands.copies import BackupSnapshot
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk

pytestmark = pytest.mark.long

OBSERVABILITY = Path(__file__).parents[3] / "packaging" / "observability"
ALERTS = OBSERVABILITY / "alerts.yml"
DASHBOARD = json.loads((OBSERVABILITY / "dashboard.json").read_text())
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
GRAFANA = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}
METRIC = re.compile(r"\b(?:storpool_agent|process)_\w+|\bup\b")
TOOL_TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def lab(nfs_client: None) -> Iterator[CopyLab]:
    with running_copy_lab(metrics={"listen": "127.0.0.1:0"}) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(lab: CopyLab) -> Iterator[Prometheus]:
    """It has seen a day's work twice: of a series that is born with a 1, nothing is known of how fast it grows."""
    with running_prometheus([lab.stack.agent.metrics_address], ALERTS) as running:
        for day in ("monday", "tuesday"):
            work(lab, day)
            running.wait_for_scrapes(3)
        yield running


def work(lab: CopyLab, name: str) -> None:
    """A disk, a failure, a message that is none, a copy, and questions."""
    volume = lab.volume()
    lab.stack.call(ConnectPhysicalDisk(volume=volume))
    lab.stack.management.control(GetDriftReport(), host=lab.stack.host)
    lab.stack.management.control(Ping(), host=lab.stack.host)
    lab.stack.call(DisconnectPhysicalDisk(volume=volume))
    with pytest.raises(CommandFailed):
        lab.stack.call(ConnectPhysicalDisk(volume="no-such-volume"))
    with raw_client(lab.stack.amqp_url) as raw:
        raw.publish(b"not JSON")
        raw.next_reply()
    lab.stack.call(BackupSnapshot(snapshot=lab.snapshot(bytes(8 * MIB)), target=lab.nfs.image(f"{name}.qcow2")))


def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus) -> None:
    silent = [(title, expression) for title, expression in QUERIES if not numbers(prometheus, expression)]
    assert len(QUERIES) > 40
    assert silent == []


def test_every_alert_can_be_computed_and_none_is_raised_for_a_day_s_work(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert {rule["name"] for rule in rules} == set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    prometheus.wait_until(lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()))
    assert [(rule["name"], rule.get("lastError")) for rule in prometheus.rules() if rule["health"] != "ok"] == []
    used = {name for rule in rules for name in METRIC.findall(rule["query"])}
    assert {name for name in used if not prometheus.query(name)} == set()
    assert prometheus.query('ALERTS{alertstate="firing"}') == []


def test_the_numbers_are_those_of_what_was_done(prometheus: Prometheus, lab: CopyLab) -> None:
    counted = counts(prometheus, "storpool_agent_commands_total", "command", "outcome", "code")
    assert counted["backupSnapshot", "success", ""] == 2
    assert counted["connectPhysicalDisk", "failure", "volume-not-found"] == 2
    assert counts(prometheus, "storpool_agent_refused_messages_total", "code") == {("not-json",): 2}
    assert counts(prometheus, "storpool_agent_control_requests_total", "command")[("ping",)] == 2
    copied = counts(prometheus, "storpool_agent_copied_bytes_total", "phase")
    assert copied == {("copy",): 16 * MIB, ("verify",): 16 * MIB}
    assert prometheus.values("storpool_agent_ready") == [1]
    assert prometheus.values("storpool_agent_lane_workers{lane='bulk'}") == [2]
    assert prometheus.values("storpool_agent_drift_findings{kind='not-used'}") == [1], "the disk that no machine has"
    asked = len(lab.stack.storpool.sim.requests("VolumesReassignWait"))
    assert asked > 0
    ours = prometheus.values("sum(storpool_agent_storpool_requests_total{call='VolumesReassignWait'})")
    assert ours == [asked]


def test_no_label_names_a_volume_a_machine_or_a_request(prometheus: Prometheus) -> None:
    """Their number would have no bound."""
    allowed = {"__name__", "job", "instance", "le", "host", "version", "command", "outcome", "code", "lane", "step"}
    allowed |= {"call", "link", "check", "state", "kind", "phase", "file"}
    series = [one["metric"] for one in prometheus.query('{__name__=~"storpool_agent_.+"}')]
    assert {label for one in series for label in one} <= allowed
    assert not [value for one in series for value in one.values() if re.search(r"[0-9a-f]{8}-|~|d\.n\.|qcow2", value)]
    assert len(series) < 1500


def test_promtool_finds_nothing_to_mend_in_the_names(lab: CopyLab) -> None:
    with urlopen(f"http://{lab.stack.agent.metrics_address}/metrics", timeout=TOOL_TIMEOUT_S) as answer:
        text = answer.read()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=TOOL_TIMEOUT_S
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def numbers(prometheus: Prometheus, expression: str) -> list[float]:
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    return [value for value in prometheus.values(expression) if not math.isnan(value)]


def counts(prometheus: Prometheus, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    found: list[dict[str, Any]] = prometheus.query(f"sum by ({','.join(labels)}) ({name})")
    return {tuple(one["metric"].get(label, "") for label in labels): float(one["value"][1]) for one in found}
