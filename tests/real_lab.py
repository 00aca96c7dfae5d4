# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host for tests of the agent's machines: libvirt's, with machines and loop devices that end with the test."""

import subprocess
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import TypeVar

from pydantic import SecretBytes

from domains_contract import DEVICE_BYTES
from guest import Disk, Guest, Machine, SilentGuest
from guest.domain_xml import Hardware
from image_files import image
from loop_device import LoopDevice, loop_device
from storpool_agent.deadline import Deadline
from storpool_agent.domains.hypervisor import Hypervisor
from storpool_agent.domains.model import Domain
from storpool_agent.images.luks import encrypt, sealed
from storpool_agent.interrupt import Interrupt
from storpool_agent.task import Task

FILE_SYSTEM_BYTES = 64 * 1024 * 1024
MKFS_TIMEOUT_S = 30
T = TypeVar("T")


class RealLab:
    """On the libvirtd at `uri`."""

    def __init__(self, uri: str, ending: ExitStack) -> None:
        self.uri = uri
        self.told: list[str | None] = []
        self.stopping = Event()
        self.hypervisor = Hypervisor(uri, self.stopping)
        self.hypervisor.on_disks_changed(self.told.append)
        self.domains = self.hypervisor
        self.machines: dict[str, Machine] = {}
        self.devices: dict[str, LoopDevice] = {}
        self._ending = ending
        self.hypervisor.start()
        ending.callback(self.hypervisor.stop)

    def guest(self, hardware: Hardware | None = None, *, persistent: bool = True) -> Guest:
        """One that has booted and answers."""
        return self.adopt(Guest(hardware=hardware or Hardware(), persistent=persistent, uri=self.uri))

    def adopt(self, guest: Guest) -> Guest:
        """Boot it, and end it with the lab."""
        self.machines[guest.uuid] = self._ending.enter_context(guest)
        return guest

    def look_up(self, machine: Machine) -> Domain:
        return self.domains.find(machine.uuid, Deadline.after(30))

    def machine(
        self,
        *,
        running: bool = True,
        persistent: bool = True,
        answers: bool = False,
        slots: int = 4,
        scsi: bool = False,
    ) -> Domain:
        # The silent machine has no console, so the port of its controller is free too.
        hardware = Hardware(spare_ports=slots if answers else slots - 1, scsi=scsi)
        kind = Guest if answers else SilentGuest
        machine = self._ending.enter_context(kind(hardware=hardware, persistent=persistent, uri=self.uri))
        self.machines[machine.uuid] = machine
        if not running:
            machine.domain.destroy()
        return self.look_up(machine)

    def guest_with_agent(self, *, file_system: bool = True) -> Domain:
        disks: list[Disk] = []
        if file_system:
            device = self._ending.enter_context(loop_device(FILE_SYSTEM_BYTES))
            subprocess.run(["mkfs.ext4", "-q", device.node], check=True, timeout=MKFS_TIMEOUT_S)
            disks.append(Disk(Path(device.node), "vda"))
        guest = self._ending.enter_context(Guest(disks, agent=True, uri=self.uri))
        self.machines[guest.uuid] = guest
        if file_system:
            guest.mount("vda")
        return self.look_up(guest)

    def stop_agent(self, machine: Domain) -> None:
        guest = self.machines[machine.uuid]
        assert isinstance(guest, Guest)
        guest.stop_agent()

    def device(self, size_bytes: int = DEVICE_BYTES) -> str:
        device = self._ending.enter_context(loop_device(size_bytes))
        self.devices[device.link] = device
        return device.link

    def encrypted(self, passphrase: bytes) -> str:
        device = self._ending.enter_context(loop_device(DEVICE_BYTES))
        with image(device.node, device=True) as raw, sealed(SecretBytes(passphrase)) as key:
            encrypt(replace(raw, luks=key), Task(Interrupt(), lambda _done, _total: None), 100)
        self.devices[device.link] = device
        return device.link

    def other_path(self, device: str) -> str:
        return self.devices[device].node

    def grow(self, device: str, size_bytes: int) -> None:
        self.devices[device].grow(size_bytes)

    def silence(self, machine: Domain) -> None:
        self.machines[machine.uuid].pause()

    def wake(self, machine: Domain) -> None:
        self.machines[machine.uuid].resume()

    def end(self, machine: Domain) -> None:
        self.machines[machine.uuid].domain.destroy()


@contextmanager
def real_lab(uri: str) -> Generator[RealLab]:
    with ExitStack() as ending:
        yield RealLab(uri, ending)


@contextmanager
def background(work: Callable[[], T]) -> "Generator[Future[T]]":
    """Run it in a thread of its own; the block does not end before it has."""
    with ThreadPoolExecutor(1) as worker:
        yield worker.submit(work)


def wait_for(reached: Callable[[], bool], timeout_s: float) -> None:
    give_up = monotonic() + timeout_s
    while not reached():
        assert monotonic() < give_up, f"not reached in {timeout_s} s"
        sleep(0.02)
