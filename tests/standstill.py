# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""To have a process stand still. kill(2) comes back before it does: on a busy machine it ran on for 15 ms, in which a
libvirtd took the answer that a test meant to keep from it."""

import os
import signal
from pathlib import Path

from block_device import eventually


def stop(pid: int) -> None:
    """Returns when none of its threads runs any more; SIGCONT has them go on."""
    os.kill(pid, signal.SIGSTOP)
    assert eventually(lambda: _states(pid) == {"T"}), f"process {pid} does not stop"


def _states(pid: int) -> set[str]:
    """Of its threads, see proc(5); a thread's name is in parentheses before it, and may have some in it."""
    return {_text(stat).rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")}


def _text(stat: Path) -> str:
    try:
        return stat.read_text()
    except OSError:  # that thread has ended
        return ") X"
