# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The story: two volumes and a machine, from the first create to the last delete."""

from pathlib import Path
from time import monotonic
from typing import Any, TypeVar
from uuid import UUID, uuid4

from rich.console import Console

from demo import witnesses
from demo.interrupts import Interrupts
from demo.report import Rows
from demo.stage import Stage
from demo.witnesses import SERIAL_SHOWN
from guest import Disk, Guest, pattern_checksum
from storpool_commands.disks import (
    AttachDisk,
    ConnectPhysicalDisk,
    DetachDisk,
    DisconnectPhysicalDisk,
    StorpoolResize,
)
from storpool_commands.volumes import CreateVolume, DeleteVolume
from storpool_commands.wire import CommandModel

R = TypeVar("R")

MIB = 1 << 20
ROOT_MIB, DATA_MIB, GROWN_MIB = 32, 64, 96
RANGE = (10, 4)
"""Offset and length, in MiB, of what the guest writes."""
PATTERN = (*RANGE, "storpool-demo")
"""With the seed."""


class Story:
    """Each command is a message to the agent; each row is what three witnesses said after its reply."""

    def __init__(self, stage: Stage, rows: Rows) -> None:
        self.stack = stage.stack
        self.rows = rows
        self.guest: Guest | None = None
        self.without_guest = "not started"

    def command(self, command: CommandModel[R], subject: str, request_id: UUID | None = None) -> R:
        """Send it and wait for the reply; the row comes with `told`."""
        began = monotonic()
        result = self.stack.call(command, request_id=request_id)
        self.took_ms = (monotonic() - began) * 1000
        self._said = f"{type(command).model_fields['command'].default} [dim]{subject}[/]"
        return result

    def told(self, global_id: str) -> None:
        guest = f"[dim]{self.without_guest}[/]" if self.guest is None else witnesses.guest_says(self.guest, global_id)
        self.rows.add(
            self._said,
            witnesses.storpool_says(self.stack, global_id),
            witnesses.host_says(self.stack, global_id),
            guest,
            self.took_ms,
        )

    def create(self, size_mib: int, subject: str) -> str:
        made = self.command(CreateVolume(size_bytes=size_mib * MIB, template="dev"), subject)
        self.told(made.global_id)
        return made.global_id

    def delete(self, global_id: str, subject: str) -> None:
        self.command(DeleteVolume(volume=f"~{global_id}"), subject)
        self.told(global_id)


def tell(stage: Stage, console: Console, interrupts: Interrupts) -> None:
    """May be interrupted at any moment but while the machine is being made or ended."""
    rows = Rows(console)
    story = Story(stage, rows)
    with interrupts.allowed():
        rows.begin()
        root = story.create(ROOT_MIB, "root")
        connected = story.command(ConnectPhysicalDisk(volume=f"~{root}"), "root")
        story.told(root)
    began = monotonic()
    with Guest([Disk(Path(connected.path), "vda", serial=root)], root="vda") as guest, interrupts.allowed():
        story.guest = guest
        rows.event("the guest boots from it", f"mounted, boot number {guest.boots()}", _since_ms(began))
        _data_disk(story, guest)
    story.guest, story.without_guest = None, "ended"
    with interrupts.allowed():
        story.command(DisconnectPhysicalDisk(volume=f"~{root}"), "root")
        story.told(root)
        story.delete(root, "root")
        rows.end()


def _data_disk(story: Story, guest: Guest) -> None:
    """What a running machine's disk goes through."""
    data = story.create(DATA_MIB, "data")
    name = _plug(story, guest, data)
    began = monotonic()
    guest.write(name, *PATTERN)
    written = guest.checksum(name, *RANGE)
    _require(written == pattern_checksum(*PATTERN), "the guest read something else than it wrote")
    story.rows.event(f"the guest writes {PATTERN[1]} MiB", f"sha256 {written[:12]}", _since_ms(began))
    _grow(story, guest, data, name)
    _unplug(story, guest, data)
    name = _plug(story, guest, data)
    began = monotonic()
    read = guest.checksum(name, *RANGE)
    _require(read == written, f"the guest wrote {written} and read {read}")
    story.rows.event("the guest reads it back", f"sha256 {read[:12]} [green]the same[/]", _since_ms(began))
    _unplug(story, guest, data)
    story.delete(data, "data")


def _grow(story: Story, guest: Guest, global_id: str, name: str) -> None:
    """Live; and then again with the same id, as a sender does that has missed the reply."""
    command, request_id = StorpoolResize(volume=f"~{global_id}", new_size_bytes=GROWN_MIB * MIB), uuid4()
    done = story.command(command, f"to {GROWN_MIB} MiB, live", request_id)
    guest.wait_for_size(name, GROWN_MIB * MIB)
    story.told(global_id)
    repeated = story.command(command, "same id again", request_id)
    _require(repeated == done, "the same id got another reply")
    story.told(global_id)


def _plug(story: Story, guest: Guest, global_id: str) -> str:
    """The guest's name for the disk."""
    story.command(AttachDisk(vm=guest.uuid, volume=f"~{global_id}"), "data")
    name = guest.wait_for_disk(global_id[:SERIAL_SHOWN]).name
    story.told(global_id)
    return name


def _unplug(story: Story, guest: Guest, global_id: str) -> None:
    story.command(DetachDisk(vm=guest.uuid, volume=f"~{global_id}"), "data")
    guest.wait_until_gone(global_id[:SERIAL_SHOWN])
    story.told(global_id)


def _require(held: Any, otherwise: str) -> None:
    if not held:
        raise AssertionError(otherwise)


def _since_ms(began: float) -> float:
    return (monotonic() - began) * 1000
