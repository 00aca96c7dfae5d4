# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is on a volume, written and read through the device that the agent attaches."""

from pathlib import Path

from agent_process import Stack
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk

BLOCK = 4096
PAGES = 4


def write(stack: Stack, volume: str, word: str) -> None:
    """Fill the beginning of a volume with the word."""
    path = Path(stack.call(ConnectPhysicalDisk(volume=volume)).path)
    with path.open("r+b") as device:
        device.write(_filled(word))
    stack.call(DisconnectPhysicalDisk(volume=volume))


def read(stack: Stack, *, volume: str | None = None, snapshot: str | None = None) -> str:
    """The word that fills the beginning; empty when there is none."""
    path = Path(stack.call(ConnectPhysicalDisk(volume=volume, snapshot=snapshot)).path)
    with path.open("rb") as device:
        data = device.read(PAGES * BLOCK)
    stack.call(DisconnectPhysicalDisk(volume=volume, snapshot=snapshot))
    word = data.partition(b"\n")[0].rstrip(b"\0").decode()
    assert data == (_filled(word) if word else bytes(PAGES * BLOCK)), "half of something"
    return word


def _filled(word: str) -> bytes:
    line = f"{word}\n".encode()
    return (line * (PAGES * BLOCK))[: PAGES * BLOCK]
