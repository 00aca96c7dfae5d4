# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host of its own on this machine: what runs in it has another name, other mounts and another network.

It is there as long as a process in it is. Devices, processes and udev are the machine's: kernel uevents reach every
network namespace, but udevd's own messages only that of the machine, so who listens to them enters the mounts alone.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

READY_TIMEOUT_S = 20.0
EXIT_TIMEOUT_S = 20.0
LINK_NAME = "peer"

# What others have mounted below /tmp is let go of: their tests end before this host does.
SET_UP = """
set -e
own=$1 name=$2; shift 2
mount --make-rprivate /
cut -d ' ' -f 5 /proc/self/mountinfo | sort -r | while read -r point; do
    case "$own/" in "$point"/*) continue ;; esac
    case "$point" in /tmp/*) umount --lazy "$point" ;; esac
done
hostname "$name"
ip link set lo up
while [ $# -gt 1 ]; do mount --bind "$1" "$2"; shift 2; done
echo ready
exec cat
"""


class Namespaces:
    """Not thread safe. Ends with `close`, or when the process that made it ends."""

    def __init__(self, name: str, own: Path, binds: Mapping[Path, Path]) -> None:
        """`binds`: what is seen in which place; `own` is above all that it needs."""
        places = [str(part) for pair in binds.items() for part in pair]
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--uts", "--net", "sh", "-c", SET_UP, name, str(own), name, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._wait_ready(name)
        except BaseException:
            self._end_holder()
            raise
        self._mounts = _mounts_of(self._holder.pid)

    @property
    def all(self) -> list[str]:
        """The beginning of a command that runs in it."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount", "--uts", "--net"]

    @property
    def but_network(self) -> list[str]:
        """The beginning of a command that is on this machine's network."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount", "--uts"]

    @property
    def mounts_only(self) -> list[str]:
        """The beginning of a command that sees what it sees, and hears what the machine's udevd says."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount"]

    def join(self, other: "Namespaces", address: str, other_address: str) -> None:
        """A cable from this host to the other. It goes with them."""
        pids = str(self._holder.pid), str(other._holder.pid)
        ends = ["ip", "link", "add", LINK_NAME, "type", "veth", "peer", "name", LINK_NAME, "netns", pids[1]]
        _run(["nsenter", "--target", pids[0], "--net", *ends])
        for pid, own in zip(pids, (address, other_address), strict=True):
            inside = ["nsenter", "--target", pid, "--net"]
            _run([*inside, "ip", "address", "add", f"{own}/24", "dev", LINK_NAME])
            _run([*inside, "ip", "link", "set", LINK_NAME, "up"])

    def members(self) -> list[int]:
        """All processes that see its mounts, without the one that holds it."""
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in pids if pid != self._holder.pid and _mounts_of(pid) == self._mounts]

    def close(self) -> None:
        """Switch it off: what runs in it ends at once."""
        give_up = time.monotonic() + EXIT_TIMEOUT_S
        while members := self.members():
            for pid in members:
                _kill(pid)
            if time.monotonic() > give_up:
                raise TimeoutError(f"still there {EXIT_TIMEOUT_S} s after kill -9: {members}")
            time.sleep(0.02)
        self._end_holder()

    def _wait_ready(self, name: str) -> None:
        assert self._holder.stdout is not None
        readable, _, _ = select.select([self._holder.stdout], [], [], READY_TIMEOUT_S)
        if not readable or self._holder.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the namespaces of {name} could not be set up")

    def _end_holder(self) -> None:
        with self._holder:
            self._holder.kill()


def _mounts_of(pid: int) -> Path | None:
    """None when it has ended, reaped or not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/mnt").readlink()
    return None


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
