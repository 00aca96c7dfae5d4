# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorpoolResizeCmd: the size at StorPool, on this host, and in its machines."""

from collections.abc import Sequence

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.domains.model import DiskInDomain
from storpool_agent.errors import (
    DiskInUseByVm,
    DiskNotFound,
    GuestNotNotified,
    SizeChanged,
    VmBusy,
    VolumeIncomplete,
    WouldShrink,
)
from storpool_agent.handlers import connecting, unlocking
from storpool_agent.host import Host
from storpool_agent.images.luks import PAYLOAD_OFFSET_BYTES
from storpool_agent.storpool.model import Volume, VolumeChange
from storpool_commands.disks import ResizedVm, ResizedVolume, StorpoolResize
from storpool_commands.labels import FORMATTING, LUKS, LUKS1, TIER


def resize(command: StorpoolResize, host: Host, attempt: Attempt) -> ResizedVolume:
    """Each layer is told when the one below has the size, and then asked for it."""
    deadline = Deadline.after(command.timeout_s)
    with attempt.step("find"):
        volume = connecting.find(command.volume, None, host, deadline)
        connecting.refuse_migrating(attempt, [volume])
        disks = _disks(command, volume, host, deadline)
        _check(command, volume, disks)
    with attempt.step("storpool", changes=True) as step:
        change = _change(command, volume)
        if change is None:
            step.already()
        else:
            host.storpool.update_volume(volume, change, deadline)
    device = _wait_for_device(volume, command.new_size_bytes, host, attempt, deadline)
    header_bytes = _header_bytes(volume, device, host, attempt)
    told = _tell(command, disks, header_bytes, host, attempt, deadline)
    return ResizedVolume(
        global_id=volume.global_id,
        previous_size_bytes=volume.size_bytes,
        size_bytes=command.new_size_bytes,
        payload_size_bytes=command.new_size_bytes - header_bytes if header_bytes else None,
        device_size_bytes=device.size_bytes if device else None,
        vms=told,
    )


def _disks(command: StorpoolResize, volume: Volume, host: Host, deadline: Deadline) -> Sequence[DiskInDomain]:
    """The disks of machines that have the volume. Raises VmNotFound or DiskNotFound for a `vm` that does not."""
    disks = connecting.machines_with(volume, host, deadline)
    if command.vm is None:
        return disks
    domain = host.domains.find(command.vm, deadline)
    if not any(disk.domain.uuid == domain.uuid for disk in disks):
        raise DiskNotFound(
            f"{domain.name} does not have volume {volume.global_id}", vm=domain.uuid, volume=volume.global_id
        )
    return disks


def _check(command: StorpoolResize, volume: Volume, disks: Sequence[DiskInDomain]) -> None:
    size, new = volume.size_bytes, command.new_size_bytes
    if size == new:
        return
    if volume.tags.get(LUKS) == FORMATTING:
        raise VolumeIncomplete(
            f"volume {volume.global_id} is being formatted by encryptVolume; wait for its reply",
            volume=volume.global_id,
        )
    if command.notify_only or (command.expected_size_bytes is not None and command.expected_size_bytes != size):
        expected = new if command.notify_only else command.expected_size_bytes
        raise SizeChanged(
            f"volume {volume.global_id} has {size} bytes, not {expected}; look at it, then send the right sizes",
            volume=volume.global_id,
            size_bytes=size,
        )
    if new > size:
        return
    if LUKS in volume.tags and new <= PAYLOAD_OFFSET_BYTES:
        raise WouldShrink(
            f"volume {volume.global_id} is encrypted: {new} bytes are less than its header has", volume=volume.global_id
        )
    if not command.shrink_ok:
        raise WouldShrink(
            f"volume {volume.global_id} has {size} bytes, {new} would cut off its end; "
            "shrinkOk with expectedSizeBytes allows it",
            volume=volume.global_id,
            size_bytes=size,
        )
    if disks:
        raise DiskInUseByVm(
            f"volume {volume.global_id} is a disk of {disks[0].domain.name}; detach it before making it smaller",
            volume=volume.global_id,
            vm=disks[0].domain.uuid,
        )


def _change(command: StorpoolResize, volume: Volume) -> VolumeChange | None:
    """What StorPool is told, None when there is nothing to tell."""
    grow = volume.size_bytes != command.new_size_bytes
    if not grow and command.iops is None and command.tier is None and command.template is None:
        return None
    return VolumeChange(
        size_bytes=command.new_size_bytes if grow else None,
        shrink_ok=command.new_size_bytes < volume.size_bytes,
        iops=command.iops,
        template=command.template,
        tags={} if command.tier is None else {TIER: command.tier},
    )


def _wait_for_device(
    volume: Volume, size_bytes: int, host: Host, attempt: Attempt, deadline: Deadline
) -> Device | None:
    """The device, None when the volume is not attached here."""
    with attempt.step("device") as step:
        if host.devices.look(volume.global_id) is None:
            step.already()
            return None
        host.storpool.wait_for_client(deadline)
        return host.devices.wait_size(volume.global_id, size_bytes, deadline)


def _header_bytes(volume: Volume, device: Device | None, host: Host, attempt: Attempt) -> int:
    """What an encrypted volume has before the disk that machines see; 0 for one that is not encrypted."""
    if LUKS not in volume.tags:
        return 0
    if device is None or attempt.plans or volume.tags[LUKS] != LUKS1:
        return PAYLOAD_OFFSET_BYTES
    with attempt.step("header"):
        return unlocking.payload_offset(volume, device, host, attempt)


def _tell(
    command: StorpoolResize,
    disks: Sequence[DiskInDomain],
    header_bytes: int,
    host: Host,
    attempt: Attempt,
    deadline: Deadline,
) -> list[ResizedVm]:
    """Tell every running machine, also after one could not be told. Raises GuestNotNotified naming those.

    QEMU counts an encrypted disk without its header, and is told so. One that a machine has without having it opened is
    a disk with a header on it.
    """
    told: list[ResizedVm] = []
    deaf: list[str] = []
    with attempt.step("guest", changes=True) as step:
        for disk in disks:
            if not disk.live:
                continue
            try:
                wanted = command.new_size_bytes - (header_bytes if disk.secret is not None else 0)
                size = host.domains.resize(disk, wanted, deadline)
            except (GuestNotNotified, VmBusy) as error:
                deaf.append(f"{disk.domain.name} ({error})")
                continue
            told.append(ResizedVm(vm=disk.domain.uuid, target=disk.target, size_bytes=size))
        if not told:
            step.already()
        if deaf:
            raise GuestNotNotified(
                f"the volume has {command.new_size_bytes} bytes, but could not tell {'; '.join(deaf)}; send it again",
                vms=deaf,
                size_bytes=command.new_size_bytes,
            )
    return told
