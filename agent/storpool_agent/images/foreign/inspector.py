# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A child that looks into a foreign image: `inspector DESCRIPTOR FORMAT MAX_BYTES`."""

import sys
from collections.abc import Mapping

from storpool_agent.images.foreign import reply
from storpool_agent.images.foreign.file import ForeignFile
from storpool_agent.images.foreign.formats import UNPACKED_BY, recognise
from storpool_agent.images.foreign.qcow2 import MAGIC, read_header
from storpool_agent.images.foreign.reply import Progress, Refusal
from storpool_agent.images.foreign.tables import check_tables


def inspect(descriptor: int, declared: str, max_size_bytes: int) -> Mapping[str, int | str | bool]:
    """What is in it, as `delegation` passes it on. Raises Refusal."""
    file = ForeignFile.of(descriptor)
    return _qcow2(file, max_size_bytes) if declared == "qcow2" else _raw(file, max_size_bytes)


def _raw(file: ForeignFile, max_size_bytes: int) -> Mapping[str, int | str | bool]:
    if file.length > max_size_bytes:
        raise Refusal(
            "image-too-large",
            f"it has {file.length} bytes, and no more than {max_size_bytes} are allowed",
            size_bytes=file.length,
            max_size_bytes=max_size_bytes,
        )
    found = recognise(file)
    if found is not None:
        raise Refusal(
            "image-format-mismatch",
            f"it was said to be raw, and looks like {found}: {_advice(found)} or, if it is the backup of a guest's"
            " disk, which may begin as it likes, give its blockHash",
            declared="raw",
            found=found,
        )
    return {"virtual_size_bytes": file.length}


def _qcow2(file: ForeignFile, max_size_bytes: int) -> Mapping[str, int | str | bool]:
    found = recognise(file)
    if not file.head(len(MAGIC)) == MAGIC or found != "qcow2":
        raise Refusal(
            "image-format-mismatch",
            f"it was said to be qcow2, and looks like {found or 'a raw disk'}: {_advice(found)}",
            declared="qcow2",
            found=found or "raw",
        )
    header = read_header(file, max_size_bytes)
    check_tables(file, header, Progress(header.l1_entries))
    return {
        "virtual_size_bytes": header.virtual_size_bytes,
        "cluster_bytes": header.cluster_bytes,
        "version": header.version,
        "dirty": header.dirty,
        "extended_l2": header.extended_l2,
        "compression": header.compression,
    }


def _advice(found: str | None) -> str:
    if found is None or found == "qcow2":
        return f"give the format {found or 'raw'}"
    if found in UNPACKED_BY:
        return f"give the compression {UNPACKED_BY[found]}"
    return "have it converted to qcow2 or raw"


if __name__ == "__main__":
    reply.run(lambda: inspect(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
