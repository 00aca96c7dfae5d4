# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a copy job makes for as long as it runs: each written down before it is made, and taken away in the end.

The journal's list is the only one: what a job has made is taken away from it when the job ends, whichever way, and by
a later run of the agent when this one dies. Nothing is taken from under somebody else: an attachment is given up by the
last job that uses it, unless a command or a machine has it by then.
"""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog

from storpool_agent.attempt import Attempt, Rows, Turns
from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.errors import AgentError, DiskInUseByVm
from storpool_agent.handlers import connecting
from storpool_agent.host import Host
from storpool_agent.interrupt import AgentStopping
from storpool_agent.journal.temporaries import ATTACHMENT, USE, Temporary
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import Mode

log = structlog.get_logger()

STORE = "store"
PART = "part"
FILE = "file"
TEXT = "text"
MIRROR = "mirror"
MOVING = "moving"
"""What a machine's disk was mirrored to, from the moment on when the machine may be using it: see `moving`."""
MAKING_VOLUME = "making-volume"
VOLUME = "volume"
MAKING_SNAPSHOT = "making-snapshot"
SNAPSHOT = "snapshot"

TEXT_BYTES = 1 << 16

T = TypeVar("T")

AWAY_TIMEOUT_S = 60.0
"""For taking one thing away."""


def pair(first: str, second: str) -> str:
    """A target that is named by two words."""
    return json.dumps([first, second])


def file_of(store: str, path: str, descriptor: int) -> str:
    """The target of a FILE: by its inode, so that another's file of that name is never taken for it."""
    return json.dumps([store, path, os.fstat(descriptor).st_ino])


def text_of(store: str, path: str, text: str) -> str:
    """The target of a TEXT, a small file of at most TEXT_BYTES."""
    return json.dumps([store, path, _digest(text.encode())])


def moving(vm: str, old_path: str, new_path: str, made: tuple[str, str]) -> str:
    """The target of a MOVING. `made` is the row of the volume or file that the machine is to use instead."""
    return json.dumps([vm, old_path, new_path, *made])


@contextmanager
def of(host: Host, attempt: Attempt) -> Generator[None]:
    """Take away in the end what the job has made and not said to keep; what cannot be stays on the list, for later.

    When the agent stops nothing is taken away: the next start goes on with the job.
    """
    try:
        yield
    except AgentStopping:
        raise
    except BaseException:
        take_all_away(host, attempt)
        raise
    for one in in_order(attempt.temporaries.of(attempt.request_id)):
        if _taken_away(one, host, attempt.temporaries, attempt.turns):
            attempt.over(*_steps(one))


def take_all_away(host: Host, attempt: Attempt) -> None:
    """For a job that has failed, or is not run again: what its steps did is undone."""
    for one in attempt.temporaries.of(attempt.request_id):
        if one.kind == MOVING:
            with attempt.undo(*_steps(one)):
                take_away(one, host, attempt.temporaries, attempt.turns)
    for one in in_order(attempt.temporaries.of(attempt.request_id)):
        if one.kind == MOVING:
            continue
        with attempt.undo(*_steps(one)):
            take_away(one, host, attempt.temporaries, attempt.turns)


_STEPS: Mapping[str, tuple[str, ...]] = {
    USE: ("attach",),
    ATTACHMENT: ("attach",),
    PART: ("begin",),
    FILE: ("begin", "publish"),
    TEXT: ("properties",),
    MAKING_VOLUME: ("create",),
    VOLUME: ("create", "release"),
    MAKING_SNAPSHOT: ("snapshot",),
    MIRROR: ("copy",),
    MOVING: ("copy", "pivot"),
}
"""The steps that make or change them, where that is not the one that is called the same."""


def _steps(one: Temporary) -> tuple[str, ...]:
    return _STEPS.get(one.kind, (one.kind,))


def _taken_away(one: Temporary, host: Host, rows: Rows, turns: Turns) -> bool:
    """For a job that has done what it was to do: that is not undone by what is left over."""
    try:
        take_away(one, host, rows, turns)
    except AgentError as error:
        log.warning("leftover kept", kind=one.kind, target=one.target, owner=one.command, reason=str(error))
        return False
    return True


