# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One example of every command on volumes, snapshots, tags and pools, and of its result, each field set."""

from typing import Any

from pydantic import SecretStr

from storpool_commands.pools import (
    AddedStoragePool,
    AddStoragePool,
    GetHostInfo,
    GetPoolStats,
    HostInfo,
    PoolSpace,
    PoolStats,
    RemovedStoragePool,
    RemoveStoragePool,
    StorPoolClient,
)
from storpool_commands.snapshots import (
    DeletedSnapshot,
    DeletedTemplate,
    DeleteSnapshot,
    DeleteTemplate,
    RevertedVolume,
    RevertSnapshot,
    TakenSnapshot,
    TakeSnapshot,
)
from storpool_commands.tags import CreatedTags, DeletedTags, StorPoolCreateTags, StorPoolDeleteTags, TaggedVolume
from storpool_commands.vm_snapshots import (
    DeletedVmSnapshot,
    DeleteVmSnapshot,
    DiskSnapshot,
    RevertedDisk,
    RevertedVmSnapshot,
    RevertVmSnapshot,
    TakenVmSnapshot,
    TakeVmSnapshot,
    VolumeAndSnapshot,
)
from storpool_commands.volumes import (
    CreatedVolume,
    CreatedVolumeFromSnapshot,
    CreatedVolumeFromTemplate,
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
    DeletedVolume,
    DeleteVolume,
    FencedVolume,
    FencedVolumes,
    FenceVolumes,
    QosTierSet,
    SetQosTier,
    UpdatedVolume,
    UpdateVolume,
    VolumeSettings,
)
from storpool_commands.wire import AnswerModel, CommandModel

LABELS: dict[str, Any] = {
    "uuid": "8a6214d1-b9a8-47b1-9383-cfc8efba294e",
    "vm_uuid": "e5f570c2-4e43-4630-b2e0-8657bee8bbc2",
    "vc_policy": "daily",
    "disk_id": 0,
    "tags": {"cs": "volume", "owner": "web"},
}
NEW: dict[str, Any] = {
    **LABELS,
    "pool": "fast",
    "template": "hybrid",
    "name": "disk-1",
    "iops": 100,
    "bandwidth_kib_sec": 0,
    "cluster_id": "a.b",
}
MADE: dict[str, Any] = {
    "global_id": "a.b.c",
    "name": "disk-1",
    "path": "/dev/storpool-byid/a.b.c",
    "size_bytes": 512,
    "template": "hybrid",
    "parent": "a.b.d",
    "tags": {"sp-op": "8a6214d1-b9a8-47b1-9383-cfc8efba294e"},
}
SETTINGS = VolumeSettings(template="hybrid", iops=None, bandwidth_kib_sec=1024, tags={"qc": "gold"})
TAGGED = TaggedVolume(global_id="a.b.c", before={"qc": "gold"}, after={"qc": "gold", "vc-policy": "daily"})
SPACE = PoolSpace(
    name="fast",
    api="10.0.0.1:81",
    template="hybrid",
    capacity_bytes=2**40,
    free_bytes=2**39,
    used_bytes=2**39,
    volumes=3,
    snapshots=4,
)

