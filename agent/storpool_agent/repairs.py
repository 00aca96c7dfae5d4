# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a person types to mend a drift. Pure, and careful: each command checks before it acts, and forces nothing."""

from collections.abc import Sequence

from storpool_agent.journal.unplugs import PendingUnplug
from storpool_agent.picture import Picture, UsedDisk
from storpool_agent.storpool.model import Attachment


def connect(picture: Picture, ours: Attachment) -> str:
    """Waits for the device that should be there, and says what is wrong with it."""
    return _control(
        picture, "connect-physical-disk", _which(ours.global_id, snapshot=ours.snapshot), ("mode", ours.mode)
    )


def disconnect(picture: Picture, global_id: str) -> str:
    """Refused while anybody has it open."""
    return _control(picture, "disconnect-physical-disk", _named(picture, global_id))


def reconnect(picture: Picture, ours: Attachment) -> str:
    """The mode of a device is that of its attachment from the beginning."""
    return f"{disconnect(picture, ours.global_id)} && {connect(picture, ours)}"


def attach_disk(picture: Picture, used: UsedDisk) -> str:
    """A running machine's disk. Of a path that leads nowhere nobody knows what it was."""
    if used.global_id is None:
        return f"virsh domblklist {used.disk.domain.uuid}"
    return _control(picture, "connect-physical-disk", _named(picture, used.global_id), ("mode", used.disk.mode))


def replug(picture: Picture, used: UsedDisk, ours: Attachment) -> str:
    """A machine keeps the mode that it was given a disk with."""
    which = (("vm", used.disk.domain.uuid), ("volume", f"~{ours.global_id}"))
    return " && ".join(
        (_control(picture, "detach-disk", *which), _control(picture, "attach-disk", *which, ("mode", used.disk.mode)))
    )


def unplug(picture: Picture, pending: PendingUnplug) -> str:
    """Asks the guest once more, and waits for it."""
    return _control(picture, "detach-disk", ("vm", pending.vm), ("volume", f"~{pending.global_id}"))


def one_writer(picture: Picture, ours: Attachment, others: Sequence[int]) -> str:
    """The host whose machine runs with it keeps it. StorPool's own tool: the others may have no agent."""
    if not picture.running(ours.global_id):
        return disconnect(picture, ours.global_id)
    return " && ".join(f"storpool detach volume ~{ours.global_id} client {client}" for client in others)


def _named(picture: Picture, global_id: str) -> tuple[str, str]:
    return _which(global_id, snapshot=any(one.snapshot for one in picture.attachments if one.global_id == global_id))


def _which(global_id: str, *, snapshot: bool) -> tuple[str, str]:
    return ("snapshot" if snapshot else "volume", f"~{global_id}")


def _control(picture: Picture, command: str, *options: tuple[str, str]) -> str:
    words = [f"--{name} {value}" for name, value in options]
    return " ".join(["storpool-ctl --host", picture.host, command, *words])
