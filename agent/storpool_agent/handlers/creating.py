# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""createVolume, createVolumeFromTemplate, createVolumeFromSnapshot: a request makes one volume, not one each run."""

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.encryption_errors import EncryptedUnsupported
from storpool_agent.errors import InvalidCommand, WouldShrink
from storpool_agent.host import Host, Pool
from storpool_agent.images.luks import PAYLOAD_OFFSET_BYTES
from storpool_agent.storpool.model import NewVolume, Volume
from storpool_commands.labels import LUKS, NEW
from storpool_commands.references import ID_DIRECTORY, parse
from storpool_commands.volumes import (
    CreatedVolume,
    CreatedVolumeFromSnapshot,
    CreatedVolumeFromTemplate,
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
)

API_TIMEOUT_S = 60.0
LUKS_HEADER_BYTES = 2 << 20
"""In LUKS1 as cryptsetup writes it the data begins at sector 4096, as QEMU does it 28 KiB earlier."""
KIND = "volume"

_Creation = CreateVolume | CreateVolumeFromTemplate | CreateVolumeFromSnapshot


def create(command: CreateVolume, host: Host, attempt: Attempt) -> CreatedVolume:
    """Make an empty volume."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pool = host.pools.get(command.pool)
    template = command.template or pool.template
    if template is None:
        raise InvalidCommand(f"pool {pool.name} has no template; give one", pool=pool.name)
    size_bytes = command.size_bytes + _header_bytes(encrypted=command.encrypted)
    made = _make(command, pool, template, size_bytes, None, attempt, deadline, encrypted=command.encrypted)
    return CreatedVolume.model_validate(described(made))


def create_from_template(command: CreateVolumeFromTemplate, host: Host, attempt: Attempt) -> CreatedVolumeFromTemplate:
    """Make a volume of the larger of the offering's and the template's size."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pool = host.pools.get(command.pool)
    with attempt.step("find"):
        parent = pool.storpool.snapshot(parse(command.snapshot), deadline)
        if command.encrypted and LUKS in parent.tags:
            raise EncryptedUnsupported(
                f"snapshot {parent.global_id} is of an encrypted volume: what is made from it is encrypted already; "
                "send createVolumeFromSnapshot",
                snapshot=parent.global_id,
            )
    size_bytes = max(command.size_bytes or 0, parent.size_bytes) + _header_bytes(encrypted=command.encrypted)
    template = command.template or pool.template or (parent.template if command.encrypted else None)
    # What the template has as plain text must not be below what is encrypted: the volume is made empty.
    origin = None if command.encrypted else parent
    made = _make(command, pool, template, size_bytes, origin, attempt, deadline, encrypted=command.encrypted)
    return CreatedVolumeFromTemplate.model_validate(described(made, origin))


def create_from_snapshot(command: CreateVolumeFromSnapshot, host: Host, attempt: Attempt) -> CreatedVolumeFromSnapshot:
    """Make a volume that is placed as its snapshot is, unless the command names a template, or a pool with one."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pool = host.pools.get(command.pool)
    with attempt.step("find"):
        parent = pool.storpool.snapshot(parse(command.snapshot), deadline)
        size_bytes = parent.size_bytes if command.size_bytes is None else command.size_bytes
        if size_bytes < parent.size_bytes:
            raise WouldShrink(
                f"snapshot {parent.global_id} has {parent.size_bytes} bytes, a volume of {size_bytes} would lack its "
                "end; ask for as much, or more",
                snapshot=parent.global_id,
                size_bytes=parent.size_bytes,
            )
    template = command.template or (None if command.pool is None else pool.template)
    made = _make(command, pool, template, size_bytes, parent, attempt, deadline)
    return CreatedVolumeFromSnapshot.model_validate(described(made, parent))


def _make(
    command: _Creation,
    pool: Pool,
    template: str | None,
    size_bytes: int,
    parent: Volume | None,
    attempt: Attempt,
    deadline: Deadline,
    *,
    encrypted: bool = False,
) -> Volume:
    wanted = NewVolume(
        size_bytes=size_bytes,
        template=template,
        name=command.name,
        parent=parent,
        cluster_id=command.cluster_id or pool.cluster_id,
        tags={**command.all_tags(KIND), **({LUKS: NEW} if encrypted else {})},
        iops=command.iops,
        bandwidth_kib_sec=command.bandwidth_kib_sec,
    )
    with attempt.step("create", changes=True):
        return pool.storpool.create_volume(wanted, attempt.request_id, deadline, look_first=attempt.may_have_run)


def described(made: Volume, parent: Volume | None = None) -> dict[str, object]:
    return {
        "global_id": made.global_id,
        "name": made.name,
        "path": f"{ID_DIRECTORY}{made.global_id}",
        "size_bytes": made.size_bytes,
        "payload_size_bytes": made.size_bytes - PAYLOAD_OFFSET_BYTES if LUKS in made.tags else None,
        "template": made.template,
        "parent": parent.global_id if parent else None,
        "tags": dict(made.tags),
    }


def _header_bytes(*, encrypted: bool) -> int:
    return LUKS_HEADER_BYTES if encrypted else 0
