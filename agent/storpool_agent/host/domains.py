# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines, as the handlers see them."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pydantic import SecretBytes

from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import (
    Disk,
    DiskInDomain,
    Domain,
    MirrorTarget,
    Passage,
    Platform,
    Portrait,
    Presence,
    Sent,
)
from storpool_agent.task import Task
from storpool_commands.disks import IoTune


class Domains(Protocol):
    """The virtual machines of this host.

    Every call may raise LibvirtUnavailable, LibvirtTimeout and LibvirtRefused besides what it names.
    """

    def find(self, vm: str, deadline: Deadline) -> Domain:
        """By UUID or name. Raises VmNotFound."""
        ...

    def having(self, paths: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        """Every machine, running or only configured, that has a disk with one of these source paths."""
        ...

    def below(self, directories: Sequence[str], deadline: Deadline) -> Sequence[DiskInDomain]:
        """Every disk of every machine whose source path is in one of these directories."""
        ...

    def place(self, domain: Domain, disk: Disk, deadline: Deadline) -> str:
        """The target that `plug` would take now. Raises as it does, but for what libvirt alone knows: a free slot."""
        ...

    def plug(self, domain: Domain, disk: Disk, deadline: Deadline) -> DiskInDomain:
        """Give the machine a disk, live and in its configuration as `disk` says, and read it back.

        Raises TargetTaken, NoHotplugSlot, VmNotFound, VmNotRunning, VmBusy, DiskConflict, DiskInUseByVm.
        """
        ...

    def unplug(self, domain: Domain, disk: DiskInDomain, wait_guest_s: float, deadline: Deadline) -> None:
        """Take the disk out of the configuration, then out of the running machine, and wait for the guest.

        Gone already is a success. Raises UnplugPending when the guest has not let go in time, UnplugRejected
        when it refused, VmBusy.
        """
        ...

    def resize(self, disk: DiskInDomain, size_bytes: int, deadline: Deadline) -> int:
        """Tell a running machine of its disk's new size; returns the size that QEMU then reports.

        Raises GuestNotNotified, VmBusy; VmNotFound and VmNotRunning when there is nobody to tell any more.
        """
        ...

    def tune(self, domain: Domain, disk: DiskInDomain, limits: IoTune, deadline: Deadline) -> IoTune:
        """Set the limits that are named, live and in the configuration, and read back what then holds.

        Raises VmBusy, VmNotFound, InvalidCommand for limits that libvirt cannot combine with those that are set.
        """
        ...

    def freeze(self, domain: Domain, deadline: Deadline) -> None:
        """Have the guest's agent freeze all its file systems; frozen already is a success.

        Raises VmNotRunning, GuestAgentUnavailable, GuestNotFrozen, VmBusy: after any of them the guest is not frozen.
        After LibvirtTimeout it may be, or may become so yet: `thaw` is due.
        """
        ...

    def thaw(self, domain: Domain, deadline: Deadline) -> bool:
        """Have the guest write again; false when it was not frozen any more, or the machine is off.

        True says that nobody else has thawed it before.

        Raises GuestAgentUnavailable, VmBusy.
        """
        ...

    def mirror(self, disk: DiskInDomain, target: MirrorTarget, task: Task, deadline: Deadline) -> None:
        """Copy a running machine's disk to the target, and then all that the guest writes, until they are the same.

        One that is under way to the same target, begun by an earlier run of the agent, is gone on with; a machine that
        has been pivoted to the target already is a success. `deadline` is for the beginning, the copy takes as long as
        it takes. When the task is interrupted, or stalls, the mirror is ended and the machine keeps its disk. It is
        left as it is by AgentStopping; by LibvirtUnavailable, LibvirtTimeout and VmBusy after libvirt did not tell of
        it for two minutes; and when it cannot be ended. The message then says that it runs on: `end_mirror` is due.

        Raises BlockJobFailed, CopyStalled, VmNotFound, VmNotRunning, VmBusy (another block job), DiskConflict (the disk
        is another one by now, or is being copied elsewhere), DiskInUseByVm (a machine has the target as a disk),
        WouldShrink and SizeChanged (the target is smaller or larger than the disk: QEMU copies to the same size only).
        """
        ...

    def pivot(self, disk: DiskInDomain, target: MirrorTarget, deadline: Deadline) -> DiskInDomain:
        """Have the machine use the target instead, now and in its configuration, and read that back.

        Done already is a success, and what is missing in the configuration is done. Raises BlockJobFailed when the two
        are not the same: the machine keeps its disk, and the mirror, if there is one, runs on. After LibvirtTimeout it
        may have been done. VmNotFound, VmNotRunning, DiskConflict.
        """
        ...

    def end_mirror(self, vm: str, target_path: str, deadline: Deadline) -> None:
        """End a mirror to this path, if one is under way; the machine (a UUID) keeps its disk. None such is a success.

        Raises DiskInUseByVm when the machine has been pivoted to it: then it is no copy any more, and must be kept.
        VmBusy when it does not come to its end in time.
        """
        ...

    def capacity(self, disk: DiskInDomain, deadline: Deadline) -> int:
        """Bytes of the disk as the guest sees it. Raises VmNotFound, VmNotRunning, DiskConflict."""
        ...

    def portray(self, vm: str, deadline: Deadline) -> Portrait:
        """What a machine is made of, by its UUID or name. Raises VmNotFound."""
        ...

    def refuse_misfit(self, platform: Platform, deadline: Deadline) -> None:
        """Raises CpuIncompatible when no machine like that can run on this host."""
        ...

    def standing(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> Presence:
        """How a machine (a UUID) stands on this host, or on another as its libvirt says.

        Of another: raises DestinationUnreachable, and never takes longer than some seconds.
        """
        ...

    def send(self, passage: Passage, begun: Callable[[], None], task: Task, deadline: Deadline) -> bool:
        """Have libvirt move a running machine to another host, where it then stands still (`paused`).

        One that is under way is gone on with. `begun` is called once it certainly is, `deadline` is for the beginning.
        When the task is interrupted it is given up. Whatever this raises: where the machine is, `standing` alone says.
        True: its QEMU has ended on this host, which `standing` may take seconds to say.

        Raises MigrationFailed, MigrationUnsafe, DestinationUnreachable, Cancelled, VmNotFound, VmNotRunning, VmBusy;
        LibvirtUnavailable, LibvirtTimeout and VmBusy also when it may be under way still.
        """
        ...

    def sent(self, vm: str, peer: str, deadline: Deadline) -> Sent:
        """What its passage to a host has taken. Raises DestinationUnreachable, also where nobody knows."""
        ...

    def resume(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> None:
        """Have a machine that stands still go on. One that runs is a success. Raises as `standing`."""
        ...

    def remove(self, vm: str, deadline: Deadline, *, peer: str | None = None) -> None:
        """End a machine that stands still, and forget its configuration. Raises MigrationUnknown when it runs."""

    def set_secret(self, global_id: str, path: str, passphrase: SecretBytes, deadline: Deadline) -> None:
        """Let libvirt open an encrypted volume until `forget_secret`, or the restart of its daemon.

        `path` is the volume's link. Again is a success. Another passphrase replaces the one before, so it has to be
        known to be right (handlers.unlocking): libvirt itself finds out when a machine starts.
        """
        ...

    def forget_secret(self, global_id: str, deadline: Deadline) -> None:
        """None such is a success. A machine that runs with the disk goes on; it cannot be started again without."""
        ...

    def versions(self, deadline: Deadline) -> tuple[str, str]:
        """Of libvirt and of QEMU."""
        ...
