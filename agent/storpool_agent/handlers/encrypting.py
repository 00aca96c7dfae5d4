# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""encryptVolume: a LUKS header on a volume that is new, and behind it the contents of a template, if any.

How far a volume has come is said by its tag, which lasts as long as the volume does: `new` has nothing in it,
`formatting` has what an encryptVolume has put there that has not come to its end, `luks1` can be used. Nobody attaches
the first two, so that the one that is formatted over was never anybody's.
"""

from contextlib import ExitStack
from threading import Event

from pydantic import BaseModel, ConfigDict

from storpool_agent import retry
from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.encryption_errors import AlreadyEncrypted, EncryptedUnsupported, NotEncrypted, VolumeNotEmpty
from storpool_agent.errors import CopyMismatch, StorPoolBadAnswer, WouldShrink
from storpool_agent.handlers import connecting, releasing, temporaries
from storpool_agent.handlers.copying import API_TIMEOUT_S, Copy, closed_after
from storpool_agent.host import Host, Pool
from storpool_agent.images import luks
from storpool_agent.images.luks import PAYLOAD_OFFSET_BYTES, Luks
from storpool_agent.images.model import Image
from storpool_agent.storpool.model import Volume, VolumeChange
from storpool_commands.encrypting import EncryptedVolume, EncryptVolume
from storpool_commands.encryption import Key
from storpool_commands.labels import FORMATTING, LUKS, LUKS1, NEW
from storpool_commands.references import parse

FORMATTED_BY = "sp-op-luks"
"""The tag with the id of the last request that has begun to format the volume."""
ENCRYPTED = "encrypted"
"""The note that the volume is formatted and was verified."""
LOOK_BYTES = 4 << 20
"""Of both ends of a new volume: its header's place, and what tools write at the end of a disk."""


class Formatted(BaseModel):
    """What the note says."""

    model_config = ConfigDict(frozen=True)

    luks_uuid: str
    cipher: str
    payload_offset_bytes: int
    snapshot: str | None
    """The global id of the one whose contents it has."""
    block_hash: str | None
    copies: int


def encrypt(command: EncryptVolume, host: Host, attempt: Attempt) -> EncryptedVolume:
    """Mark it, format it, fill it, verify it, and only then let it be used."""
    deadline = Deadline.after(API_TIMEOUT_S)
    pool = host.pools.get(command.pool)
    copy = Copy(command, host, attempt)
    with temporaries.of(host, attempt):
        with attempt.step("find"):
            volume = pool.storpool.volume(parse(command.volume), deadline)
            attempt.fence(volume.global_id, command.generation)
            done = _earlier(volume, attempt)
            snapshot = None if done else _source(command, volume, pool, deadline)
        if done is None:
            with attempt.step("check"):
                _check(volume, host, attempt, deadline)
            done = _formatted(volume, snapshot, command.key, copy, pool)
        with attempt.step("release", changes=True, always=True) as step:
            # Attached as it is, nobody else formats it meanwhile.
            if _state(volume) == LUKS1:
                step.earlier()
            else:
                _mark(volume, LUKS1, pool, attempt)
    return EncryptedVolume(
        global_id=volume.global_id,
        size_bytes=volume.size_bytes,
        payload_size_bytes=volume.size_bytes - done.payload_offset_bytes,
        luks_uuid=done.luks_uuid,
        cipher=done.cipher,
        snapshot=done.snapshot,
        block_hash=done.block_hash,
        copies=done.copies,
    )


def _source(command: EncryptVolume, volume: Volume, pool: Pool, deadline: Deadline) -> Volume | None:
    """Raises EncryptedUnsupported, WouldShrink."""
    if command.source_snapshot is None:
        return None
    snapshot = pool.storpool.snapshot(parse(command.source_snapshot), deadline)
    if LUKS in snapshot.tags:
        raise EncryptedUnsupported(
            f"snapshot {snapshot.global_id} is of an encrypted volume: it would be encrypted twice; make a volume from "
            "it by createVolumeFromSnapshot, which is encrypted as it is",
            snapshot=snapshot.global_id,
        )
    if snapshot.size_bytes > volume.size_bytes - PAYLOAD_OFFSET_BYTES:
        raise WouldShrink(
            f"snapshot {snapshot.global_id} has {snapshot.size_bytes} bytes, volume {volume.global_id} has room for "
            f"{volume.size_bytes - PAYLOAD_OFFSET_BYTES} behind its header: the end would be lost",
            volume=volume.global_id,
            size_bytes=volume.size_bytes,
        )
    return snapshot


def _earlier(volume: Volume, attempt: Attempt) -> Formatted | None:
    """What an earlier run of this request has verified, unless another has formatted the volume since."""
    notes = attempt.notes(ENCRYPTED) if volume.tags.get(FORMATTED_BY) == attempt.request_id else []
    return next((Formatted.model_validate_json(note) for note in notes), None)


def _state(volume: Volume) -> str | None:
    return volume.tags.get(LUKS)