def take_away(one: Temporary, host: Host, rows: Rows, turns: Turns) -> None:
    """Take one thing away, and strike it out. Raises AgentError: it is still on the list then."""
    if one.kind == MOVING:
        _settle_move(one, host, rows)
    elif one.kind in (USE, ATTACHMENT):
        _give_up_attachment(one, host, rows, turns)
    else:
        _AWAY[one.kind](one, host)
    rows.strike(one)


def _give_up_attachment(one: Temporary, host: Host, rows: Rows, turns: Turns) -> None:
    """Detach what jobs attached once the last of them is done with it."""
    global_id = one.target
    with turns.again(global_id, None):
        others = [user for user in rows.with_target(USE, global_id) if user.command != one.command]
        attachments = rows.with_target(ATTACHMENT, global_id)
        if others or not attachments:
            _hand_over(one, others, rows)
            return
        _detach(global_id, host)
        for attachment in attachments:
            rows.strike(attachment)


def _hand_over(one: Temporary, others: Sequence[Temporary], rows: Rows) -> None:
    """Whoever still uses it detaches it."""
    if one.kind == ATTACHMENT and others and one in rows.of(one.command):
        rows.change(add=[Temporary(others[0].command, ATTACHMENT, one.target)], strike=[one])
    else:
        rows.strike(one)


def _detach(global_id: str, host: Host) -> None:
    """Unless a machine has it: then it is the machine's. Raises VolumeBusy when somebody has it open."""
    deadline = Deadline.after(AWAY_TIMEOUT_S)
    volume = Volume(global_id, f"~{global_id}", 0, snapshot=False)
    mine = connecting.mine_of(connecting.attachments_of(volume, host.storpool.attachments(deadline)), host)
    if mine is None:
        return
    volume = Volume(global_id, volume.name, 0, snapshot=mine.snapshot)
    if any(disk.live for disk in connecting.machines_with(volume, host, deadline)):
        log.info("attachment left to a machine", volume=global_id)
        return
    device = connecting.device_of(volume, host)
    if device is not None:
        connecting.refuse_holders(volume, device, host)
    host.storpool.detach(volume, deadline)
    connecting.wait_gone(volume, device, host, deadline, force=False)


def _settle_move(one: Temporary, host: Host, rows: Rows) -> None:
    """What a machine was about to use is only taken away when the machine certainly does not.

    That is when it runs with its old disk, and the mirror has been ended. Then the row of what was made is back; else
    what was made stays, for it may have all that was written since. Raises DiskInUseByVm when it stays.
    """
    vm, old_path, new_path, *made = json.loads(one.target)
    deadline = Deadline.after(AWAY_TIMEOUT_S)
    try:
        host.domains.end_mirror(vm, new_path, deadline)
    except DiskInUseByVm:
        rows.strike(one)
        raise
    unmoved = any(disk.live and disk.domain.uuid == vm for disk in host.domains.having([old_path], deadline))
    if not unmoved or host.domains.having([new_path], deadline):
        rows.strike(one)
        raise DiskInUseByVm(f"the machine {vm} may have moved to {new_path}: it stays, look at it", vm=vm)
    rows.change(add=[Temporary(one.command, *made)], strike=[one])


def _release_store(one: Temporary, host: Host) -> None:
    host.secondary.release(one.target, one.command)


def _discard_part(one: Temporary, host: Host) -> None:
    store, path = json.loads(one.target)
    with _acquired(store, one, host):
        host.secondary.discard_part(store, path, one.command)


def _remove_file(one: Temporary, host: Host) -> None:
    """Unless there is another file of that name: it is somebody else's."""
    store, path, inode = json.loads(one.target)
    with _acquired(store, one, host):
        if inode_of(store, path, host) == inode:
            host.secondary.remove(store, path)


def _remove_text(one: Temporary, host: Host) -> None:
    """As `_remove_file`, of one that is known by what is in it."""
    store, path, digest = json.loads(one.target)
    with _acquired(store, one, host):
        if _look(store, path, host, lambda file: _digest(os.pread(file, TEXT_BYTES, 0))) == digest:
            host.secondary.remove(store, path)


