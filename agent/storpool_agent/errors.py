# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every expected failure. The class carries the code, the instance the message and the facts."""

from typing import ClassVar

from storpool_commands.errors import ErrorCode
from storpool_commands.wire import Fact


class AgentError(Exception):
    """Base of every expected failure. What is no AgentError is a bug of ours: code `internal`."""

    code: ClassVar[ErrorCode]

    def __init__(self, message: str, /, **facts: Fact) -> None:
        super().__init__(message)
        self.facts = facts


class InvalidCommand(AgentError):
    code = ErrorCode.INVALID_COMMAND


class DeadlinePassed(AgentError):
    code = ErrorCode.DEADLINE_PASSED


class StaleGeneration(AgentError):
    code = ErrorCode.STALE_GENERATION


class Cancelled(AgentError):
    code = ErrorCode.CANCELLED


class TooLate(AgentError):
    code = ErrorCode.TOO_LATE


class UnknownRequest(AgentError):
    code = ErrorCode.UNKNOWN_REQUEST


class CrashLoop(AgentError):
    code = ErrorCode.CRASH_LOOP


class IdConflict(AgentError):
    code = ErrorCode.ID_CONFLICT


class NotAuthorized(AgentError):
    code = ErrorCode.NOT_AUTHORIZED


class JournalUnavailable(AgentError):
    """The journal cannot be written or read: a full disk, a lost file system, a damaged file."""

    code = ErrorCode.JOURNAL_UNAVAILABLE


class HostOverloaded(AgentError):
    code = ErrorCode.HOST_OVERLOADED


class VolumeNotFound(AgentError):
    code = ErrorCode.VOLUME_NOT_FOUND


class SnapshotNotFound(AgentError):
    code = ErrorCode.SNAPSHOT_NOT_FOUND


class TemplateNotFound(AgentError):
    code = ErrorCode.TEMPLATE_NOT_FOUND


class NameTaken(AgentError):
    code = ErrorCode.NAME_TAKEN


class VolumeBusy(AgentError):
    code = ErrorCode.VOLUME_BUSY


class AttachedElsewhere(AgentError):
    code = ErrorCode.ATTACHED_ELSEWHERE


class InsufficientResources(AgentError):
    code = ErrorCode.INSUFFICIENT_RESOURCES


class ClientNotRegistered(AgentError):
    code = ErrorCode.CLIENT_NOT_REGISTERED


class NoAttachmentSlot(AgentError):
    code = ErrorCode.NO_ATTACHMENT_SLOT


class StorPoolClientDown(AgentError):
    code = ErrorCode.STORPOOL_CLIENT_DOWN


class StorPoolUnavailable(AgentError):
    """The request did not reach StorPool, or StorPool said that it cannot serve it now: nothing was done."""

    code = ErrorCode.STORPOOL_UNAVAILABLE


class StorPoolTimeout(AgentError):
    """The request was sent and no answer came: it may have been done or not."""

    code = ErrorCode.STORPOOL_TIMEOUT


class StorPoolBadAnswer(AgentError):
    """An answer that is not StorPool's: HTML of a proxy, cut-off JSON, a field missing."""

    code = ErrorCode.STORPOOL_BAD_ANSWER


class StorPoolUnauthorized(AgentError):
    code = ErrorCode.STORPOOL_UNAUTHORIZED


class StorPoolRefused(AgentError):
    """An error of the API that has no code of its own; its name and text are in the facts."""

    code = ErrorCode.STORPOOL_REFUSED


class DeviceTimeout(AgentError):
    code = ErrorCode.DEVICE_TIMEOUT


class DeviceMismatch(AgentError):
    code = ErrorCode.DEVICE_MISMATCH


class DetachIncomplete(AgentError):
    code = ErrorCode.DETACH_INCOMPLETE


class SizeNotPropagated(AgentError):
    code = ErrorCode.SIZE_NOT_PROPAGATED


class WouldShrink(AgentError):
    code = ErrorCode.WOULD_SHRINK


class SizeChanged(AgentError):
    code = ErrorCode.SIZE_CHANGED


class VmNotFound(AgentError):
    code = ErrorCode.VM_NOT_FOUND


class VmNotRunning(AgentError):
    code = ErrorCode.VM_NOT_RUNNING


class VmBusy(AgentError):
    """A job of libvirt (block copy, migration) keeps the machine or its disk from being changed."""

    code = ErrorCode.VM_BUSY


class DiskInUseByVm(AgentError):
    code = ErrorCode.DISK_IN_USE_BY_VM


class DiskConflict(AgentError):
    """The machine has the volume already, but not as the command wants it."""

    code = ErrorCode.DISK_CONFLICT


