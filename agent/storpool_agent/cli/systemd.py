# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""systemd's own programs, with fixed arguments: the only children that this command line starts."""

import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

UNIT = "storpool-agent.service"
BOOTED = Path("/run/systemd/system")
"""There when systemd runs the machine (sd_booted(3))."""
SHOW_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Unit:
    """What systemd says of the agent's unit."""

    why: str
    ended_at: datetime | None


def unit() -> Unit | None:
    """None where systemd does not run, or does not say."""
    if not BOOTED.is_dir():
        return None
    properties = "ActiveState,SubState,Result,ExecMainStatus,InactiveEnterTimestamp"
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
    ended = values.get("InactiveEnterTimestamp", "").removeprefix("@")
    result, status = values.get("Result", ""), values.get("ExecMainStatus", "0")
    why = f"systemd says {values.get('ActiveState', 'nothing')}"
    if result not in {"", "success"}:
        why += f" ({result}, exit status {status})"
    return Unit(why, datetime.fromtimestamp(int(ended), UTC) if ended.isdigit() else None)


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
