# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics: names as Prometheus wants them, few labels, and one that cannot be read spoils no other."""

import ast
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from storpool_agent import metrics
from storpool_agent.dispatch import pong
from storpool_agent.errors import JournalUnavailable, VolumeBusy
from storpool_agent.metrics import Reading
from storpool_commands.envelope import Failure, Step, Success
from storpool_commands.errors import ErrorCode

SOURCE = Path(metrics.__file__).parent


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"storpool_agent_{name}", labels) or 0.0


def success(took_ms: float, *steps: str) -> Success:
    taken = [Step(step=step, status="done", took_ms=took_ms) for step in steps]
    return Success(id=uuid4(), host="kvm1", result=pong("kvm1"), steps=taken, took_ms=took_ms)


def failure(code: ErrorCode, took_ms: float = 0) -> Failure:
    return Failure(id=uuid4(), host="kvm1", code=code, message="", retry="final", side_effects="none", took_ms=took_ms)


def test_a_command_is_counted_by_outcome_and_measured_with_its_steps() -> None:
    command, step = f"c{uuid4().hex}", f"s{uuid4().hex}"
    metrics.command_ended(command, success(20, step), dry_run=False)
    metrics.command_ended(command, failure(ErrorCode.VOLUME_BUSY, 70), dry_run=False)
    assert value("commands_total", command=command, outcome="success", code="") == 1
    assert value("commands_total", command=command, outcome="failure", code="volume-busy") == 1
    assert value("command_duration_seconds_count", command=command) == 2
    assert value("command_duration_seconds_sum", command=command) == pytest.approx(0.09)
    assert value("command_duration_seconds_bucket", command=command, le="0.025") == 1
    assert value("step_duration_seconds_count", step=step) == 1


def test_a_plan_and_a_command_that_never_began_have_taken_no_time() -> None:
    command, step = f"c{uuid4().hex}", f"s{uuid4().hex}"
    metrics.command_ended(command, success(20, step), dry_run=True)
    metrics.command_ended(command, failure(ErrorCode.TARGET_TAKEN, 20), dry_run=True)
    metrics.command_ended(command, failure(ErrorCode.DEADLINE_PASSED), dry_run=False)
    assert value("commands_total", command=command, outcome="dry-run", code="") == 1
    assert value("commands_total", command=command, outcome="dry-run", code="target-taken") == 1
    assert value("commands_total", command=command, outcome="failure", code="deadline-passed") == 1
    assert (
        value("command_duration_seconds_count", command=command) == value("step_duration_seconds_count", step=step) == 0
    )


def test_a_reading_is_asked_with_every_scrape(reading: Reading) -> None:
    numbers = iter([1.0, 2.0])
    reading.read_by(lambda: {"fast": next(numbers)})
    assert value("of_a_test", lane="fast") == 1
    assert value("of_a_test", lane="fast") == 2


@pytest.mark.parametrize("error", [JournalUnavailable("full"), RuntimeError("a defect")], ids=["expected", "defect"])
def test_a_reading_that_fails_has_no_value_and_all_others_have(reading: Reading, error: Exception) -> None:
    def fail() -> metrics.Values:
        raise error

    reading.read_by(fail)
    text = generate_latest(metrics.REGISTRY).decode()
    assert "\nstorpool_agent_of_a_test{" not in text
    assert "\nprocess_start_time_seconds " in text
    reading.read_by(lambda: {"fast": 1.0})
    assert value("of_a_test", lane="fast") == 1


def test_names_are_as_prometheus_wants_them() -> None:
    for family in metrics.REGISTRY.collect():
        assert family.name.startswith(("storpool_agent_", "process_")), family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name
        assert not family.name.endswith(("_ms", "_minutes", "_kib", "_percent")), family.name


def test_steps_are_few_so_they_may_be_a_label() -> None:
    """The one that has a pool's name in it is counted by its first word."""
    found = list(steps())
    assert len(found) > 30
    assert found.count(None) == 1, "a step whose name is made up: see metrics._step"
    assert (metrics._step("ask fast"), metrics._step("read back")) == ("ask", "read back")


def test_codes_are_labels_as_they_are_on_the_wire() -> None:
    code = VolumeBusy("x").code
    metrics.message_refused(code)
    assert value("refused_messages_total", code="volume-busy") >= 1


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    """One that is nobody else's."""
    one = Reading("of_a_test", "Of a test.", "lane")
    yield one
    metrics.REGISTRY.unregister(one)


def steps() -> Iterator[str | None]:
    """The names that handlers give their steps; None: not a constant."""
    for file in (SOURCE / "handlers").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="step"), args=[ast.Constant(value=str(name)), *_]):
                    yield name
                case ast.Call(func=ast.Attribute(attr="step")):
                    yield None


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Reading("ready", "Once more.")
    assert isinstance(metrics.REGISTRY, CollectorRegistry)