def _check(volume: Volume, host: Host, attempt: Attempt, deadline: Deadline) -> None:
    """Raises NotEncrypted, AlreadyEncrypted, VolumeBusy."""
    if _state(volume) is None:
        raise NotEncrypted(
            f"volume {volume.global_id} was not made with encrypted: true, and is never formatted; make another",
            volume=volume.global_id,
        )
    if _state(volume) not in (NEW, FORMATTING):
        raise AlreadyEncrypted(
            f"volume {volume.global_id} is encrypted already, and is not formatted again", volume=volume.global_id
        )
    connecting.refuse_jobs(volume, attempt)
    if volume.global_id not in {one.target for one in attempt.temporaries.of(attempt.request_id)}:
        releasing.refuse_attached(volume, releasing.clients_of([volume], host.storpool, deadline)[volume.global_id])


def _formatted(volume: Volume, snapshot: Volume | None, named: Key, copy: Copy, pool: Pool) -> Formatted:
    """The passphrase is not kept any longer than this takes."""
    host, attempt = copy.host, copy.attempt
    with ExitStack() as files:
        key = files.enter_context(luks.sealed(host.keys.passphrase(named)))
        descriptor = _opened(volume, copy)
        files.enter_context(closed_after(descriptor))
        target = Image(descriptor, "raw", host.devices.link(volume.global_id), device=True, luks=key)
        if _state(volume) == NEW:
            _refuse_data(volume, target, copy)
        with attempt.step("mark", changes=True):
            _mark(volume, FORMATTING, pool, attempt)
        source = None
        if snapshot is not None:
            source = copy.open_device(snapshot, "ro", Deadline.after(API_TIMEOUT_S))
            files.enter_context(closed_after(source.descriptor))
        attempt.turns.give_up()
        with attempt.step("format", changes=True):
            host.images.encrypt(target, copy.task("format"))
        block_hash = copy.run(source, target, snapshot.size_bytes) if source and snapshot else None
        done = _verified(volume, target, copy).model_copy(
            update={"snapshot": snapshot.global_id if snapshot else None, "block_hash": block_hash}
        )
    attempt.interrupt.check()
    attempt.note(ENCRYPTED, done.model_dump_json())
    return done


def _opened(volume: Volume, copy: Copy) -> int:
    """For this job alone. A tool of an earlier run, which ends with the agent that it was started by, is waited for: it
    would write over what is written now. Raises VolumeBusy."""
    device = temporaries.attach(volume, "rw", copy.host, copy.attempt, Deadline.after(API_TIMEOUT_S))
    with copy.attempt.step("alone"):
        patience = Deadline.after(API_TIMEOUT_S)
        retry.while_busy(Event(), patience)(connecting.refuse_holders, volume, device, copy.host)
    return copy.host.devices.open(device, "rw")


def _refuse_data(volume: Volume, target: Image, copy: Copy) -> None:
    """Raises VolumeNotEmpty: somebody has written to it past the agents."""
    with copy.attempt.step("look"):
        task = copy.task("look")
        for place in (0, max(0, volume.size_bytes - LOOK_BYTES)):
            if any(copy.host.images.read(target, place, LOOK_BYTES, task)):
                raise VolumeNotEmpty(
                    f"volume {volume.global_id} has data at byte {place} or soon after: it is not formatted. If "
                    "nobody needs that, delete the volume and make another",
                    volume=volume.global_id,
                )


def _verified(volume: Volume, target: Image, copy: Copy) -> Formatted:
    """The header as it is on the storage, opened by the key."""
    attempt, images = copy.attempt, copy.host.images
    with attempt.step("header"):
        if attempt.plans:
            return _formatted_as(Luks(PAYLOAD_OFFSET_BYTES, "", ""), attempt)
        header = luks.parse(images.read(target, 0, luks.HEADER_BYTES, copy.task("header")))
        if header is None or header.payload_offset_bytes != PAYLOAD_OFFSET_BYTES:
            raise CopyMismatch(
                f"volume {volume.global_id} does not have the LUKS header that was written to it; nobody can use it: "
                "send the command again, and if it happens again look at its storage",
                volume=volume.global_id,
            )
        images.unlock(target, copy.task("header"))
    return _formatted_as(header, attempt)


def _formatted_as(header: Luks, attempt: Attempt) -> Formatted:
    return Formatted(
        luks_uuid=header.uuid,
        cipher=header.cipher,
        payload_offset_bytes=header.payload_offset_bytes,
        snapshot=None,
        block_hash=None,
        copies=attempt.number,
    )


def _mark(volume: Volume, state: str, pool: Pool, attempt: Attempt) -> None:
    """Set the tag, and read it back: what may be formatted, and what may be used, hangs on it."""
    deadline = Deadline.after(API_TIMEOUT_S)
    tags = {LUKS: state, FORMATTED_BY: attempt.request_id}
    pool.storpool.update_volume(volume, VolumeChange(tags=tags), deadline)
    after = pool.storpool.volume(volume.reference, deadline)
    if not tags.items() <= after.tags.items():
        raise StorPoolBadAnswer(
            f"StorPool said that it has set the tag {LUKS} of volume {volume.global_id}, but it is {_state(after)}",
            volume=volume.global_id,
        )
