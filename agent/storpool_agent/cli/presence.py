# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is known of an agent that does not answer: whether there is one, and since when."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storpool_agent.cli import systemd
from storpool_agent.cli.place import Place

JOURNAL = "journal.db"
LOCK = "lock"
_STATES = {
    "T": "it is stopped by a signal; `kill -CONT {pid}` lets it go on",
    "t": "a debugger holds it",
    "D": "the kernel keeps it waiting, for a disk or a server that hangs",
    "Z": "it has just ended",
}


@dataclass(frozen=True)
class Presence:
    """For a person, and for --json."""

    state: str
    """`running`, `silent` or `down`."""
    detail: str
    since: datetime | None = None
    pid: int | None = None
    advice: str = systemd.START
    """How one that does not run is started."""


RUNNING = Presence("running", "")


def of_silent(why: str, pid: int | None) -> Presence:
    """Of an agent that listens, and has not answered."""
    since, state = _process(pid) if pid else (None, "")
    hint = _STATES.get(state, "`systemctl restart storpool-agent` ends it, and begins what it had not finished again")
    return Presence("silent", f"{why}; {hint.format(pid=pid)}", since, pid)


def of_deaf(place: Place) -> Presence:
    """Of an agent that does not listen, if there is one."""
    pid = _owner(place.state_dir / LOCK)
    if pid is None:
        return _down(place)
    why = "it starts or stops just now, has other settings, or its log says `local socket not made`"
    return of_silent(f"nobody listens at {place.socket}: {why}", pid)


def _down(place: Place) -> Presence:
    unit = systemd.unit()
    if unit is not None and unit.ended_at is not None:
        return Presence("down", unit.why, unit.ended_at, advice=unit.advice)
    advice = unit.advice if unit is not None else systemd.START
    if (stopped := _stopped(place.state_dir)) is not None:
        return Presence("down", "it was stopped then", stopped, advice=advice)
    written = _written(place.state_dir)
    if written:
        return Presence("down", "it last wrote to its journal then", _time(max(written)), advice=advice)
    nothing = f"there is no journal in {place.state_dir}: it never ran, or not with these settings"
    return Presence("down", nothing, advice=advice)


def _stopped(state_dir: Path) -> datetime | None:
    """When the last one ended that ended as it should: it marks its lock last of all, and a start marks none."""
    try:
        marked = (state_dir / LOCK).stat().st_mtime
    except OSError:
        return None
    written = _written(state_dir)
    return _time(marked) if written and marked >= max(written) else None


def _written(state_dir: Path) -> list[float]:
    """When the journal was. Not its index: a reader changes it."""
    try:
        return [file.stat().st_mtime for name in (JOURNAL, f"{JOURNAL}-wal") if (file := state_dir / name).exists()]
    except OSError:
        return []


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _owner(lock: Path) -> int | None:
    """Who holds the lock of the state directory. Never by taking it: an agent that starts just then would give up."""
    try:
        status = lock.stat()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    inode = str(status.st_ino)
    for line in lines:
        fields = line.split()  # 1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            pid = int(fields[4])
            if _has_open(pid, lock):
                return pid
    return None


def _has_open(pid: int, lock: Path) -> bool:
    """Inodes of other file systems may have the same number; that of btrfs has no device in common with stat."""
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
    return any(_leads_to(one, lock) for one in descriptors)


def _leads_to(descriptor: Path, file: Path) -> bool:
    try:
        return descriptor.samefile(file)
    except OSError:
        return False


def _process(pid: int) -> tuple[datetime | None, str]:
    """Since when it runs, and its state (proc(5), stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        booted = next(
            int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")
        )
    except (OSError, StopIteration):
        return None, ""
    return datetime.fromtimestamp(booted + int(fields[19]) / os.sysconf("SC_CLK_TCK"), UTC), fields[0]


def as_json(presence: Presence) -> dict[str, object]:
    """Without what is not known."""
    since = presence.since.isoformat() if presence.since else None
    values = {"state": presence.state, "detail": presence.detail or None, "since": since, "pid": presence.pid}
    return {key: value for key, value in values.items() if value is not None}
