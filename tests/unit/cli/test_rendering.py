# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What answers look like where no terminal is, and how the program ends."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storpool_agent.cli import jobs, orders, place, presence, render, status, volumes, why
from storpool_agent.cli.exits import NOT_RUNNING, TROUBLE
from storpool_agent.cli.place import Place
from storpool_agent.cli.presence import Presence
from storpool_agent.cli.program import Commands
from storpool_agent.cli.systemd import read_unit
from storpool_agent.settings import ENVIRONMENT_PREFIX, Settings
from storpool_commands.control import (
    CommandStatus,
    Drained,
    Drift,
    JobProgress,
    ListedAttachment,
    PendingUnplug,
    QueriedCommand,
    RunningMirror,
    UnfinishedCommand,
)
from unit.commands.host_samples import AGENT_STATUS, EXPLAINED, PROCESS
from unit.commands.samples import DETAILS, ID, NOW, STATUS

RUNNING = presence.RUNNING
DOWN = Presence("down", "systemd says failed")
HEAVY = {"libvirt", "pika", "pyudev", "rich", "structlog", "pydantic_settings", "urllib3", "tenacity", "sqlite3"}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_table_is_columns_with_nothing_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("id", "what"), [["1", "x" * 300], ["22", ("bad", "red")]])
    assert said(capsys).splitlines() == ["ID  WHAT", f"1   {'x' * 300}", "22  bad"]


def test_nothing_from_elsewhere_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("a",), [["\x1b[2J"]])
    render.facts([("b", ("\x07", "red"))])
    render.line("c\r\n")
    assert "\x1b" not in (text := said(capsys))
    assert "\r" not in text
    assert "\x07" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (172800, "2 d"), (-5, "0 s")],
)
def test_a_length_of_time_is_one_unit(seconds: float, text: str) -> None:
    assert render.lasting(seconds) == text


def test_a_request_is_a_line_with_all_of_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    ended = STATUS.model_copy(
        update={"state": "finished", "received_at": NOW, "finished_at": NOW + timedelta(seconds=2), "progress": None}
    )
    fine = ended.model_copy(update={"outcome": "success", "code": None})
    jobs.show([STATUS, ended, fine])
    head, running, failed, done = said(capsys).splitlines()
    assert head.split() == ["ID", "COMMAND", "ABOUT", "RECEIVED", "TRIES", "STATE"]
    assert running.split()[:7] == [str(ID), "attachDisk", "~a.b.c", "vm-1", "2026-01-31T12:00:00Z", "1", "running"]
    assert failed.endswith("vm-busy  within 2 s")
    assert done.endswith("done     within 2 s")


def test_progress_says_how_far_and_how_long() -> None:
    far = JobProgress(
        phase="copy", bytes_done=420 << 20, bytes_total=1 << 30, rate_bytes_s=120 << 20, eta_s=300, stalled_s=None
    )
    assert jobs.progress(far) == "copy 41% of 1 GiB, 120 MiB/s, 5 min left"
    assert jobs.progress(JobProgress(phase="queued")) == "queued"
    assert jobs.progress(JobProgress(phase="copy", stalled_s=7)) == "copy, stands still for 7 s"


def test_one_request_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    reply: dict[str, Any] = {
        "status": "failure",
        "code": "vm-busy",
        "message": "libvirt is migrating it",
        "retry": "retryable",
        "sideEffects": "none",
        "facts": {"vm": "vm-1"},
        "steps": [{"step": "attach", "status": "undone", "tookMs": 1.2}],
    }
    finished: CommandStatus = STATUS.model_copy(update={"state": "finished", "attempts": 2})
    jobs.show_one(QueriedCommand(status=finished, reply=reply, details=DETAILS))
    text = said(capsys)
    for part in (
        str(ID),
        "attachDisk volume=~a.b.c vm=vm-1",
        "vm-busy: libvirt is migrating it",
        "retryable, side effects: none",
        "attach  undone  1 ms",
        "2: the agent was stopped, or died, while it ran",
        "Left over, and taken away as soon as that can be",
        '"command": "attachDisk"',
    ):
        assert part in text


