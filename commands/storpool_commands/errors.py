# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why a command failed, as codes that programs act on. Stable: a code is never renamed."""

from enum import StrEnum
from typing import Literal

Retry = Literal["final", "retryable", "uncertain"]
"""What sending the command again (with a new id) would do.

`final`: the same answer, until somebody changes something. `retryable`: it may succeed later.
`uncertain`: the outcome is not known; ask for the state (getPhysicalDisk) before deciding.
"""

SideEffects = Literal["none", "partial", "complete"]
"""What the failed command has left changed."""


class ErrorCode(StrEnum):
    """Each has its line in docs/operating.md that says what to do."""

    # the message
    MESSAGE_TOO_LARGE = "message-too-large"
    NOT_JSON = "not-json"
    INVALID_REQUEST = "invalid-request"
    INVALID_ID = "invalid-id"
    UNSUPPORTED_PROTOCOL = "unsupported-protocol"
    UNKNOWN_COMMAND = "unknown-command"
    UNKNOWN_FIELD = "unknown-field"
    INVALID_COMMAND = "invalid-command"
    ID_CONFLICT = "id-conflict"
    DEADLINE_PASSED = "deadline-passed"
    NOT_AUTHORIZED = "not-authorized"
    UNKNOWN_REQUEST = "unknown-request"

    # the life of a command
    STALE_GENERATION = "stale-generation"
    CANCELLED = "cancelled"
    TOO_LATE = "too-late"
    CRASH_LOOP = "crash-loop"
    HOST_OVERLOADED = "host-overloaded"
    JOURNAL_UNAVAILABLE = "journal-unavailable"
    INTERNAL = "internal"

    # StorPool
    VOLUME_NOT_FOUND = "volume-not-found"
    SNAPSHOT_NOT_FOUND = "snapshot-not-found"
    TEMPLATE_NOT_FOUND = "template-not-found"
    NAME_TAKEN = "name-taken"
    VOLUME_BUSY = "volume-busy"
    ATTACHED_ELSEWHERE = "attached-elsewhere"
    INSUFFICIENT_RESOURCES = "insufficient-resources"
    CLIENT_NOT_REGISTERED = "client-not-registered"
    NO_ATTACHMENT_SLOT = "no-attachment-slot"
    STORPOOL_CLIENT_DOWN = "storpool-client-down"
    STORPOOL_UNAVAILABLE = "storpool-unavailable"
    STORPOOL_TIMEOUT = "storpool-timeout"
    STORPOOL_BAD_ANSWER = "storpool-bad-answer"
    STORPOOL_UNAUTHORIZED = "storpool-unauthorized"
    STORPOOL_REFUSED = "storpool-refused"

    STILL_EXPORTED = "still-exported"
    TAGS_NOT_SET = "tags-not-set"
    FENCE_INCOMPLETE = "fence-incomplete"
    REVERT_INCOMPLETE = "revert-incomplete"
    DELETE_INCOMPLETE = "delete-incomplete"

    # pools
    POOL_NOT_FOUND = "pool-not-found"
    POOL_CONFLICT = "pool-conflict"
    TEMPLATE_IN_USE = "template-in-use"
    SECRET_NOT_KEPT = "secret-not-kept"  # noqa: S105 - a code

    # devices
    DEVICE_TIMEOUT = "device-timeout"
    DEVICE_MISMATCH = "device-mismatch"
    DETACH_INCOMPLETE = "detach-incomplete"
    SIZE_NOT_PROPAGATED = "size-not-propagated"
    WOULD_SHRINK = "would-shrink"
    SIZE_CHANGED = "size-changed"

    # images and copies
    SECONDARY_NOT_ALLOWED = "secondary-not-allowed"
    SECONDARY_UNAVAILABLE = "secondary-unavailable"
    SECONDARY_READ_ONLY = "secondary-read-only"
    SECONDARY_FULL = "secondary-full"
    IMAGE_NOT_FOUND = "image-not-found"
    FILE_EXISTS = "file-exists"
    IMAGE_REFUSED = "image-refused"
    IMAGE_FORMAT_MISMATCH = "image-format-mismatch"
    IMAGE_TOO_LARGE = "image-too-large"
    DOWNLOAD_FAILED = "download-failed"
    SCRATCH_FULL = "scratch-full"
    CHECKSUM_MISMATCH = "checksum-mismatch"
    COPY_MISMATCH = "copy-mismatch"
    COPY_FAILED = "copy-failed"
    COPY_STALLED = "copy-stalled"
    BLOCK_JOB_FAILED = "block-job-failed"
    VOLUME_INCOMPLETE = "volume-incomplete"

    # encryption
    ENCRYPTED_UNSUPPORTED = "encrypted-unsupported"
    NOT_ENCRYPTED = "not-encrypted"
    ALREADY_ENCRYPTED = "already-encrypted"
    VOLUME_NOT_EMPTY = "volume-not-empty"
    KEY_REQUIRED = "key-required"
    KEY_NOT_FOUND = "key-not-found"
    WRONG_KEY = "wrong-key"

    # virtual machines
    VM_NOT_FOUND = "vm-not-found"
    VM_NOT_RUNNING = "vm-not-running"
    VM_BUSY = "vm-busy"
    DISK_IN_USE_BY_VM = "disk-in-use-by-vm"
    DISK_CONFLICT = "disk-conflict"
    DISK_NOT_FOUND = "disk-not-found"
    TARGET_TAKEN = "target-taken"
    NO_HOTPLUG_SLOT = "no-hotplug-slot"
    UNPLUG_PENDING = "unplug-pending"
    UNPLUG_REJECTED = "unplug-rejected"
    GUEST_NOT_NOTIFIED = "guest-not-notified"
    GUEST_AGENT_UNAVAILABLE = "guest-agent-unavailable"
    GUEST_NOT_FROZEN = "guest-not-frozen"
    FROZEN_TOO_LONG = "frozen-too-long"
    LIBVIRT_UNAVAILABLE = "libvirt-unavailable"
    LIBVIRT_TIMEOUT = "libvirt-timeout"
    LIBVIRT_REFUSED = "libvirt-refused"

    # from host to host
    MIGRATION_UNDER_WAY = "migration-under-way"
    MIGRATION_OVER = "migration-over"
    MIGRATION_COMPLETED = "migration-completed"
    MIGRATION_EXPIRED = "migration-expired"
    MIGRATION_NOT_FOUND = "migration-not-found"
    MIGRATION_UNKNOWN = "migration-unknown"
    MIGRATION_FAILED = "migration-failed"
    MIGRATION_UNSAFE = "migration-unsafe"
    CPU_INCOMPATIBLE = "cpu-incompatible"
    DESTINATION_UNREACHABLE = "destination-unreachable"


