# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One example of every copy job, and of its result, each field set."""

from typing import Any

from storpool_commands.copies import (
    BackedUpSnapshot,
    BackupSnapshot,
    CopiedVolume,
    CopyVolumeToSecondary,
    CreateTemplateFromSnapshot,
    CreateTemplateFromVolume,
    DownloadedTemplate,
    DownloadedVolume,
    DownloadTemplate,
    DownloadVolume,
    MigratedVolume,
    MigrateVolume,
    StoredCopy,
    TemplateFromSnapshot,
    TemplateFromVolume,
)
from storpool_commands.encrypting import EncryptedVolume, EncryptVolume
from storpool_commands.encryption import Key
from storpool_commands.images import ImageSource, StoredImage
from storpool_commands.wire import AnswerModel, CommandModel
from unit.commands.storage_samples import LABELS, MADE, NEW

BLOCK_HASH = f"sha256-1m:{'0a' * 32}"
FILE = StoredImage(store="nfs://10.0.0.1/export/secondary", path="template/tmpl/2/201/image.qcow2")
STORED = ImageSource(
    store="file:///srv/secondary",
    path="snapshots/2/7/disk.raw.xz",
    format="raw",
    compression="xz",
    checksum=f"sha256:{'0' * 64}",
    block_hash=BLOCK_HASH,
)
DOWNLOAD = ImageSource(url="http://[2001:db8::1]:8080/a/b.qcow2?c=%20", format="qcow2", checksum=f"md5:{'f' * 32}")
HOW: dict[str, Any] = {
    "pool": "fast",
    "bandwidth_bytes_s": 100 << 20,
    "io_priority": "idle",
    "stall_timeout_s": 30,
}
TO_FILE: dict[str, Any] = {**HOW, "target": FILE, "format": "qcow2", "compress": True}
TEMPLATE: dict[str, Any] = {
    **HOW,
    **LABELS,
    "target": FILE,
    "backup": True,
    "compress": True,
    "name": "debian-12",
    "unique_name": "201-2-0c9a3c1e",
}
COPIED: dict[str, Any] = {"virtual_size_bytes": 512, "block_hash": BLOCK_HASH, "copies": 2}
STORED_COPY: dict[str, Any] = {
    **COPIED,
    "store": FILE.store,
    "path": FILE.path,
    "format": "qcow2",
    "file_size_bytes": 196616,
}
MADE_TEMPLATE: dict[str, Any] = {
    "global_id": "a.b.d",
    "name": "debian-12",
    "path": "/dev/storpool-byid/a.b.d",
    "size_bytes": 512,
    "tags": {"cs": "template"},
}

COMMAND_SAMPLES: tuple[CommandModel[Any], ...] = (
    DownloadTemplate(
        **{**HOW, **LABELS}, source=DOWNLOAD, template="hybrid", name="t", cluster_id="a.b", max_size_bytes=2**40
    ),
    BackupSnapshot(snapshot="~a.b.d", **TO_FILE),
    CreateTemplateFromVolume(volume="~a.b.c", **TEMPLATE),
    CreateTemplateFromSnapshot(source=STORED, template="hybrid", **TEMPLATE),
    CopyVolumeToSecondary(volume="~a.b.c", **TO_FILE),
    DownloadVolume(**{**HOW, **NEW}, source=STORED, size_bytes=2**40, max_size_bytes=2**40),
    MigrateVolume(
        **HOW,
        source=FILE,
        source_format="qcow2",
        to_pool="slow",
        template="hybrid",
        name="disk-1",
        vm="vm-1",
        delete_source=True,
        generation=7,
    ),
    EncryptVolume(**HOW, volume="~a.b.c", key=Key(file="disk-1.key"), source_snapshot="~a.b.d", generation=7),
)

RESULT_SAMPLES: tuple[AnswerModel, ...] = (
    DownloadedTemplate(template="hybrid", **MADE_TEMPLATE, **COPIED),
    BackedUpSnapshot(snapshot="a.b.d", **STORED_COPY),
    TemplateFromVolume(volume="a.b.c", file=StoredCopy(**STORED_COPY), **MADE_TEMPLATE),
    TemplateFromSnapshot(snapshot=None, file=None, **MADE_TEMPLATE),
    CopiedVolume(volume="a.b.c", **STORED_COPY),
    DownloadedVolume(**MADE, **COPIED),
    MigratedVolume(
        method="live",
        volume="a.b.e",
        path="/dev/storpool-byid/a.b.e",
        size_bytes=512,
        source_deleted=True,
        virtual_size_bytes=512,
        block_hash=None,
        copies=1,
    ),
    EncryptedVolume(
        global_id="a.b.c",
        size_bytes=2**22,
        payload_size_bytes=2**22 - 2_068_480,
        luks_uuid="cb6185bf-3b51-4be4-aefa-d90fecc7c5d2",
        cipher="aes-xts-plain64",
        snapshot="a.b.d",
        block_hash=BLOCK_HASH,
        copies=1,
    ),
)
