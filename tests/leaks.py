# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a test may forget to end or take away.

The machine may be shared: mounts, loop devices and domains count only when they lead to this run's paths.
"""

import json
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import libvirt

SETTLE_S = 3.0  # something may be on its way out when its test ends
LOOK_INTERVAL_S = 0.05
COMMAND_TIMEOUT_S = 20.0
LIBVIRT_SOCKET = Path("/run/libvirt/libvirt-sock")


class Watch:
    """Knows what was there when it was made: threads and children, the rest below `directories`, if any."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(str(directory) for directory in directories)
        self._before = self._present()

    def left_behind(self) -> set[str]:
        """What appeared and does not go away by itself."""
        deadline = monotonic() + SETTLE_S
        while (left := _appeared(self._before, self._present())) and monotonic() < deadline:
            sleep(LOOK_INTERVAL_S)
        return left

    def _present(self) -> set[str]:
        present = _threads() | _children()
        if self._directories:
            loops = _loops(self._directories)
            present |= {f"loop device {name}" for name in loops}
            present |= _mounts((*self._directories, *loops))
            present |= _domains(self._directories)
            present |= _strangers(self._directories)
        return present


def _appeared(before: set[str], present: set[str]) -> set[str]:
    """Without processes that took the place of one that had ended: what several tests share may be restarted."""
    ended = Counter(_without_pid(each) for each in before - present)
    appeared: set[str] = set()
    for each in sorted(present - before):
        if ended[_without_pid(each)] > 0:
            ended[_without_pid(each)] -= 1
        else:
            appeared.add(each)
    return appeared


def _without_pid(description: str) -> str:
    return re.sub(r"^process \d+ ", "process ", description)


def _threads() -> set[str]:
    return {f"thread {each.name}" for each in threading.enumerate() if not each.daemon}


def _children() -> set[str]:
    """By thread of ours that started them: the kernel keeps no other list."""
    tasks = Path("/proc/self/task").iterdir()
    pids = [pid for task in tasks for pid in _proc_text(task / "children").split()]
    return {f"process {pid} ({_proc_text(Path('/proc', pid, 'comm')).strip()})" for pid in pids}


def _proc_text(path: Path) -> str:
    """Empty when that thread or process has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _loops(directories: Sequence[str]) -> set[str]:
    """Loop devices over files below the directories, and those over files on file systems on such devices."""
    columns = "NAME,BACK-FILE,MAJ:MIN,BACK-MAJ:MIN"
    listed = json.loads(_output("losetup", "--json", "--list", "--output", columns))
    found: dict[str, str] = {}  # device number to name
    fresh = True
    while fresh:
        fresh = False
        for loop in listed["loopdevices"] if listed else ():
            ours = _below(loop["back-file"] or "", directories) or loop["back-maj:min"] in found
            if ours and loop["maj:min"] not in found:
                found[loop["maj:min"]] = loop["name"]
                fresh = True
    return set(found.values())


def _mounts(places: Sequence[str]) -> set[str]:
    """Mounted below the directories, or from a device in `places`."""
    mounts: set[str] = set()
    for line in _mountinfo(Path("/proc/self")):
        left, _, right = line.partition(" - ")
        point, source = left.split()[4], right.split()[1]
        if _below(point, places) or _below(source, places):
            mounts.add(f"mount {point}")
    return mounts


def _strangers(directories: Sequence[str]) -> set[str]:
    """Processes in another network namespace that have mounted below the directories what we have not: of a host in a
    test. As long as one is there, so are the host's network and mounts. Another worker's qemu-img without a network has
    but a copy of our mounts."""
    ours = Path("/proc/self/ns/net").readlink()
    mounted_here = _points(Path("/proc/self"), directories)
    found: set[str] = set()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if (place / "ns" / "net").readlink() != ours and _points(place, directories) - mounted_here:
                found.add(f"process {place.name} ({_proc_text(place / 'comm').strip()}) in a network of its own")
    return found


def _points(process: Path, directories: Sequence[str]) -> set[str]:
    return {point for line in _mountinfo(process) if _below(point := line.split()[4], directories)}


def _mountinfo(process: Path) -> list[str]:
    return (process / "mountinfo").read_text().splitlines()


def _domains(directories: Sequence[str]) -> set[str]:
    """Domains whose definition names a path below the directories; `guest` writes one into each."""
    if not LIBVIRT_SOCKET.exists():
        return set()
    found = {domain.name(): _definition(domain) for domain in _libvirt().listAllDomains()}
    return {f"domain {name}" for name, xml in found.items() if any(f"{directory}/" in xml for directory in directories)}


@cache
def _libvirt() -> libvirt.virConnect:
    """One for all looks: once an agent's event loop has been in this process, libvirt frees what belongs to a closed
    connection only in a turn of that loop, and another one for each look would use up the descriptors."""
    return libvirt.open("qemu:///system")


def _definition(domain: libvirt.virDomain) -> str:
    """Empty when the domain has just ended."""
    try:
        return domain.XMLDesc()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return ""
        raise


def _below(path: str, directories: Sequence[str]) -> bool:
    return any(path == directory or path.startswith(f"{directory}/") for directory in directories)


def _output(*command: str) -> str:
    return (
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_S).stdout or "null"
    )
