# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""libvirt on this host, as the handlers want it."""

from collections.abc import Callable, Sequence
from os.path import realpath
from threading import Event

import libvirt
from pydantic import SecretBytes

from storpool_agent.deadline import Deadline
from storpool_agent.domains import freezing, machine, portrait, secrets, whereabouts
from storpool_agent.domains.access import Access
from storpool_agent.domains.calls import DomainCalls
from storpool_agent.domains.copy_job import CopyJob, capacity
from storpool_agent.domains.departing import Departing
from storpool_agent.domains.disk_xml import SourceDirectories, SourcePaths
from storpool_agent.domains.ending import Ending
from storpool_agent.domains.link import Link
from storpool_agent.domains.mirroring import Mirroring
from storpool_agent.domains.model import (
    Disk,
    DiskInDomain,
    Domain,
    MirrorTarget,
    Passage,
    Platform,
    Portrait,
    Presence,
    Routes,
    Sent,
)
from storpool_agent.domains.news import Newsroom
from storpool_agent.domains.peers import Peers
from storpool_agent.domains.pivoting import Pivoting
from storpool_agent.domains.plugging import Plugging
from storpool_agent.domains.tuning import Tuning
from storpool_agent.domains.unplugging import Unplugging
from storpool_agent.errors import GuestNotNotified, VmNotFound
from storpool_agent.task import Task
from storpool_commands.disks import IoTune