def test_a_volume_is_explained_from_the_answer_down(capsys: pytest.CaptureFixture[str]) -> None:
    why.show(EXPLAINED, "disk-1")
    lines = said(capsys).splitlines()
    assert lines[:2] == ["Volume ~d.n.a1 disk-1, 512 B, template dev", "Machine web-1 runs with it as vdb."]
    assert lines[-2:] == ["What to do", "  1. Wait."]
    names = {line[:14].strip() for line in lines[3:-3]}
    assert {"attached to", "device", "open by", "machines", "unplug", "under way", "lately", "generation"} <= names
    assert "not known      libvirt: down" in lines


def test_drift_shows_since_when_and_what_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"kind": "not-used", "global_id": "d.n.a1", "path": None, "vm": None, "detail": "attached rw"}
    drift = Drift.model_validate({**one, "first_seen": NOW, "evidence": [], "repair": "detach it"})
    volumes.show([drift], watched=False)
    assert said(capsys).splitlines()[0].split() == ["KIND", "VOLUME", "WHAT", "WHAT", "TO", "DO"]
    volumes.show([drift], watched=True)
    head, line = said(capsys).splitlines()
    assert head.split() == ["KIND", "VOLUME", "WHAT", "SINCE", "WHAT", "TO", "DO"]
    assert line.endswith("2026-01-31T12:00:00Z  detach it")


USED = ListedAttachment(global_id="d.n.a2", snapshot=False, mode="rw", path=None, vms=["u"], vm_names=["web-1"])


