# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine that boots the test kernel and does, and says, what it is asked on its console."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from xml.etree import ElementTree as ET

from guest.console import Console, NoAnswer
from guest.domain_xml import AGENT_PORT, SMALL, Boot, Disk, Hardware, domain_xml
from guest.images import boot_images
from guest.machine import SYSTEM_URI, Machine
from guest.records import Written, parse_written

BOOT_TIMEOUT_S = 90.0  # 2 s on an idle machine; emulation on a loaded one is slow
ANSWER_TIMEOUT_S = 20.0
TRANSFER_TIMEOUT_S = 120.0
LOOK_INTERVAL_S = 0.1


@dataclass(frozen=True)
class GuestDisk:
    """A disk as the guest's kernel sees it."""

    name: str
    size_bytes: int
    readonly: bool
    serial: str


class Guest(Machine):
    """Boots in about two seconds and answers until its `with` block ends.

    With `root="vda"` it mounts that disk at boot, formats it if it is blank, and counts its boots there. With
    `agent` it runs QEMU's guest agent, which then answers when the block begins.

    With `boot_from="vda"` the BIOS boots it from that disk, a copy of `bootable_disk`; QEMU is given no kernel.
    """

    def __init__(
        self,
        disks: Sequence[Disk] = (),
        *,
        root: str | None = None,
        agent: bool = False,
        boot_from: str | None = None,
        hardware: Hardware = SMALL,
        persistent: bool = False,
        uri: str = SYSTEM_URI,
    ) -> None:
        super().__init__(disks, hardware=hardware, persistent=persistent, uri=uri)
        if boot_from and (root or agent):
            raise ValueError("what a machine that boots from its disk does is said on that disk")
        self._agent = agent
        self._boot_from = boot_from
        self._arguments = f"guest.root={root}" if root else ""

    def output(self) -> str:
        """What kernel and `init` printed."""
        return self._output.read_text(errors="replace")

    def uptime_s(self, timeout_s: float = ANSWER_TIMEOUT_S) -> float:
        """The guest's own clock: proof that it runs, and was not restarted."""
        return float(self._word("ping", timeout_s))

    def kernel_arguments(self) -> str:
        """What its boot loader gave its kernel; one that reads disks adds the name of the kernel's file."""
        return self._word("arguments")

    def disks(self) -> dict[str, GuestDisk]:
        """By the guest's names."""
        found = [_parse_disk(line) for line in self._ask("disks")]
        return {disk.name: disk for disk in found}

    def write(self, disk: str, offset_mib: int, count_mib: int, seed: str) -> None:
        """Fill the range with `pattern(offset_mib, count_mib, seed)`, directly and durably."""
        self._ask(f"write {disk} {offset_mib} {count_mib} {seed}", TRANSFER_TIMEOUT_S)

    def checksum(self, disk: str, offset_mib: int, count_mib: int) -> str:
        """SHA-256 of the range, read from the disk and not from a cache."""
        return self._word(f"checksum {disk} {offset_mib} {count_mib}", TRANSFER_TIMEOUT_S)

    def boots(self) -> int:
        """How many times a guest has booted from this root disk; 0 without one."""
        return int(self._word("boots"))

    def save(self, name: str, word: str) -> None:
        """Keep a word in a file on the root disk."""
        self._ask(f"save {name} {word}")

    def load(self, name: str) -> str:
        return self._word(f"load {name}")

    def mount(self, disk: str) -> None:
        """Mount a disk that has an ext4 file system, and write to it, a file after another."""
        self._ask(f"mount {disk}")

    def files(self, disk: str) -> int:
        """How many files have been written, and reached the disk, since it was mounted."""
        return int(self._word(f"files {disk}"))

    def count_on(self, *disks: str) -> None:
        """Write 1, 2, 3, ... directly to the first sector of each disk in turn: no disk gets the next number
        before all have the last one."""
        self._ask(f"count {' '.join(disks)}")

    def counted(self) -> int:
        """The last number that `count_on` has written to all of its disks."""
        return int(self._word("counted"))

    def wait_for_counted(self, at_least: int) -> None:
        """Until `count_on` has come so far."""
        _wait(lambda: self.counted() >= at_least, ANSWER_TIMEOUT_S, f"{self.name} has not counted to {at_least}")

    def stop_counting(self) -> int:
        """The last number: each disk has it, and gets no more. Raises CommandFailed when one could not be written."""
        return int(self._word("stop-counting"))

    def record_on(self, offset_mib: int, *disks: str) -> None:
        """Write records to these disks, from there on, as `records` reads them: no disk gets the next one before all
        have the last."""
        self._ask(f"record {offset_mib} {' '.join(disks)}")

    def recorded(self) -> Written:
        """The last record that is on all of the disks."""
        return parse_written(self._word("recorded"))

    def stop_recording(self) -> Written:
        """The last record: each disk has it, and gets no more. Raises CommandFailed when one could not be written."""
        return parse_written(self._word("stop-recording"))

    def wait_for_record(self, number: int) -> None:
        """Until `record_on` has come so far."""
        _wait(lambda: self.recorded().number >= number, ANSWER_TIMEOUT_S, f"{self.name} has not written on")

    def wait_for_files(self, more_than: Mapping[str, int]) -> None:
        """Until each of these disks has more files than that."""
        _wait(
            lambda: all(self.files(disk) > files for disk, files in more_than.items()),
            ANSWER_TIMEOUT_S,
            f"{self.name} has not written on",
        )

    def wait_for_count(self, disk: str) -> None:
        """Until `count_on` has written to it."""
        device = next(one.source for one in self._disks if one.target == disk)
        _wait(lambda: _has_number(device), ANSWER_TIMEOUT_S, f"{self.name} does not count on {disk}")

    def stop_agent(self) -> None:
        self._ask("signal-agent KILL")

    def pause_agent(self) -> None:
        """It keeps its channel open, and does not answer."""
        self._ask("signal-agent STOP")

    def resume_agent(self) -> None:
        self._ask("signal-agent CONT")

    def poweroff(self) -> None:
        """Ask the guest to unmount and switch itself off, and wait until it has."""
        self._ask("poweroff")
        _wait(lambda: not self.is_running(), ANSWER_TIMEOUT_S, f"{self.name} is still on")

    def wait_for_disk(self, serial: str, timeout_s: float = ANSWER_TIMEOUT_S) -> GuestDisk:
        """The disk with that serial, once the guest has it."""
        _wait(lambda: serial in self._serials(), timeout_s, f"the guest has no disk {serial}")
        return self._serials()[serial]

    def wait_until_gone(self, serial: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        _wait(lambda: serial not in self._serials(), timeout_s, f"the guest still has disk {serial}")

    def wait_for_size(self, disk: str, size_bytes: int, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        _wait(lambda: self.disks()[disk].size_bytes == size_bytes, timeout_s, f"{disk} has another size")

    @property
    def _output(self) -> Path:
        return self.directory / "output"

    def _xml(self) -> str:
        source = self._boot_from or boot_images(agent=self._agent)
        boot = Boot(source, self._arguments, self.directory / "console", self._output, self._agent)
        return domain_xml(self._identity, self._hardware, self._disks, boot)

    def _started(self, ending: ExitStack) -> None:
        self._console = ending.enter_context(Console(self.directory / "console"))
        try:
            self._ask("ping", BOOT_TIMEOUT_S)
        except NoAnswer as error:
            error.add_note(f"{self.name} printed: {self.output()[-2000:]}")
            raise
        if self._agent:
            self._wait_for_agent()

    def _wait_for_agent(self) -> None:
        _wait(self._agent_is_connected, BOOT_TIMEOUT_S, f"the agent of {self.name} is not connected")

    def _agent_is_connected(self) -> bool:
        port = ET.fromstring(self.domain.XMLDesc()).find(f"./devices/channel/target[@name='{AGENT_PORT}']")  # noqa: S314 (libvirt wrote it)
        return port is not None and port.get("state") == "connected"

    def _serials(self) -> dict[str, GuestDisk]:
        return {disk.serial: disk for disk in self.disks().values()}

    def _ask(self, request: str, timeout_s: float = ANSWER_TIMEOUT_S) -> list[str]:
        return self._console.ask(request, timeout_s)

    def _word(self, request: str, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        [word] = self._ask(request, timeout_s)
        return word


def _parse_disk(line: str) -> GuestDisk:
    name, size_bytes, readonly, *serial = line.split()
    return GuestDisk(name, int(size_bytes), readonly == "1", " ".join(serial))


def _has_number(device: Path) -> bool:
    with device.open("rb") as opened:
        return opened.read(1).isdigit()


def _wait(reached: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = monotonic() + timeout_s
    while not reached():
        if monotonic() > deadline:
            raise TimeoutError(f"{otherwise}, after {timeout_s} s")
        sleep(LOOK_INTERVAL_S)