_RETRYABLE = {
    ErrorCode.CANCELLED,
    ErrorCode.HOST_OVERLOADED,
    ErrorCode.JOURNAL_UNAVAILABLE,
    ErrorCode.VOLUME_BUSY,
    ErrorCode.ATTACHED_ELSEWHERE,
    ErrorCode.INSUFFICIENT_RESOURCES,
    ErrorCode.NO_ATTACHMENT_SLOT,
    ErrorCode.STORPOOL_CLIENT_DOWN,
    ErrorCode.STORPOOL_UNAVAILABLE,
    ErrorCode.DEVICE_TIMEOUT,
    ErrorCode.DEVICE_MISMATCH,
    ErrorCode.DETACH_INCOMPLETE,
    ErrorCode.SIZE_NOT_PROPAGATED,
    ErrorCode.VM_NOT_RUNNING,
    ErrorCode.VM_BUSY,
    ErrorCode.DISK_IN_USE_BY_VM,
    ErrorCode.NO_HOTPLUG_SLOT,
    ErrorCode.UNPLUG_PENDING,
    ErrorCode.UNPLUG_REJECTED,
    ErrorCode.GUEST_NOT_NOTIFIED,
    ErrorCode.LIBVIRT_UNAVAILABLE,
    ErrorCode.LIBVIRT_REFUSED,
    ErrorCode.STILL_EXPORTED,
    ErrorCode.TAGS_NOT_SET,
    ErrorCode.FENCE_INCOMPLETE,
    ErrorCode.REVERT_INCOMPLETE,
    ErrorCode.DELETE_INCOMPLETE,
    ErrorCode.SECRET_NOT_KEPT,
    ErrorCode.SECONDARY_UNAVAILABLE,
    ErrorCode.SECONDARY_READ_ONLY,
    ErrorCode.SECONDARY_FULL,
    ErrorCode.DOWNLOAD_FAILED,
    ErrorCode.SCRATCH_FULL,
    ErrorCode.COPY_MISMATCH,
    ErrorCode.COPY_FAILED,
    ErrorCode.COPY_STALLED,
    ErrorCode.BLOCK_JOB_FAILED,
    ErrorCode.VOLUME_INCOMPLETE,
    ErrorCode.GUEST_AGENT_UNAVAILABLE,
    ErrorCode.GUEST_NOT_FROZEN,
    ErrorCode.FROZEN_TOO_LONG,
    ErrorCode.MIGRATION_UNDER_WAY,
    ErrorCode.MIGRATION_FAILED,
    ErrorCode.DESTINATION_UNREACHABLE,
}
_UNCERTAIN = {
    ErrorCode.STORPOOL_TIMEOUT,
    ErrorCode.STORPOOL_BAD_ANSWER,
    ErrorCode.LIBVIRT_TIMEOUT,
    ErrorCode.MIGRATION_UNKNOWN,
    ErrorCode.CRASH_LOOP,
    ErrorCode.INTERNAL,
}


def retry_class(code: ErrorCode) -> Retry:
    """The retry class of a code."""
    if code in _UNCERTAIN:
        return "uncertain"
    return "retryable" if code in _RETRYABLE else "final"