def test_a_drain_says_what_a_maintenance_would_disturb(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Drained(draining=True, quiet=True, unfinished=0, attachments=[])
    orders.show(quiet)
    assert said(capsys) == "Drained, and quiet: nothing is under way, and no running machine has a volume.\n"
    orders.show(
        Drained(
            draining=True,
            quiet=False,
            unfinished=1,
            commands=[UnfinishedCommand(id=ID, body_command="backupSnapshot", state="running", waited_s=130)],
            pending_unplugs=[PendingUnplug(global_id="d.n.a1", vm="u", request="r1")],
            mirrors=[RunningMirror(vm="u", path="/dev/x", request="r2")],
            attachments=[USED],
            not_known="libvirt is down",
        )
    )
    text = said(capsys)
    for part in ("To be finished: 1.", f"{ID}  backupSnapshot  running", "for 2 min", "~d.n.a1", "/dev/x", "web-1"):
        assert part in text
    assert text.endswith("Not known: libvirt is down\n")


@pytest.mark.parametrize(
    ("attachments", "not_known", "says"),
    [
        ([USED], None, "nothing is under way. It is quiet when the running machines have moved away, or are off."),
        (None, "libvirt is down", "nothing is under way. It is not known whether running machines have volumes."),
    ],
    ids=["machines run", "libvirt is down"],
)
def test_a_drain_that_is_done_says_what_is_left_until_the_host_is_quiet(
    attachments: list[ListedAttachment] | None, not_known: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    orders.show(Drained(draining=True, quiet=False, unfinished=0, attachments=attachments, not_known=not_known))
    assert said(capsys).splitlines()[0] == f"Drained, and {says}"


@pytest.mark.parametrize(
    ("troubles", "agent", "expected"),
    [
        ([], RUNNING, 0),
        (["x"], RUNNING, TROUBLE),
        ([], Presence("silent", "x"), TROUBLE),
        (["no agent answers"], DOWN, NOT_RUNNING),
    ],
)
def test_the_exit_status_is_as_systemctl_has_it(troubles: list[str], agent: Presence, expected: int) -> None:
    told = AGENT_STATUS.model_copy(update={"troubles": troubles})
    assert status.exit_status(told, agent) == expected


def test_the_status_is_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    status.show(AGENT_STATUS, RUNNING)
    text = said(capsys)
    assert len(text.splitlines()) < 24
    parts = (
        "kvm1: drained, takes no commands",
        "2 of 16 workers busy, 1 queued",
        "not connected",
        "no such vhost",
        "Trouble",
    )
    for part in parts:
        assert part in text
    status.show(AGENT_STATUS.model_copy(update={"process": None}), DOWN)
    assert "kvm1: does not run" in said(capsys)


def test_an_agent_that_lacks_something_does_not_serve(capsys: pytest.CaptureFixture[str]) -> None:
    process = PROCESS.model_copy(update={"draining": False})
    status.show(AGENT_STATUS.model_copy(update={"process": process}), RUNNING)
    assert "kvm1: runs, without its broker and libvirt" in said(capsys)
    there = AGENT_STATUS.libvirt.model_copy(update={"reachable": True})
    whole = process.model_copy(update={"links": process.links[:1]})
    status.show(AGENT_STATUS.model_copy(update={"process": whole, "libvirt": there}), RUNNING)
    assert "kvm1: serves" in said(capsys)


def test_the_agent_is_looked_for_where_the_settings_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "agent.toml"
    config.touch()
    found = place.find(config)
    fields = Settings.model_fields
    assert (found.socket, found.state_dir) == (fields["control_socket"].default, fields["state_dir"].default)
    assert place.ENVIRONMENT.format("") == ENVIRONMENT_PREFIX
    config.write_text('control_socket = "/a"\nstate_dir = "/b"')
    monkeypatch.setenv(f"{ENVIRONMENT_PREFIX}STATE_DIR", "/c")
    assert place.find(config) == Place(config, Path("/a"), Path("/c"))


@pytest.mark.parametrize(("text", "problem"), [(None, "no such file"), ("a =", "Invalid value")])
def test_settings_that_cannot_be_read_are_told(
    tmp_path: Path, text: str | None, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    if text:
        config.write_text(text)
    with pytest.raises(SystemExit) as ended:
        place.find(config)
    assert ended.value.code == 78
    assert problem in capsys.readouterr().err


def test_systemd_knows_since_when_and_why() -> None:
    unit = read_unit("ActiveState=failed\nResult=exit-code\nExecMainStatus=78\nInactiveEnterTimestamp=@1769860800\n")
    assert (unit.why, unit.ended_at) == (
        "systemd says failed (exit-code, exit status 78)",
        datetime(2026, 1, 31, 12, tzinfo=UTC),
    )
    assert "`storpool-agent check-config` says what is wrong" in unit.advice
    unit = read_unit("ActiveState=inactive\nResult=success\nInactiveEnterTimestamp=\n")
    assert (unit.why, unit.ended_at) == ("systemd says inactive", None)
    assert unit.advice == "`systemctl start storpool-agent` starts it"


def test_a_unit_that_waits_for_its_next_start_has_ended_when_its_process_did() -> None:
    """It has not become inactive in between: that is of an earlier stop."""
    times = "ExecMainExitTimestamp=@1769860800\nInactiveEnterTimestamp=@1700000000\n"
    assert read_unit(f"ActiveState=activating\n{times}").ended_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert read_unit(f"ActiveState=inactive\n{times}").ended_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    never_ran = "ExecMainExitTimestamp=\nInactiveEnterTimestamp=@1769860800\n"
    assert read_unit(f"ActiveState=failed\n{never_ran}").ended_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert read_unit(f"ActiveState=activating\n{never_ran}").ended_at is None


def test_one_that_systemd_has_given_up_is_not_just_to_be_started() -> None:
    unit = read_unit("ActiveState=failed\nResult=start-limit-hit\nExecMainStatus=1\n")
    assert unit.why == "systemd says failed (start-limit-hit, exit status 1)"
    assert "before `systemctl reset-failed storpool-agent`; then `systemctl start storpool-agent`" in unit.advice


def test_every_command_has_a_home() -> None:
    group = Commands()
    context: Any = None
    assert all(group.get_command(context, name) for name in group.list_commands(context))
    assert group.get_command(context, "nothing") is None


@pytest.mark.parametrize("module", ["jobs", "status", "why", "volumes", "orders", "logs"])
def test_an_answer_needs_none_of_the_daemons_parts(module: str) -> None:
    """They take a second to import; the agent answers within milliseconds."""
    code = f"import sys, storpool_agent.cli.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert HEAVY & set(loaded.split()) == set()


def test_on_a_terminal_ids_and_times_are_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    jobs.show([STATUS.model_copy(update={"received_at": datetime.now(UTC) - timedelta(minutes=3)})])
    head, line = said(capsys).splitlines()
    assert head.split() == ["id", "command", "about", "received", "tries", "state"]
    assert line.split()[:7] == ["8a6214d1", "attachDisk", "~a.b.c", "vm-1", "3", "min", "ago"]
