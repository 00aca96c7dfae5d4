# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From StorPool to files: what is there in the end is what was copied, to the byte, or nothing."""

import pytest

from block_hash_reference import block_hash
from copy_requests import Maker
from copy_scene import CONTENTS, STORE, TARGET, Scene
from storpool_agent.errors import AgentError, CopyFailed, CopyStalled, SecondaryFull
from storpool_commands.copies import BackupSnapshot, CopyVolumeToSecondary
from storpool_commands.errors import ErrorCode


def backup(scene: Scene) -> BackupSnapshot:
    return BackupSnapshot(snapshot=str(scene.volume(snapshot=True).reference), target=TARGET, format="raw")


def copy_volume(scene: Scene) -> CopyVolumeToSecondary:
    return CopyVolumeToSecondary(volume=str(scene.volume().reference), target=TARGET)


BOTH = pytest.mark.parametrize("make", [backup, copy_volume])


@BOTH
def test_the_file_has_the_contents_and_nothing_else_is_left(scene: Scene, make: Maker) -> None:
    made = scene.prepare(make).succeed()
    assert scene.at().read_bytes() == CONTENTS
    assert (made.store, made.path, made.copies) == (STORE, TARGET.path, 1)
    assert (made.virtual_size_bytes, made.file_size_bytes) == (len(CONTENTS), len(CONTENTS))
    assert made.block_hash == block_hash(CONTENTS)
    scene.at().unlink()
    assert scene.state() == scene.before


def test_what_is_written_to_the_volume_meanwhile_is_not_in_the_copy(scene: Scene) -> None:
    scene.prepare(copy_volume)
    (global_id,) = scene.fakes.storpool.volumes
    scene.meanwhile("convert", lambda: scene.write(global_id, b"later" * 100))
    scene.succeed()
    assert scene.at().read_bytes() == CONTENTS


@BOTH
def test_a_file_that_is_there_is_left_as_it_is(scene: Scene, make: Maker) -> None:
    def beside(scene: Scene) -> BackupSnapshot:
        scene.file(b"another's", TARGET)
        return make(scene)  # type: ignore[return-value]

    scene.prepare(beside).fail(ErrorCode.FILE_EXISTS)


def test_a_file_that_comes_meanwhile_is_left_as_it_is(scene: Scene) -> None:
    scene.prepare(backup)
    scene.meanwhile("convert", lambda: scene.file(b"another's", TARGET))
    assert scene.run().code == ErrorCode.FILE_EXISTS  # type: ignore[union-attr]
    assert scene.at().read_bytes() == b"another's"
    assert scene.journal.temporaries.of(str(scene.request.id)) == []


@BOTH
@pytest.mark.parametrize("call", ["convert", "block_hash"])
@pytest.mark.parametrize("error", [SecondaryFull, CopyFailed, CopyStalled])
def test_of_a_copy_that_failed_nothing_is_left(scene: Scene, make: Maker, call: str, error: type[AgentError]) -> None:
    scene.prepare(make)
    scene.fakes.images.failing[call] = error("it failed")
    scene.fail(error.code)


@BOTH
def test_a_copy_that_lost_a_byte_gets_no_name(scene: Scene, make: Maker) -> None:
    scene.prepare(make)
    scene.fakes.images.lost = True
    scene.fail(ErrorCode.COPY_MISMATCH)


@BOTH
def test_what_cannot_be_removed_from_a_lost_server_is_removed_when_it_is_back(scene: Scene, make: Maker) -> None:
    scene.prepare(make)
    scene.meanwhile("convert", lambda: scene.fakes.secondary.unavailable.add(STORE))
    scene.fail(ErrorCode.SECONDARY_UNAVAILABLE, "partial")
    assert [one.kind for one in scene.journal.temporaries.of(str(scene.request.id))] == ["file", "part"]
    scene.fakes.secondary.unavailable.clear()
    scene.sweep()
    assert scene.state() == scene.before


def test_a_server_that_takes_nothing_is_not_copied_to(scene: Scene) -> None:
    scene.prepare(backup)
    scene.fakes.secondary.full.add(STORE)
    scene.fail(ErrorCode.SECONDARY_FULL)
    assert scene.fakes.images.zeroed == []


def test_a_snapshot_that_is_not_there_is_refused_before_anything_is_made(scene: Scene) -> None:
    def nothing(_: Scene) -> BackupSnapshot:
        return BackupSnapshot(snapshot="~a.b.c", target=TARGET)

    scene.prepare(nothing).fail(ErrorCode.SNAPSHOT_NOT_FOUND)


@BOTH
def test_a_cancel_in_the_middle_leaves_nothing(scene: Scene, make: Maker) -> None:
    scene.prepare(make)
    scene.meanwhile("convert", scene.cancel)
    scene.fail(ErrorCode.CANCELLED)