class DiskNotFound(AgentError):
    """The machine does not have the volume as a disk."""

    code = ErrorCode.DISK_NOT_FOUND


class TargetTaken(AgentError):
    code = ErrorCode.TARGET_TAKEN


class NoHotplugSlot(AgentError):
    code = ErrorCode.NO_HOTPLUG_SLOT


class UnplugPending(AgentError):
    code = ErrorCode.UNPLUG_PENDING


class UnplugRejected(AgentError):
    code = ErrorCode.UNPLUG_REJECTED


class GuestNotNotified(AgentError):
    code = ErrorCode.GUEST_NOT_NOTIFIED


class LibvirtUnavailable(AgentError):
    code = ErrorCode.LIBVIRT_UNAVAILABLE


class LibvirtTimeout(AgentError):
    code = ErrorCode.LIBVIRT_TIMEOUT


class LibvirtRefused(AgentError):
    """An error of libvirt that has no code of its own; its number and text are in the facts."""

    code = ErrorCode.LIBVIRT_REFUSED


class StillExported(AgentError):
    code = ErrorCode.STILL_EXPORTED


class TagsNotSet(AgentError):
    """The command has taken effect but for the tags; the same body with a new id sets them."""

    code = ErrorCode.TAGS_NOT_SET


class FenceIncomplete(AgentError):
    code = ErrorCode.FENCE_INCOMPLETE


class RevertIncomplete(AgentError):
    code = ErrorCode.REVERT_INCOMPLETE


class DeleteIncomplete(AgentError):
    code = ErrorCode.DELETE_INCOMPLETE


class PoolNotFound(AgentError):
    code = ErrorCode.POOL_NOT_FOUND


class PoolConflict(AgentError):
    code = ErrorCode.POOL_CONFLICT


class TemplateInUse(AgentError):
    code = ErrorCode.TEMPLATE_IN_USE


class SecretNotKept(AgentError):
    """The agent died before it ran a request whose secret it does not store."""

    code = ErrorCode.SECRET_NOT_KEPT


class GuestAgentUnavailable(AgentError):
    code = ErrorCode.GUEST_AGENT_UNAVAILABLE


class GuestNotFrozen(AgentError):
    """The guest's agent said no."""

    code = ErrorCode.GUEST_NOT_FROZEN


class FrozenTooLong(AgentError):
    """The guest was thawed before the snapshot was certainly taken."""

    code = ErrorCode.FROZEN_TOO_LONG


class SecondaryNotAllowed(AgentError):
    """The settings of this host do not let commands use that directory, server or address."""

    code = ErrorCode.SECONDARY_NOT_ALLOWED


class SecondaryUnavailable(AgentError):
    """Secondary storage cannot be mounted or read, or is not there any more: nothing was given its name on it."""

    code = ErrorCode.SECONDARY_UNAVAILABLE


class SecondaryReadOnly(AgentError):
    code = ErrorCode.SECONDARY_READ_ONLY


class SecondaryFull(AgentError):
    code = ErrorCode.SECONDARY_FULL


class ImageNotFound(AgentError):
    code = ErrorCode.IMAGE_NOT_FOUND


class FileExists(AgentError):
    """No file is ever overwritten."""

    code = ErrorCode.FILE_EXISTS


class ImageRefused(AgentError):
    """An image that would have the host read or write something else than the image."""

    code = ErrorCode.IMAGE_REFUSED


class ImageFormatMismatch(AgentError):
    """The image is not in the format that the command says."""

    code = ErrorCode.IMAGE_FORMAT_MISMATCH


class ImageTooLarge(AgentError):
    code = ErrorCode.IMAGE_TOO_LARGE


class DownloadFailed(AgentError):
    code = ErrorCode.DOWNLOAD_FAILED


class ScratchFull(AgentError):
    """There is no room on this host for a download, or for what is unpacked."""

    code = ErrorCode.SCRATCH_FULL


class ChecksumMismatch(AgentError):
    """The file, or its contents, is not the one that the sender means."""

    code = ErrorCode.CHECKSUM_MISMATCH


class CopyMismatch(AgentError):
    """What was read back is not what was copied."""

    code = ErrorCode.COPY_MISMATCH


class CopyFailed(AgentError):
    code = ErrorCode.COPY_FAILED


class CopyStalled(AgentError):
    """Not a byte has moved for too long."""

    code = ErrorCode.COPY_STALLED


class BlockJobFailed(AgentError):
    """QEMU gave up a copy of a running machine's disk; the machine runs on with the disk that it had."""

    code = ErrorCode.BLOCK_JOB_FAILED


class VolumeIncomplete(AgentError):
    """A copy job is writing the volume, or has not removed it yet: it must not be used."""

    code = ErrorCode.VOLUME_INCOMPLETE
