# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A foreign image is looked into before anything else reads it: first by our own parser, which opens nothing, then by
qemu-img, which has to see the same."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from storpool_agent.errors import ImageRefused
from storpool_agent.images import child, nodes
from storpool_agent.images.child import Command, ToolFailed
from storpool_agent.images.delegation import ADDRESS_SPACE_BYTES, Work, delegate
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Image, Look, Task

CPU_S = 60
CPU_S_PER_TIB = 20
"""The tables of 1 TiB in clusters of 64 KiB are 128 MiB, and take 2 to 6 s to be looked through."""
MAX_INFO_BYTES = 1 << 20


def inspect(image: Image, task: Task, *, max_size_bytes: int) -> Look:
    """As Images.inspect says."""
    number = image.descriptor
    limits = Limits(address_space_bytes=ADDRESS_SPACE_BYTES, cpu_s=CPU_S + CPU_S_PER_TIB * (max_size_bytes >> 40))
    found = delegate(
        Work(
            worker="inspector",
            arguments=(str(number), image.format, str(max_size_bytes)),
            subject=image.name,
            files={number: image.name},
            limits=limits,
        ),
        task,
        _no_report,
    )
    if image.format == "qcow2":
        _compare(image, found, _info(image, task))
    return Look(virtual_size_bytes=found["virtual_size_bytes"])


def _no_report(done: int, total: int | None) -> None:
    """Tables are looked through, and no part of the disk is copied by that."""


def _info(image: Image, task: Task) -> Mapping[str, Any]:
    """What qemu-img says, also while somebody writes to it. Raises ImageRefused when it does not take the image."""
    try:
        said = child.output(
            Command(
                ("qemu-img", "info", "--force-share", "--output=json", nodes.source(image)),
                image.name,
                {image.descriptor: image.name},
                Limits(address_space_bytes=ADDRESS_SPACE_BYTES, cpu_s=CPU_S),
            ),
            replace(task, report=_no_report),
            max_bytes=MAX_INFO_BYTES,
        )
        return dict(json.loads(said))
    except ToolFailed as error:
        raise ImageRefused(f"{image.name}: qemu-img does not take it: {error.said or error}") from error
    except ValueError as error:
        raise ImageRefused(f"{image.name}: what qemu-img says of it is no JSON") from error


def _compare(image: Image, found: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Two who read the same header differently: then one of them has been fooled. Raises ImageRefused."""
    specific = info.get("format-specific", {}).get("data", {})
    expected: dict[str, tuple[object, object]] = {
        "format": ("qcow2", info.get("format")),
        "size": (found["virtual_size_bytes"], info.get("virtual-size")),
        "cluster size": (found["cluster_bytes"], info.get("cluster-size")),
        "dirty flag": (found["dirty"], info.get("dirty-flag")),
        "version": ({2: "0.10", 3: "1.1"}[found["version"]], specific.get("compat")),
        "subclusters": (found["extended_l2"], specific.get("extended-l2", False)),
        "compression": (found["compression"], specific.get("compression-type")),
        "corruption": (False, specific.get("corrupt", False)),
        "encryption": (False, info.get("encrypted", False)),
        "data file": (None, specific.get("data-file")),
        "raw data file": (False, specific.get("data-file-raw", False)),
        "backing file": (None, info.get("backing-filename")),
        "full backing file": (None, info.get("full-backing-filename")),
        "snapshots": ([], info.get("snapshots", [])),
    }
    wrong = [what for what, (ours, theirs) in expected.items() if ours != theirs]
    if wrong:
        raise ImageRefused(f"{image.name}: qemu-img and its header do not say the same about its {', '.join(wrong)}")
