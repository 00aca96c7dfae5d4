# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""createVolume and deleteVolume: what touches the StorPool API alone."""

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.handlers import connecting
from storpool_agent.host import Host
from storpool_agent.storpool.model import NewVolume
from storpool_commands.references import ID_DIRECTORY
from storpool_commands.volumes import (
    CreatedVolume,
    CreatedVolumeFromSnapshot,
    CreatedVolumeFromTemplate,
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
    DeletedVolume,
    DeleteVolume,
    FencedVolumes,
    FenceVolumes,
    QosTierSet,
    SetQosTier,
    UpdatedVolume,
    UpdateVolume,
)

API_TIMEOUT_S = 60.0


def create(command: CreateVolume, host: Host, attempt: Attempt) -> CreatedVolume:
    """Make an empty volume, once for a request however often that is run."""
    deadline = Deadline.after(API_TIMEOUT_S)
    wanted = NewVolume(
        size_bytes=command.size_bytes,
        template=command.template,
        name=command.name,
        tags=command.tags,
        iops=command.iops,
        bandwidth_kib_sec=command.bandwidth_kib_sec,
    )
    with attempt.step("create", changes=True):
        made = host.storpool.create_volume(wanted, attempt.request_id, deadline, look_first=attempt.may_have_run)
    return CreatedVolume(
        global_id=made.global_id,
        name=made.name,
        path=f"{ID_DIRECTORY}{made.global_id}",
        size_bytes=made.size_bytes,
        template=made.template,
        tags=dict(made.tags),
    )


def delete(command: DeleteVolume, host: Host, attempt: Attempt) -> DeletedVolume:
    """Delete a volume that is attached nowhere."""
    deadline = Deadline.after(API_TIMEOUT_S)
    with attempt.step("find"):
        volume = connecting.find_or_none(command.volume, None, host, deadline)
    if volume is None:
        return DeletedVolume(global_id=None, deleted_now=False)
    with attempt.step("delete", changes=True):
        host.storpool.delete_volume(volume, deadline)
    return DeletedVolume(global_id=volume.global_id, deleted_now=True)


def create_from_template(command: CreateVolumeFromTemplate, host: Host, attempt: Attempt) -> CreatedVolumeFromTemplate:
    """Make a volume from a template."""
    raise NotImplementedError


def create_from_snapshot(command: CreateVolumeFromSnapshot, host: Host, attempt: Attempt) -> CreatedVolumeFromSnapshot:
    """Make a volume from a snapshot."""
    raise NotImplementedError


def update(command: UpdateVolume, host: Host, attempt: Attempt) -> UpdatedVolume:
    """Change limits, template or tier."""
    raise NotImplementedError


def set_tier(command: SetQosTier, host: Host, attempt: Attempt) -> QosTierSet:
    """Set the tag qc."""
    raise NotImplementedError


def fence(command: FenceVolumes, host: Host, attempt: Attempt) -> FencedVolumes:
    """Detach everywhere, by force, and confirm it."""
    raise NotImplementedError
