# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One example of everything on the wire, each field set."""

from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

from storpool_commands import catalogue
from storpool_commands.control import (
    CancelCommand,
    CancelledCommand,
    CommandDetails,
    CommandStatus,
    Drain,
    Drained,
    Drift,
    DriftReport,
    GetDriftReport,
    JobProgress,
    Kept,
    ListAttachments,
    ListCommands,
    ListedAttachment,
    ListedAttachments,
    ListedCommands,
    LogLevelSet,
    PendingUnplug,
    Ping,
    Pong,
    QueriedCommand,
    QueryCommand,
    RunningMirror,
    SetLogLevel,
    UnfinishedCommand,
)
from storpool_commands.disks import (
    AttachDisk,
    AttachedDisk,
    AttachedTo,
    ConnectedDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DetachedDisk,
    DisconnectedDisk,
    DisconnectedDiskByPath,
    DisconnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
    DiskQos,
    GetPhysicalDisk,
    Holder,
    IoTune,
    PhysicalDisk,
    ResizedVm,
    ResizedVolume,
    SetDiskQos,
    StorpoolResize,
    VmDisk,
)
from storpool_commands.dry_run import DryRun
from storpool_commands.encryption import Encryption, Key
from storpool_commands.envelope import Accepted, Event, Failure, Progress, Step, Success
from storpool_commands.errors import ErrorCode
from storpool_commands.wire import AnswerModel, CommandModel
from unit.commands import copy_samples, host_samples, migration_samples, storage_samples

COMMANDS: tuple[type[CommandModel[Any]], ...] = get_args(get_args(catalogue.Command)[0])
CONTROL_COMMANDS: tuple[type[CommandModel[Any]], ...] = get_args(get_args(catalogue.ControlCommand)[0])
RESULTS: tuple[type[AnswerModel], ...] = get_args(get_args(catalogue.Result)[0])

ID = UUID("8a6214d1-b9a8-47b1-9383-cfc8efba294e")
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
FAR: dict[str, Any] = {
    "phase": "copy",
    "bytes_done": 1,
    "bytes_total": 2,
    "rate_bytes_s": 3,
    "eta_s": 0.5,
    "stalled_s": 1.5,
}
STATUS = CommandStatus(
    id=ID,
    body_command="attachDisk",
    state="running",
    received_at=NOW,
    attempts=1,
    steps=["attach", "plug"],
    progress=JobProgress(**FAR),
    objects={"volume": "~a.b.c", "vm": "vm-1"},
    finished_at=NOW,
    outcome="failure",
    code="vm-busy",
)
DETAILS = CommandDetails(
    request={"id": str(ID), "protocol": 1, "body": {"command": "attachDisk"}},
    publisher="plane",
    reply_to=["plane"],
    unsent_replies=1,
    shared=False,
    stops=1,
    notes=[Kept(kind="attach", target="a.b.c")],
    temporaries=[Kept(kind="use", target="a.b.c")],
    waits_for=[ID],
)

COMMAND_SAMPLES: tuple[CommandModel[Any], ...] = (
    ConnectPhysicalDisk(
        snapshot="~a.b.c", mode="ro", purpose="copy", on_remote_attached="fail", generation=1, timeout_s=1.5
    ),
    DisconnectPhysicalDisk(volume="disk-1", force=True, reason="host is gone", generation=0, timeout_s=3600),
    DisconnectPhysicalDiskByPath(path="/dev/storpool/disk-1", force=True, reason="x", generation=2, timeout_s=1),
    AttachDisk(
        vm="vm-1",
        volume="~a.b.c",
        mode="ro",
        bus="scsi",
        target="sdb",
        serial="serial-1",
        cache="writeback",
        io="threads",
        discard="ignore",
        iothread=1,
        iotune=IoTune(total_bytes_sec=0, read_iops_sec=1, write_iops_sec=2),
        encryption=Encryption(key=Key(credential="disk-1")),
        persistent=False,
        require_running=True,
        generation=3,
        timeout_s=10,
    ),
    DetachDisk(vm="vm-1", volume="~a.b.c", wait_guest_s=0, generation=4, timeout_s=10),
    StorpoolResize(
        volume="~a.b.c",
        new_size_bytes=512,
        expected_size_bytes=1024,
        shrink_ok=True,
        vm="vm-1",
        iops=0,
        tier="ssd",
        template="hybrid",
        timeout_s=10,
    ),
    GetPhysicalDisk(snapshot="snap-1"),
    SetDiskQos(vm="vm-1", volume="~a.b.c", iotune=IoTune(total_iops_sec=100), timeout_s=10),
    *storage_samples.COMMAND_SAMPLES,
    *copy_samples.COMMAND_SAMPLES,
    *migration_samples.COMMAND_SAMPLES,
    *host_samples.CONTROL_SAMPLES,
    Ping(),
    QueryCommand(id=ID, details=True),
    ListCommands(state="running", limit=5, id_prefix="8a62"),
    CancelCommand(id=ID),
    ListAttachments(),
    GetDriftReport(),
    Drain(on=True),
    SetLogLevel(level="debug"),
)