class Hypervisor:
    """Every method but `start` and `stop` may be called from any thread.

    `stopping` ends waits for a guest at once, with UnplugPending; other calls go on until `stop`.
    """

    def __init__(self, uri: str, stopping: Event, routes: Routes | None = None) -> None:
        newsroom = Newsroom()
        self._uri = uri
        self._peers = Peers(routes or Routes())
        self._access = Access(Link(uri, newsroom), DomainCalls(uri), DomainCalls(uri), newsroom, stopping)

    def start(self) -> None:
        """Returns at once, also when libvirtd is down: the connection is made as soon as it can be."""
        self._access.link.start()

    def stop(self) -> None:
        """Call it once nobody uses it any more."""
        self._access.calls.close()
        self._access.guest_calls.close()
        self._access.link.stop()

    @property
    def connected(self) -> bool:
        """libvirtd is there, as far as is known."""
        return self._access.link.is_live

    def on_disks_changed(self, callback: Callable[[str | None], None]) -> None:
        """Have a machine's UUID told when a guest has let go of a disk or refused to, or the machine stopped.

        None is told when libvirt was (re)connected: anything may have happened before. The callback runs in
        libvirt's thread and must only enqueue. Call it before `start`.
        """
        self._access.newsroom.tell(callback)

    def find(self, vm: str, deadline: Deadline) -> Domain:
        found = self._access.link.ask(lambda connection: machine.find(connection, vm), deadline)
        if found is None:
            raise VmNotFound(f"this host has no machine {vm}; is it defined here, under this name or UUID?", vm=vm)
        return found

    def having(self, paths: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        wanted = SourcePaths(paths)
        return [disk for one in self._access.read_all(deadline) for disk in one.disks(wanted)]

    def below(self, directories: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        wanted = SourceDirectories(directories)
        return [disk for one in self._access.read_all(deadline) for disk in one.disks(wanted)]

    def plug(self, domain: Domain, disk: Disk, deadline: Deadline) -> DiskInDomain:
        # Of two machines that are given one device at once, the second has to see that the first has it. QEMU's own
        # lock does not tell: where libvirt gives each QEMU a /dev of its own, each locks a node of its own.
        turn = self._access.calls.turn
        with turn(realpath(disk.path), deadline), turn(domain.uuid, deadline):
            return Plugging(self._access, domain, disk, deadline).run()

    def place(self, domain: Domain, disk: Disk, deadline: Deadline) -> str:
        return Plugging(self._access, domain, disk, deadline).place()

    def unplug(self, domain: Domain, disk: DiskInDomain, wait_guest_s: float, deadline: Deadline) -> None:
        Unplugging(self._access, domain, disk, deadline).run(wait_guest_s)

    def resize(self, disk: DiskInDomain, size_bytes: int, deadline: Deadline) -> int:
        def tell(vm: libvirt.virDomain) -> int:
            # By source path, exactly: the disk at that target may be another one by now.
            vm.blockResize(disk.path, size_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
            return vm.blockInfo(disk.path)[0]

        uuid = disk.domain.uuid
        with self._access.calls.turn(uuid, deadline):
            reported = self._access.call(uuid, tell, deadline)
        if reported != size_bytes:
            raise GuestNotNotified(
                f"QEMU reports {reported} bytes for {disk.target} of {disk.domain.name}, not {size_bytes}",
                vm=uuid,
                target=disk.target,
                size_bytes=reported,
            )
        return reported

    def tune(self, domain: Domain, disk: DiskInDomain, limits: IoTune, deadline: Deadline) -> IoTune:
        with self._access.calls.turn(domain.uuid, deadline):
            return Tuning(self._access, domain, disk, deadline).run(limits)

    def freeze(self, domain: Domain, deadline: Deadline) -> None:
        freezing.freeze(self._access, domain, deadline)

    def thaw(self, domain: Domain, deadline: Deadline) -> bool:
        return freezing.thaw(self._access, domain, deadline)

    def mirror(self, disk: DiskInDomain, target: MirrorTarget, task: Task, deadline: Deadline) -> None:
        Mirroring(self._access, disk, target, deadline).run(task)

    def pivot(self, disk: DiskInDomain, target: MirrorTarget, deadline: Deadline) -> DiskInDomain:
        return Pivoting(CopyJob(self._access, disk, target), deadline).run()

    def end_mirror(self, vm: str, target_path: str, deadline: Deadline) -> None:
        Ending(self._access, vm, target_path, deadline).run()

    def capacity(self, disk: DiskInDomain, deadline: Deadline) -> int:
        return capacity(self._access, disk, deadline)

    def portray(self, vm: str, deadline: Deadline) -> Portrait:
        return portrait.of(self._access, vm, deadline)

    def refuse_misfit(self, platform: Platform, deadline: Deadline) -> None:
        portrait.refuse_misfit(self._access, platform, deadline)

    def standing(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> Presence:
        if peer is None:
            return whereabouts.here(self._access, vm, deadline)
        return self._peers.ask(peer, lambda connection: whereabouts.at(connection, vm), deadline)

    def send(self, passage: Passage, begun: Callable[[], None], task: Task, deadline: Deadline) -> bool:
        return Departing(self._uri, self._access, self._peers, passage, begun).run(task, deadline)

    def sent(self, vm: str, peer: str, deadline: Deadline) -> Sent:
        return self._peers.ask(peer, lambda connection: whereabouts.sent(connection, vm), deadline)

    def resume(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> None:
        self._do(vm, whereabouts.resume, deadline, peer)

    def remove(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> None:
        self._do(vm, whereabouts.remove, deadline, peer)

    def _do(self, vm: str, call: Callable[[libvirt.virDomain], None], deadline: Deadline, peer: str | None) -> None:
        if peer is not None:
            self._peers.ask(peer, lambda connection: call(connection.lookupByUUIDString(vm)), deadline)
            return
        with self._access.calls.turn(vm, deadline):
            self._access.call(vm, call, deadline)

    def set_secret(self, global_id: str, path: str, passphrase: SecretBytes, deadline: Deadline) -> None:
        self._access.link.ask(lambda connection: secrets.put(connection, global_id, path, passphrase), deadline)

    def forget_secret(self, global_id: str, deadline: Deadline) -> None:
        self._access.link.ask(lambda connection: secrets.remove(connection, global_id), deadline)

    def versions(self, deadline: Deadline) -> tuple[str, str]:
        return self._access.link.ask(
            lambda connection: (_version(connection.getLibVersion()), _version(connection.getVersion())), deadline
        )


def _version(number: int) -> str:
    """libvirt writes 9.0.0 as 9000000."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
