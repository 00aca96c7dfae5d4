# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who has a device open."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from device_root import DeviceRoot, run
from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.devices.tree import DeviceTree

GID = "d.n.a1"
MIB = 1 << 20
OPEN = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def device(tree: DeviceTree, root: DeviceRoot) -> Device:
    root.attached(GID, 64 * MIB)
    return tree.wait_ready(GID, 64 * MIB, "rw", Deadline.after(10))


@contextmanager
def opened_by(device: Device, *arguments: str) -> Iterator[int]:
    command = [sys.executable, "-c", OPEN, device.node, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def test_a_process_is_named_with_its_pid(tree: DeviceTree, device: Device) -> None:
    with opened_by(device) as pid:
        (holder,) = tree.holders(device)
    assert (holder.kind, holder.pid) == ("process", pid)
    assert holder.name.startswith("python")
    assert list(tree.holders(device)) == []


def test_a_virtual_machine_is_named_as_libvirt_names_it(tree: DeviceTree, device: Device) -> None:
    with opened_by(device, "-name", "guest=web,,1,debug-threads=on") as pid:
        (holder,) = tree.holders(device)
    assert (holder.kind, holder.name, holder.pid) == ("vm", "web,1", pid)


def test_a_mount_is_named_by_its_place(tree: DeviceTree, device: Device, root: DeviceRoot) -> None:
    place = root.scratch / "mounted"
    place.mkdir()
    run("mkfs.ext2", "-q", device.node)
    run("mount", device.node, place)
    try:
        holders = tree.holders(device)
    finally:
        run("umount", place)
    assert [(holder.kind, holder.name) for holder in holders if holder.pid is None] == [("mount", str(place))]


def test_a_mount_that_only_another_process_sees_is_named(tree: DeviceTree, device: Device, root: DeviceRoot) -> None:
    """A daemon that started while a file system was mounted keeps its own copy of the mount."""
    run("mkfs.ext2", "-q", device.node)
    script = 'mount "$0" "$1" && echo mounted && read end'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, device.node, str(root.scratch)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mounted\n"
        (holder,) = tree.holders(device)
    assert (holder.kind, holder.name, holder.pid) == ("mount", str(root.scratch), process.pid)


def test_this_agent_is_named_when_it_keeps_the_device_open(tree: DeviceTree, device: Device) -> None:
    opened = os.open(device.node, os.O_RDONLY)
    try:
        (holder,) = tree.holders(device)
    finally:
        os.close(opened)
    assert holder.pid == os.getpid()
