# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From a request to its reply: one handler per command, one reply per request."""

from datetime import UTC, datetime
from importlib.metadata import version
from time import monotonic
from typing import assert_never

import structlog
from structlog.contextvars import bound_contextvars

from storpool_agent import tracing
from storpool_agent.attempt import Attempt
from storpool_agent.errors import AgentError
from storpool_agent.handlers import (
    arriving,
    backups,
    creating,
    departing,
    describing,
    downloads,
    encrypting,
    handing_over,
    machine_disks,
    migrating,
    physical_disks,
    pools,
    releasing,
    resizing,
    reverting,
    snapshots,
    tags,
    templates,
    temporaries,
    vm_reverting,
    vm_snapshots,
    volumes,
)
from storpool_agent.host import Host
from storpool_agent.interrupt import AgentStopping
from storpool_commands.catalogue import Command, Result
from storpool_commands.control import Ping, Pong
from storpool_commands.copies import (
    BackupSnapshot,
    CopyVolumeToSecondary,
    CreateTemplateFromSnapshot,
    CreateTemplateFromVolume,
    DownloadTemplate,
    DownloadVolume,
    MigrateVolume,
)
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DisconnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
    GetPhysicalDisk,
    SetDiskQos,
    StorpoolResize,
)
from storpool_commands.dry_run import DryRun
from storpool_commands.encrypting import EncryptVolume
from storpool_commands.envelope import Failure, Request, Success
from storpool_commands.errors import ErrorCode, retry_class
from storpool_commands.migration import (
    DescribeMachine,
    FinishMigration,
    MigrateVm,
    PrepareMigration,
    RollbackMigration,
)
from storpool_commands.pools import AddStoragePool, GetHostInfo, GetPoolStats, RemoveStoragePool
from storpool_commands.snapshots import DeleteSnapshot, DeleteTemplate, RevertSnapshot, TakeSnapshot
from storpool_commands.tags import StorPoolCreateTags, StorPoolDeleteTags
from storpool_commands.vm_snapshots import DeleteVmSnapshot, RevertVmSnapshot, TakeVmSnapshot
from storpool_commands.volumes import (
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
    DeleteVolume,
    FenceVolumes,
    SetQosTier,
    UpdateVolume,
)

log = structlog.get_logger()

VERSION = version("storpool-agent")


def handle(command: Command, host: Host, attempt: Attempt) -> Result:  # noqa: C901, PLR0911, PLR0912 - a table
    """Every command, on one page."""
    match command:
        case ConnectPhysicalDisk():
            return physical_disks.connect(command, host, attempt)
        case DisconnectPhysicalDisk():
            return physical_disks.disconnect(command, host, attempt)
        case DisconnectPhysicalDiskByPath():
            return physical_disks.disconnect_by_path(command, host, attempt)
        case GetPhysicalDisk():
            return physical_disks.look(command, host, attempt)
        case AttachDisk():
            return machine_disks.attach(command, host, attempt)
        case DetachDisk():
            return machine_disks.detach(command, host, attempt)
        case StorpoolResize():
            return resizing.resize(command, host, attempt)
        case SetDiskQos():
            return machine_disks.set_qos(command, host, attempt)
        case CreateVolume():
            return creating.create(command, host, attempt)
        case CreateVolumeFromTemplate():
            return creating.create_from_template(command, host, attempt)
        case CreateVolumeFromSnapshot():
            return creating.create_from_snapshot(command, host, attempt)
        case DeleteVolume():
            return volumes.delete(command, host, attempt)
        case UpdateVolume():
            return volumes.update(command, host, attempt)
        case SetQosTier():
            return volumes.set_tier(command, host, attempt)
        case FenceVolumes():
            return releasing.fence(command, host, attempt)
        case TakeSnapshot():
            return snapshots.take(command, host, attempt)
        case DeleteSnapshot():
            return snapshots.delete(command, host, attempt)
        case RevertSnapshot():
            return reverting.revert(command, host, attempt)
        case DeleteTemplate():
            return snapshots.delete_template(command, host, attempt)
        case TakeVmSnapshot():
            return vm_snapshots.take(command, host, attempt)
        case RevertVmSnapshot():
            return vm_reverting.revert(command, host, attempt)
        case DeleteVmSnapshot():
            return vm_snapshots.delete(command, host, attempt)
        case StorPoolCreateTags():
            return tags.create(command, host, attempt)
        case StorPoolDeleteTags():
            return tags.delete(command, host, attempt)
        case DownloadTemplate():
            return templates.download(command, host, attempt)
        case BackupSnapshot():
            return backups.backup(command, host, attempt)
        case CreateTemplateFromVolume():
            return templates.from_volume(command, host, attempt)
        case CreateTemplateFromSnapshot():
            return templates.from_snapshot(command, host, attempt)
        case CopyVolumeToSecondary():
            return backups.copy_volume(command, host, attempt)
        case DownloadVolume():
            return downloads.download(command, host, attempt)
        case MigrateVolume():
            return migrating.migrate(command, host, attempt)
        case DescribeMachine():
            return describing.describe(command, host, attempt)
        case PrepareMigration():
            return arriving.prepare(command, host, attempt)
        case MigrateVm():
            return departing.migrate(command, host, attempt)
        case FinishMigration():
            return handing_over.finish(command, host, attempt)
        case RollbackMigration():
            return handing_over.roll_back(command, host, attempt)
        case EncryptVolume():
            return encrypting.encrypt(command, host, attempt)
        case AddStoragePool():
            return pools.add(command, host, attempt)
        case RemoveStoragePool():
            return pools.remove(command, host, attempt)
        case GetPoolStats():
            return pools.stats(command, host, attempt)
        case GetHostInfo():
            return pools.info(command, host, attempt)
        case Ping():
            return pong(host.name)
        case _:
            assert_never(command)