COMMAND_SAMPLES: tuple[CommandModel[Any], ...] = (
    CreateVolume(size_bytes=2**40, encrypted=True, **NEW),
    CreateVolumeFromTemplate(snapshot="~a.b.d", size_bytes=2**40, encrypted=True, **NEW),
    CreateVolumeFromSnapshot(snapshot="~a.b.d", size_bytes=2**40, **NEW),
    DeleteVolume(pool="fast", volume="disk-1", detach_force=True, reason="host is gone", delete_after_s=3600),
    UpdateVolume(pool="fast", volume="disk-1", iops=0, bandwidth_kib_sec=0, template="ssd", tier=""),
    SetQosTier(pool="fast", volume="~a.b.c", tier="gold"),
    FenceVolumes(pool="fast", volumes=["~a.b.c", "disk-1"], confirm_fenced=True, reason="kvm2 is powered off"),
    TakeSnapshot(pool="fast", volume="~a.b.c", name="snap-1", delete_after_s=86400, tier="gold", **LABELS),
    DeleteSnapshot(pool="fast", snapshot="snap-1", detach_force=True, reason="the backup hangs"),
    RevertSnapshot(
        pool="fast",
        volume="~a.b.c",
        snapshot="~a.b.d",
        detach=True,
        revert_size=True,
        safety_snapshot=True,
        iops=100,
    ),
    DeleteTemplate(pool="fast", snapshot="~a.b.d"),
    TakeVmSnapshot(
        pool="fast",
        volumes=["~a.b.c", "~a.b.e"],
        vm="vm-1",
        quiesce="require",
        freeze_timeout_s=5,
        uuid="group-1",
        vm_uuid="e5f570c2-4e43-4630-b2e0-8657bee8bbc2",
        tags={"owner": "web"},
    ),
    RevertVmSnapshot(
        pool="fast",
        disks=[VolumeAndSnapshot(volume="~a.b.c", snapshot="~a.b.d")],
        vm="vm-1",
        detach=True,
        safety_snapshots=False,
    ),
    DeleteVmSnapshot(pool="fast", snapshots=["~a.b.d", "snap-1"]),
    StorPoolCreateTags(pool="fast", volumes=["~a.b.c"], set={"vc-policy": "daily"}),
    StorPoolDeleteTags(pool="fast", volumes=["~a.b.c"], remove=["vc-policy"]),
    AddStoragePool(name="fast", url=SecretStr("storpool://s3cret@10.0.0.1:81/hybrid"), cluster_id="a.b"),
    RemoveStoragePool(name="fast"),
    GetPoolStats(pool="fast"),
    GetHostInfo(),
)

RESULT_SAMPLES: tuple[AnswerModel, ...] = (
    CreatedVolume(**MADE),
    CreatedVolumeFromTemplate(**MADE),
    CreatedVolumeFromSnapshot(**MADE),
    DeletedVolume(global_id="a.b.c", deleted_now=True, kept_snapshot="a.b.f"),
    UpdatedVolume(global_id="a.b.c", before=SETTINGS, after=SETTINGS),
    QosTierSet(global_id="a.b.c", before=None, after="gold"),
    FencedVolumes(volumes=[FencedVolume(global_id="a.b.c", detached_from=[2, 3])]),
    TakenSnapshot(
        global_id="a.b.d",
        name="~a.b.d",
        path="/dev/storpool-byid/a.b.d",
        volume="a.b.c",
        size_bytes=512,
        tags={"cs": "snapshot"},
    ),
    DeletedSnapshot(global_id=None, deleted_now=False),
    RevertedVolume(global_id="a.b.c", snapshot="a.b.d", size_bytes=512, iops=100, safety_snapshot="a.b.f"),
    DeletedTemplate(global_id="a.b.d", deleted_now=True),
    TakenVmSnapshot(
        snapshots=[DiskSnapshot(volume="a.b.c", snapshot="a.b.d", size_bytes=512)],
        consistency="crash",
        frozen_ms=None,
        not_frozen="the guest has no agent",
    ),
    RevertedVmSnapshot(disks=[RevertedDisk(volume="a.b.c", snapshot="a.b.d", safety_snapshot="a.b.f", iops=100)]),
    DeletedVmSnapshot(deleted=["~a.b.d"], missing=["snap-1"]),
    CreatedTags(volumes=[TAGGED]),
    DeletedTags(volumes=[TAGGED]),
    AddedStoragePool(pool=SPACE, added_now=True),
    RemovedStoragePool(removed_now=False),
    PoolStats(pools=[SPACE]),
    HostInfo(
        host="kvm1",
        version="0.1.0",
        protocol=1,
        our_id=1,
        cluster_id="a.b",
        location="a",
        cluster_status="running",
        client=StorPoolClient(client=1, status="running", version="21.0"),
        libvirt="9.0.0",
        qemu="7.2.22",
        pools=["fast"],
    ),
)
