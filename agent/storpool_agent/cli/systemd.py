# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""systemd's own programs, with fixed arguments: the only children that this command line starts."""

import subprocess
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storpool_agent.cli.exits import EX_CONFIG

NAME = "storpool-agent"
UNIT = f"{NAME}.service"
START = f"`systemctl start {NAME}` starts it"
CONFIG_FIRST = f"`{NAME} check-config` says when they will do; then `systemctl start {NAME}`"
CHECK = f"`{NAME} check-config` says what is wrong with its settings, or `{NAME} logs` what else kept it from starting"
BOOTED = Path("/run/systemd/system")
"""There when systemd runs the machine (sd_booted(3))."""
SHOW_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Unit:
    """What systemd says of the agent's unit."""

    why: str
    ended_at: datetime | None
    advice: str


def unit() -> Unit | None:
    """None where systemd does not run, or does not say."""
    if not BOOTED.is_dir():
        return None
    properties = "ActiveState,SubState,Result,ExecMainStatus,ExecMainExitTimestamp,InactiveEnterTimestamp"
    command = ["systemctl", "show", "--no-pager", "--timestamp=unix", f"--property={properties}", UNIT]
    try:
        said = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=SHOW_TIMEOUT_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return read_unit(said)


def read_unit(said: str) -> Unit:
    """From lines of `name=value`."""
    values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    result, status = values.get("Result", ""), values.get("ExecMainStatus", "0")
    why = f"systemd says {values.get('ActiveState', 'nothing')}"
    if result not in {"", "success"}:
        why += f" ({result}, exit status {status})"
    return Unit(why, _ended_at(values), _advice(result, status))


def _ended_at(values: Mapping[str, str]) -> datetime | None:
    """When its process has ended. A unit that is about to be started again (`activating`) is not inactive meanwhile:
    InactiveEnterTimestamp is then of some stop before, and only says when a unit that never had a process failed."""
    quiet = values.get("ActiveState") in {"inactive", "failed"}
    for name in ("ExecMainExitTimestamp", *(["InactiveEnterTimestamp"] if quiet else [])):
        if (seconds := values.get(name, "").removeprefix("@")).isdigit() and int(seconds):
            return datetime.fromtimestamp(int(seconds), UTC)
    return None


def _advice(result: str, status: str) -> str:
    if result == "start-limit-hit":
        return (
            "It was started too often within a short time, and systemd starts it no more before "
            f"`systemctl reset-failed {NAME}`; then {START}. `storpool-agent logs` says why it ended each time"
        )
    if status == str(EX_CONFIG):
        return f"{CHECK}; once that is mended {START}"
    return START


@contextmanager
def journal(*, follow: bool, since: str | None, lines: int | None) -> Generator[Iterator[str]]:
    """The lines of the agent's log, as it wrote them. Raises OSError when there is no journalctl."""
    command = ["journalctl", f"--unit={UNIT}", "--output=cat", "--no-pager", "--quiet"]
    command += ["--follow"] if follow else []
    command += [f"--since={since}"] if since else []
    command += [f"--lines={lines}"] if lines is not None else []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace") as it:
        try:
            yield iter(it.stdout or ())
        finally:
            it.terminate()