def inode_of(store: str, path: str, host: Host) -> int | None:
    """None when there is no such file. The store has been acquired."""
    return _look(store, path, host, lambda file: os.fstat(file).st_ino)


def _look(store: str, path: str, host: Host, look: Callable[[int], T]) -> T | None:
    if not host.secondary.exists(store, path):
        return None
    descriptor = host.secondary.open_image(store, path)
    try:
        return look(descriptor)
    finally:
        os.close(descriptor)


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


@contextmanager
def _acquired(store: str, one: Temporary, host: Host) -> Generator[None]:
    """For this alone: the job has it, or has released it, or was another run's."""
    owner = f"{one.command}-{one.kind}"
    host.secondary.acquire(store, owner)
    try:
        yield
    finally:
        host.secondary.release(store, owner)


def _end_mirror(one: Temporary, host: Host) -> None:
    vm, path = json.loads(one.target)
    host.domains.end_mirror(vm, path, Deadline.after(AWAY_TIMEOUT_S))


def _delete(one: Temporary, host: Host) -> None:
    pool, global_id = json.loads(one.target)
    gone = Volume(global_id, f"~{global_id}", 0, snapshot=one.kind == SNAPSHOT)
    host.pools.get(pool or None).storpool.delete_volume(gone, Deadline.after(AWAY_TIMEOUT_S))


def _delete_made(one: Temporary, host: Host) -> None:
    """It may have been made, and the answer lost: then it carries the operation's tag."""
    pool, operation = json.loads(one.target)
    deadline = Deadline.after(AWAY_TIMEOUT_S)
    storpool = host.pools.get(pool or None).storpool
    look = storpool.snapshots_made_by if one.kind == MAKING_SNAPSHOT else storpool.volumes_made_by
    for volume in look(operation, deadline):
        storpool.delete_volume(volume, deadline)


_ORDER = (
    MOVING,
    MIRROR,
    USE,
    ATTACHMENT,
    TEXT,
    PART,
    FILE,
    MAKING_VOLUME,
    VOLUME,
    MAKING_SNAPSHOT,
    SNAPSHOT,
    STORE,
)


def in_order(some: Sequence[Temporary]) -> list[Temporary]:
    """What uses another thing goes before it, whenever it was written down.

    A file that was just given its name may still have its other one (PART): with both it is not taken for an image.
    """
    return sorted(some, key=lambda one: _ORDER.index(one.kind))


_AWAY: Mapping[str, Callable[[Temporary, Host], None]] = {
    STORE: _release_store,
    PART: _discard_part,
    FILE: _remove_file,
    TEXT: _remove_text,
    MIRROR: _end_mirror,
    VOLUME: _delete,
    SNAPSHOT: _delete,
    MAKING_VOLUME: _delete_made,
    MAKING_SNAPSHOT: _delete_made,
}


def attach(volume: Volume, mode: Mode, host: Host, attempt: Attempt, deadline: Deadline) -> Device:
    """Have a volume or snapshot attached to this host as long as the job uses it."""
    with attempt.turns.again(volume.global_id, attempt.interrupt), attempt.step("attach", changes=True) as step:
        connecting.refuse_migrating(attempt, [volume])
        attempt.making(USE, volume.global_id)
        attachments = connecting.attachments_of(volume, host.storpool.attachments(deadline))
        wish = connecting.Wish(mode, "copy")
        connecting.refuse_other_writers(volume, wish, host, attachments)
        mine = connecting.mine_of(attachments, host)
        if mine is None:
            attempt.making(ATTACHMENT, volume.global_id)
            connecting.attach(volume, wish, host, deadline)
            again = connecting.attachments_of(volume, host.storpool.attachments(deadline))
            connecting.refuse_other_writers(volume, wish, host, again)
        else:
            connecting.refuse_mode(volume, mine, mode)
            step.already()
        return host.devices.wait_ready(volume.global_id, volume.size_bytes, mode, deadline)