RESULT_SAMPLES: tuple[AnswerModel, ...] = (
    ConnectedDisk(
        global_id="a.b.c",
        path="/dev/storpool-byid/a.b.c",
        real_device="/dev/sp-1",
        size_bytes=512,
        mode="rw",
        attached_now=True,
    ),
    DisconnectedDisk(global_id=None, detached_now=False),
    DisconnectedDiskByPath(global_id="a.b.c", detached_now=True),
    AttachedDisk(
        global_id="a.b.c",
        vm=str(ID),
        path="/dev/storpool-byid/a.b.c",
        size_bytes=512,
        payload_size_bytes=512,
        target="vdb",
        bus="virtio",
        serial="a.b.c",
        address="pci:0000:05:00.0",
        live=True,
        persistent=False,
        attached_now=True,
    ),
    DetachedDisk(global_id="a.b.c", vm=str(ID), unplugged_now=True, detached_now=True),
    ResizedVolume(
        global_id="a.b.c",
        previous_size_bytes=512,
        size_bytes=1024,
        payload_size_bytes=512,
        device_size_bytes=1024,
        vms=[ResizedVm(vm=str(ID), target="vdb", size_bytes=1024)],
    ),
    PhysicalDisk(
        global_id="a.b.c",
        name="disk-1",
        snapshot=False,
        encrypted=True,
        size_bytes=512,
        template="hybrid",
        tags={"cs": "volume"},
        attachments=[AttachedTo(client=1, mode="rw")],
        attached_here="rw",
        path="/dev/storpool-byid/a.b.c",
        real_device="/dev/sp-1",
        device_size_bytes=512,
        device_mode="rw",
        holders=[Holder(kind="process", name="dd", pid=4)],
        vms=[VmDisk(vm=str(ID), name="vm-1", target="vdb", live=True, persistent=True)],
        pending_unplug_vm=None,
    ),
    DiskQos(
        vm=str(ID),
        target="vdb",
        live=True,
        persistent=False,
        total_bytes_sec=0,
        read_bytes_sec=0,
        write_bytes_sec=0,
        total_iops_sec=100,
        read_iops_sec=0,
        write_iops_sec=0,
    ),
    *storage_samples.RESULT_SAMPLES,
    *copy_samples.RESULT_SAMPLES,
    *migration_samples.RESULT_SAMPLES,
    *host_samples.RESULT_SAMPLES,
    Pong(host="kvm1", version="0.1.0", time=NOW),
    QueriedCommand(
        status=STATUS, reply={"id": str(ID), "status": "success", "nested": [{"deep": None}]}, details=DETAILS
    ),
    ListedCommands(commands=[STATUS]),
    CancelledCommand(id=ID, outcome="stopping"),
    ListedAttachments(
        attachments=[
            ListedAttachment(
                global_id="a.b.c",
                snapshot=False,
                mode="rw",
                path=None,
                vms=[str(ID)],
                vm_names=["vm-1"],
                device="/dev/sp-1",
                size_bytes=512,
            )
        ]
    ),
    DriftReport(
        scanned_at=NOW,
        drifts=[
            Drift(
                kind="no-device",
                global_id="a.b.c",
                path=None,
                vm=None,
                detail="attached, no link",
                first_seen=NOW,
                evidence=["StorPool: attached rw to client 1, this host"],
                repair="storpool-ctl --host kvm1 connect-physical-disk --volume ~a.b.c",
            )
        ],
    ),
    Drained(draining=False, quiet=False, unfinished=2),
    Drained(
        draining=True,
        quiet=False,
        unfinished=1,
        commands=[
            UnfinishedCommand(id=ID, body_command="backupSnapshot", state="running", waited_s=1.5, progress=None)
        ],
        pending_unplugs=[PendingUnplug(global_id="a.b.c", vm=str(ID), request=str(ID))],
        mirrors=[RunningMirror(vm=str(ID), path="/dev/storpool-byid/a.b.d", request=str(ID))],
        migrations=[migration_samples.SEEN],
        not_known="libvirt cannot be reached",
    ),
    LogLevelSet(before="info", after="debug"),
    DryRun(body_command="attachDisk"),
)

STEPS = [Step(step="attach", status="done", took_ms=1.5), Step(step="wait", status="planned", took_ms=0)]
OTHER_REPLIES = (
    Failure(
        id=None,
        host="kvm1",
        code=ErrorCode.VOLUME_BUSY,
        message="disk-1 is open",
        retry="retryable",
        side_effects="partial",
        facts={"client": 1, "holders": ["dd"], "ratio": 0.5, "known": True, "nothing": None, "name": "disk-1"},
        steps=STEPS,
        took_ms=2,
    ),
    Accepted(id=ID, host="kvm1"),
    Progress(id=ID, host="kvm1", **FAR),
)
REPLY_SAMPLES = (
    *(Success(id=ID, host="kvm1", result=result, steps=STEPS, took_ms=2) for result in RESULT_SAMPLES),  # type: ignore[arg-type]
    *OTHER_REPLIES,
)
EVENT = Event(id="1", source="/hosts/kvm1", type="com.storpool.agent.heartbeat", time=NOW, subject="s", data={"a": 1})


def wire_name(model: object) -> str:
    """Such as `attachDisk`."""
    kind: Any = model if isinstance(model, type) else type(model)
    return str(kind.model_fields["command"].default)
