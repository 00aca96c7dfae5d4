# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copying a disk from an image to another: by qemu-img, with direct I/O on both sides.

Flags were chosen by measuring: 4 GiB, a quarter of it data in pieces of 1 MiB, loop devices with direct I/O, QEMU 7.2,
wall time as a ratio to no flags but `-n -T none -t none`, medians of 3:

    direction        -W    -m 16  -W -m 16  -m 4  aio=native  -W and native
    file to device   0.75  0.89   0.85      0.86  0.81        0.81
    qcow2 to device  0.83  1.06   1.04      1.08  0.94        0.97
    device to device 0.98  1.17   0.88      1.03  1.03        0.95
    device to raw    0.65  0.87   0.67      0.79  1.06        0.68
    device to qcow2  0.92  1.00   0.88      1.11  1.32        1.14

So writes need not be in order (-W), except in a qcow2: they gain little there, and would scatter it for whoever reads
it later. More coroutines than the default eight only cost memory.
"""

import re
from collections.abc import Callable

from storpool_agent.errors import CopyFailed
from storpool_agent.images import blame, nodes
from storpool_agent.images.child import Command, ToolFailed, run
from storpool_agent.images.flushing import SHORT_S, flush
from storpool_agent.images.launch import Limits
from storpool_agent.images.model import Image, Task
from storpool_agent.images.sizes import room, virtual_size

LIMITS = Limits(address_space_bytes=8 << 30)
"""Touched are some 40 MiB: of a qcow2's tables at most 32 MiB are cached, whatever its size. But up to 64 threads
reserve 8 MiB of stack and, on a host with many cores, 64 MiB of heap each: 5 GiB in all. A thread that gets no stack is
an abort of qemu-img's."""

_PROGRESS = re.compile(r"\((\d+(?:\.\d+)?)/100%\)")
_HARMLESS = re.compile(r"qemu-img: warning: [^;]*(; |$)")


def convert(source: Image, target: Image, task: Task, *, zeroed: bool = False, compress: bool = False) -> None:
    """See Images.convert.

    A bandwidth is kept by QEMU's throttling filter on the target, which counts what is written: also the zeroes that a
    device gets which is not `zeroed`. (`qemu-img -r` counts all zeroes there are, on a thin disk many times too much.)
    """
    size_bytes = virtual_size(source, task)
    if target.device:
        _large_enough(source, target, size_bytes, task)
    command = _command(source, target, task, zeroed=zeroed or not target.device, compress=compress)
    try:
        if not target.device:
            _create(target, size_bytes, task, compress=compress)
        _copy(command, size_bytes, task)
        flush(target, task)
    except ToolFailed as failed:
        raise blame.of_copying(failed, source, target) from failed
    task.report(size_bytes, size_bytes)


def create(image: Image, size_bytes: int, task: Task) -> None:
    """See Images.create."""
    try:
        _create(image, size_bytes, task, compress=False)
        flush(image, task)
    except ToolFailed as failed:
        raise blame.of_making(failed, image) from failed


def _large_enough(source: Image, target: Image, size_bytes: int, task: Task) -> None:
    room_bytes = room(target, task)
    if room_bytes < size_bytes:
        raise CopyFailed(
            f"the disk in {source.name} has {size_bytes} bytes, {target.name} only {room_bytes}; nothing was written",
            device=target.name,
            size_bytes=size_bytes,
            room_bytes=room_bytes,
        )


def _create(target: Image, size_bytes: int, task: Task, *, compress: bool) -> None:
    """The default cluster of 64 KiB: what is allocated follows the data closely. No lazy refcounts: they would save
    nothing where caches are written back, and an interrupted copy is never used."""
    options = ["extent_size_hint=0"] if target.format == "raw" else ["compat=1.1", "lazy_refcounts=off"]
    if compress:
        options.append("compression_type=zstd")
    argv = ("qemu-img", "create", "-q", "-f", target.format, "-o", ",".join(options))
    run(
        Command(
            (*argv, f"file:{nodes.path(target)}", str(size_bytes)),
            f"making {target.name}",
            files={target.descriptor: target.name},
            limits=LIMITS,
            timeout_s=SHORT_S,
        ),
        task,
    )


def _command(source: Image, target: Image, task: Task, *, zeroed: bool, compress: bool) -> Command:
    limited = task.bandwidth_bytes_s is not None
    throttle = f"throttle-group,id={nodes.THROTTLE_GROUP},x-bps-write={task.bandwidth_bytes_s}"
    argv = (
        *("qemu-img", "convert", "-p", "-n", *nodes.objects(source, target)),
        *("-T", nodes.cache(source, writing=False), "-t", nodes.cache(target, writing=True)),
        *(("-W",) if target.format == "raw" else ()),
        *(("-c",) if compress else ()),
        *(("--target-is-zero",) if zeroed else ()),
        *(("--object", throttle) if limited else ()),
        *("--target-image-opts", nodes.source(source), nodes.target(target, limited=limited)),
    )
    files = {**nodes.files(source), **nodes.files(target)}
    return Command(argv, f"copying {source.name} to {target.name}", files=files, limits=LIMITS)


def _copy(command: Command, size_bytes: int, task: Task) -> None:
    """qemu-img reports success, too, when writing a qcow2's last tables failed as it closed it: it says so, no more
    (block/qcow2.c, qcow2_inactivate). So what it says counts as well."""
    said = _HARMLESS.sub("", run(command, task, _reporter(size_bytes, task.report)))
    if said:
        raise ToolFailed(f"{command.subject}: {command.tool} did not complete it: {said}", 0, said, command.tool)


def _reporter(size_bytes: int, report: Callable[[int, int | None], None]) -> Callable[[str], None]:
    """Lines like `    (12.34/100%)`; that it is all copied is reported when it is flushed, too."""

    def hear(line: str) -> None:
        found = _PROGRESS.search(line)
        if found:
            report(min(int(size_bytes * float(found[1]) / 100), size_bytes), size_bytes)

    return hear
