# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Create, connect, grow, disconnect, delete: what every host does all day."""

import os
import stat
from pathlib import Path

import pytest

from agent_process import Stack
from storpool_commands.client import CommandFailed
from storpool_commands.control import Ping
from storpool_commands.disks import (
    ConnectPhysicalDisk,
    DisconnectPhysicalDisk,
    DisconnectPhysicalDiskByPath,
    GetPhysicalDisk,
    StorpoolResize,
)
from storpool_commands.errors import ErrorCode
from storpool_commands.volumes import CreateVolume, DeleteVolume

MIB = 1 << 20


def test_a_volume_lives_from_create_to_delete(stack: Stack) -> None:
    made = stack.call(CreateVolume(size_bytes=64 * MIB, template="dev", tags={"cs": "volume"}))
    assert made.tags["cs"] == "volume"
    connected = stack.call(ConnectPhysicalDisk(volume=made.path))
    assert connected.attached_now
    assert stat.S_ISBLK(Path(connected.path).stat().st_mode)
    assert connected.size_bytes == 64 * MIB
    assert not stack.call(ConnectPhysicalDisk(volume=made.path)).attached_now
    resized = stack.call(StorpoolResize(volume=made.path, new_size_bytes=96 * MIB))
    assert (resized.previous_size_bytes, resized.device_size_bytes) == (64 * MIB, 96 * MIB)
    assert stack.call(DisconnectPhysicalDiskByPath(path=made.path)).detached_now
    assert not stack.call(DisconnectPhysicalDiskByPath(path=made.path)).detached_now
    assert not os.path.lexists(connected.path)
    assert stack.call(DeleteVolume(volume=made.path)).deleted_now
    assert not stack.call(DeleteVolume(volume=made.path)).deleted_now


def test_an_open_device_is_not_detached_and_its_holder_is_named(stack: Stack) -> None:
    volume = stack.create()
    path = stack.call(ConnectPhysicalDisk(volume=volume)).path
    with Path(path).open("rb"), pytest.raises(CommandFailed) as failure:
        stack.call(DisconnectPhysicalDisk(volume=volume))
    assert failure.value.code is ErrorCode.VOLUME_BUSY
    assert f"pid {os.getpid()}" in str(failure.value.facts["holders"])
    assert failure.value.side_effects == "none"
    assert stack.attachments(volume) == [(1, "rw")]
    assert stack.call(DisconnectPhysicalDisk(volume=volume)).detached_now


def test_both_spellings_of_a_volume_are_one(stack: Stack) -> None:
    made = stack.call(CreateVolume(size_bytes=MIB, template="dev", name="vm-1"))
    by_name = stack.call(ConnectPhysicalDisk(volume="/dev/storpool/vm-1"))
    by_id = stack.call(ConnectPhysicalDisk(volume=f"~{made.global_id}"))
    assert (by_name.path, by_name.attached_now) == (by_id.path, True)
    assert not by_id.attached_now


def test_a_look_changes_nothing(stack: Stack) -> None:
    volume = stack.create()
    seen = stack.call(GetPhysicalDisk(volume=volume))
    assert (seen.path, seen.attached_here, seen.attachments) == (None, None, [])
    assert stack.attachments(volume) == []


def test_an_older_generation_is_refused_without_effect(stack: Stack) -> None:
    volume = stack.create()
    stack.call(ConnectPhysicalDisk(volume=volume, generation=6))
    with pytest.raises(CommandFailed) as failure:
        stack.call(DisconnectPhysicalDisk(volume=volume, generation=5))
    assert (failure.value.code, failure.value.side_effects) == (ErrorCode.STALE_GENERATION, "none")
    assert stack.attachments(volume) == [(1, "rw")]


def test_a_ping_takes_the_whole_durable_way(stack: Stack) -> None:
    assert stack.call(Ping()).host == stack.host
