# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""downloadVolume: from an image to a volume, which nobody else can use before its contents are verified."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import InvalidCommand, WouldShrink
from storpool_agent.handlers import creating, sources, temporaries
from storpool_agent.handlers.copying import API_TIMEOUT_S, Copy, Verified, closed_after
from storpool_agent.handlers.sources import Source
from storpool_agent.host import Host, Pool
from storpool_agent.journal.temporaries import USE
from storpool_agent.storpool.model import NewVolume, Volume, VolumeChange
from storpool_commands.copies import DownloadedVolume, DownloadVolume
from storpool_commands.images import ImageSource
from storpool_commands.labels import WRITING
from storpool_commands.references import Reference

KIND = "volume"


@dataclass(frozen=True)
class Filled:
    """A volume with the contents of an image."""

    volume: Volume
    verified: Verified


def download(command: DownloadVolume, host: Host, attempt: Attempt) -> DownloadedVolume:
    """Make a volume and fill it; then let others use it."""
    pool = host.pools.get(command.pool)
    copy = Copy(command, host, attempt)
    wanted = NewVolume(
        size_bytes=command.size_bytes or 0,
        template=template_of(pool, command.template),
        name=command.name,
        cluster_id=command.cluster_id or pool.cluster_id,
        tags=command.all_tags(KIND),
        iops=command.iops,
        bandwidth_kib_sec=command.bandwidth_kib_sec,
    )
    with temporaries.of(host, attempt):
        filled = fill(copy, pool, command.source, command.max_size_bytes, wanted)
        volume = release(filled.volume, pool, attempt, Deadline.after(API_TIMEOUT_S))
        attempt.stays(temporaries.VOLUME, temporaries.pair(pool.name, volume.global_id))
    return DownloadedVolume.model_validate({**creating.described(volume), **copied(filled.verified)})


def template_of(pool: Pool, template: str | None) -> str:
    """Raises InvalidCommand when there is none."""
    if template is None and pool.template is None:
        raise InvalidCommand(f"pool {pool.name} has no template; give one", pool=pool.name)
    return template or pool.template or ""


def fill(copy: Copy, pool: Pool, source: ImageSource, max_size_bytes: int | None, wanted: NewVolume) -> Filled:
    """A volume with the contents of the image. It is deleted when the job ends, unless it is said to stay."""
    attempt = copy.attempt
    done = copy.earlier_volume()
    if done is not None:
        with attempt.step("find"):
            volume = pool.storpool.volume(Reference("id", done.volume or ""), Deadline.after(API_TIMEOUT_S))
        return Filled(volume, done)
    with ExitStack() as files:
        opened = files.enter_context(sources.opened(source, max_size_bytes, copy))
        volume = create(copy, pool, replace(wanted, size_bytes=_size(opened, wanted.size_bytes)))
        attempt.turns.give_up()
        target = copy.open_device(volume, "rw", Deadline.after(API_TIMEOUT_S))
        files.enter_context(closed_after(target.descriptor))
        block_hash = copy.run(opened.image, target, opened.size_bytes, expected=source.block_hash, zeroed=True)
        opened.refuse_changed()
        done = Verified(
            volume=volume.global_id, block_hash=block_hash, virtual_size_bytes=opened.size_bytes, copies=attempt.number
        )
    detach(volume, copy)
    copy.note(done)
    return Filled(volume, done)


_OF_A_VOLUME = {
    USE,
    temporaries.VOLUME,
    temporaries.MAKING_VOLUME,
    temporaries.MAKING_SNAPSHOT,
}


def create(copy: Copy, pool: Pool, wanted: NewVolume) -> Volume:
    """A volume of this attempt's own, so that all of it reads as zeroes; what an earlier one was writing is deleted."""
    attempt, deadline = copy.attempt, Deadline.after(API_TIMEOUT_S)
    making = temporaries.pair(pool.name, attempt.request_id)
    with attempt.step("create", changes=True):
        for earlier in temporaries.in_order(attempt.temporaries.of(attempt.request_id)):
            if earlier.kind in _OF_A_VOLUME:
                temporaries.take_away(earlier, copy.host, attempt.temporaries, attempt.turns)
        attempt.making(temporaries.MAKING_VOLUME, making)
        tags = {**wanted.tags, WRITING: attempt.request_id}
        volume = pool.storpool.create_volume(replace(wanted, tags=tags), attempt.request_id, deadline)
        attempt.making(temporaries.VOLUME, temporaries.pair(pool.name, volume.global_id))
        attempt.stays(temporaries.MAKING_VOLUME, making)
    return volume


def detach(volume: Volume, copy: Copy) -> None:
    """Done with: nobody is kept from it any longer than the job needs it."""
    with copy.attempt.step("detach", always=True):
        for one in copy.attempt.temporaries.of(copy.attempt.request_id):
            if one.kind == USE and one.target == volume.global_id:
                temporaries.take_away(one, copy.host, copy.attempt.temporaries, copy.attempt.turns)
    copy.attempt.over("attach")


def release(volume: Volume, pool: Pool, attempt: Attempt, deadline: Deadline) -> Volume:
    """Take off the tag that keeps others from it. Done already is a success."""
    with attempt.step("release", changes=True, always=True) as step:
        if WRITING in volume.tags:
            pool.storpool.update_volume(volume, VolumeChange(tags={WRITING: ""}), deadline)
        else:
            step.earlier()
        return pool.storpool.volume(volume.reference, deadline)


def copied(verified: Verified) -> Mapping[str, object]:
    """As results show it."""
    return {
        "virtual_size_bytes": verified.virtual_size_bytes,
        "block_hash": verified.block_hash,
        "copies": verified.copies,
    }


def _size(source: Source, wanted_bytes: int) -> int:
    if not wanted_bytes:
        return source.volume_bytes
    if wanted_bytes < source.size_bytes:
        raise WouldShrink(
            f"{source.image.name} has a disk of {source.size_bytes} bytes, a volume of {wanted_bytes} would lack its "
            "end; ask for as much, or more",
            size_bytes=source.size_bytes,
        )
    return wanted_bytes