def pong(host: str) -> Pong:
    """The agent lives."""
    return Pong(host=host, version=VERSION, time=datetime.now(UTC))


def execute(request: Request, host: Host, attempt: Attempt, publisher: str | None = None) -> Success | Failure:
    """Run one command to its end: every request gets exactly one reply.

    Raises AgentStopping, and nothing else: then there is none yet, and the next start runs the request again.
    """
    command = request.body
    started = monotonic()
    about = {"request": attempt.request_id, "command": command.command, "publisher": publisher}
    with tracing.within(attempt.span), bound_contextvars(**about, **_subjects(request)):
        log.debug("started", attempt=attempt.number, args=command.model_dump(exclude={"command"}, exclude_unset=True))
        try:
            result = handle(command, host, attempt)
        except AgentError as error:
            reply = failure(host.name, request, error, attempt, started)
            took_ms = reply.took_ms
            log.warning("failed", audit=True, code=error.code, reason=str(error), facts=error.facts, took_ms=took_ms)
            return reply
        except AgentStopping:
            raise
        except Exception:
            log.exception("crashed", audit=True)
            return _crashed(host.name, request, attempt, started)
        took_ms = _since_ms(started)
        log.info("done", audit=True, took_ms=took_ms, dry_run=request.dry_run)
        if request.dry_run:
            result = DryRun(body_command=command.command)
        return Success(
            id=request.id,
            host=host.name,
            traceparent=tracing.told(attempt.span),
            result=result,
            steps=attempt.steps,
            took_ms=took_ms,
        )


def clean_up(request: Request, host: Host, attempt: Attempt) -> None:
    """Take away what an earlier run of a copy has left, for one that is not run again.

    Raises nothing: what cannot be taken away now is taken away later, and the request has its reply.
    """
    with tracing.within(attempt.span), bound_contextvars(request=attempt.request_id, command=request.body.command):
        try:
            temporaries.take_all_away(host, attempt)
        except AgentError as error:
            log.warning("leftovers not read", reason=str(error))
        except Exception:
            log.exception("crashed")


def not_run(host: str, request: Request, error: AgentError, publisher: str | None) -> Failure:
    """The reply of a request that is not run, or not again; in the log, too."""
    reply = failure(host, request, error)
    about = {"request": str(request.id), "command": request.body.command, "publisher": publisher}
    log.warning("failed", audit=True, code=error.code, reason=str(error), facts=reply.facts, **about)
    return reply


def failure(
    host: str, request: Request, error: AgentError, attempt: Attempt | None = None, started: float | None = None
) -> Failure:
    """The reply for an expected failure; without an attempt, for one that was never started."""
    return Failure(
        id=request.id,
        host=host,
        traceparent=tracing.told(attempt.span if attempt else tracing.begin(request.traceparent)),
        code=error.code,
        message=str(error),
        retry=retry_class(error.code),
        side_effects=attempt.side_effects if attempt else "none",
        facts={**_subjects(request), **error.facts},
        steps=attempt.steps if attempt else [],
        took_ms=_since_ms(started) if started is not None else 0,
    )


def _crashed(host: str, request: Request, attempt: Attempt, started: float) -> Failure:
    return Failure(
        id=request.id,
        host=host,
        traceparent=tracing.told(attempt.span),
        code=ErrorCode.INTERNAL,
        message=f"a defect of the agent; its log has the details under request {request.id}",
        retry=retry_class(ErrorCode.INTERNAL),
        side_effects=attempt.side_effects,
        steps=attempt.steps,
        took_ms=_since_ms(started),
    )


def _subjects(request: Request) -> dict[str, str]:
    """What the command is about, as the sender named it: in every log line of it, and in the facts of its failure."""
    fields = vars(request.body)
    return {key: fields[key] for key in ("volume", "snapshot", "path", "vm", "pool") if fields.get(key) is not None}


def _since_ms(started: float) -> float:
    return round((monotonic() - started) * 1000, 3)
