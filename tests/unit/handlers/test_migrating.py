# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Volumes that move: the contents are at one place in the end, and were never at none."""

from contextlib import suppress

import pytest

from block_hash_reference import block_hash
from copy_requests import SCENES, Maker
from copy_scene import CONTENTS, FILE, SIZE, TARGET, Killed, Scene
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import DiskInDomain, MirrorTarget
from storpool_agent.errors import (
    AgentError,
    BlockJobFailed,
    CopyFailed,
    CopyStalled,
    LibvirtTimeout,
    LibvirtUnavailable,
    StorPoolUnavailable,
)
from storpool_agent.interrupt import AgentStopping
from storpool_commands.catalogue import Command
from storpool_commands.copies import MigrateVolume
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.envelope import Success
from storpool_commands.errors import ErrorCode
from storpool_commands.labels import KIND, OPERATION, VM


def test_in_place_the_same_volume_is_moved_by_storpool(scene: Scene) -> None:
    (volume,) = scene.prepare(SCENES["migrateVolume, in place"]).fakes.storpool.volumes.values()
    moved = scene.succeed()
    assert (moved.method, moved.volume, moved.block_hash, moved.copies) == ("inPlace", volume.global_id, None, 0)
    assert scene.fakes.storpool.volumes[volume.global_id].template == "other"


def test_in_place_a_volume_that_is_there_already_is_a_success(scene: Scene) -> None:
    scene.prepare(lambda scene: MigrateVolume(volume=str(scene.volume().reference), template="dev")).succeed()
    assert scene.state() == scene.before


@pytest.mark.parametrize("delete", ["", ", delete"])
def test_a_new_volume_begins_as_the_old_one_is(scene: Scene, delete: str) -> None:
    (old,) = scene.prepare(SCENES[f"migrateVolume, new volume{delete}"]).fakes.storpool.volumes
    moved = scene.succeed()
    assert (moved.method, moved.source_deleted) == ("copyInStorPool", bool(delete))
    assert scene.contents(moved.volume) == CONTENTS
    assert set(scene.fakes.storpool.volumes) == ({moved.volume} if delete else {moved.volume, old})


@pytest.mark.parametrize("delete", ["", ", delete"])
def test_out_the_contents_are_in_a_file(scene: Scene, delete: str) -> None:
    (old,) = scene.prepare(SCENES[f"migrateVolume, out{delete}"]).fakes.storpool.volumes
    moved = scene.succeed()
    assert (moved.method, moved.volume, moved.block_hash) == ("offline", None, block_hash(CONTENTS))
    assert scene.at().read_bytes() == CONTENTS
    assert (set(scene.fakes.storpool.volumes), scene.fakes.storpool.attached) == (set() if delete else {old}, {})


@pytest.mark.parametrize("delete", ["", ", delete"])
def test_in_the_contents_are_in_a_new_volume(scene: Scene, delete: str) -> None:
    moved = scene.prepare(SCENES[f"migrateVolume, in{delete}"]).succeed()
    assert (moved.method, moved.block_hash, moved.source_deleted) == ("offline", block_hash(CONTENTS), bool(delete))
    assert scene.contents(moved.volume) == CONTENTS
    assert scene.fakes.storpool.volumes[moved.volume].tags == {KIND: "volume", OPERATION: str(scene.request.id)}
    assert scene.at(FILE).exists() is not bool(delete)


@pytest.mark.parametrize("delete", ["", ", delete"])
def test_live_out_the_machine_goes_on_with_the_file(scene: Scene, delete: str) -> None:
    (old,) = scene.prepare(SCENES[f"migrateVolume, live out{delete}"]).fakes.storpool.volumes
    moved = scene.succeed()
    (machine,) = scene.fakes.domains.machines.values()
    assert machine.live["vda"].path == machine.config["vda"].path == moved.path == str(scene.at())
    assert scene.at().read_bytes() == CONTENTS
    assert (set(scene.fakes.storpool.volumes), scene.fakes.storpool.attached) == (set() if delete else {old}, {})
    assert (moved.method, moved.block_hash, moved.size_bytes) == ("live", None, SIZE)


@pytest.mark.parametrize("delete", ["", ", delete"])
def test_live_in_the_machine_goes_on_with_the_volume(scene: Scene, delete: str) -> None:
    moved = scene.prepare(SCENES[f"migrateVolume, live in{delete}"]).succeed()
    (machine,) = scene.fakes.domains.machines.values()
    assert machine.live["vda"].path == machine.config["vda"].path == moved.path
    assert scene.contents(moved.volume) == CONTENTS
    (attachment,) = scene.fakes.storpool.attached.values()
    assert (attachment.global_id, attachment.mode) == (moved.volume, "rw")
    assert scene.fakes.storpool.volumes[moved.volume].tags[VM] == machine.uuid
    assert scene.at(FILE).exists() is not bool(delete)


LIVE = pytest.mark.parametrize("name", ["migrateVolume, live out", "migrateVolume, live in, delete"])


@LIVE
@pytest.mark.parametrize("error", [CopyStalled, BlockJobFailed])
def test_a_mirror_that_fails_leaves_the_machine_its_disk(
    scene: Scene, name: str, error: type[CopyStalled | BlockJobFailed]
) -> None:
    scene.prepare(SCENES[name])

    def fail(*_: object) -> None:
        raise error("it failed")

    scene.fakes.domains.on_copy = fail
    scene.fail(error.code)


@LIVE
def test_a_pivot_that_fails_leaves_the_machine_its_disk(scene: Scene, name: str) -> None:
    scene.prepare(SCENES[name]).fakes.domains.fail("pivot", BlockJobFailed("they are not the same"))
    scene.fail(ErrorCode.BLOCK_JOB_FAILED)


@LIVE
def test_a_pivot_whose_answer_is_lost_is_a_success(scene: Scene, name: str) -> None:
    scene.prepare(SCENES[name]).fakes.domains.lose_answer("pivot", LibvirtTimeout("no answer"))
    scene.succeed()


@LIVE
def test_a_configuration_that_a_killed_agent_has_not_moved_is_moved_by_the_next(scene: Scene, name: str) -> None:
    """libvirt moves none that names the disk by another path. The source may be deleted then: nothing leads to it."""
    domains = scene.prepare(SCENES[name]).fakes.domains
    (machine,) = domains.machines.values()
    pivot, configuration = domains.pivot, dict(machine.config)

    def half(disk: DiskInDomain, target: MirrorTarget, deadline: Deadline) -> DiskInDomain:
        pivot(disk, target, deadline)
        machine.config = configuration
        scene.life.over = True
        raise Killed

    domains.pivot = half  # type: ignore[method-assign]
    with pytest.raises(Killed):
        scene.run()
    scene.die()
    domains.pivot = pivot  # type: ignore[method-assign]
    assert machine.config["vda"].path != machine.live["vda"].path
    assert isinstance(scene.run(attempt=2), Success)
    assert machine.config["vda"].path == machine.live["vda"].path


@LIVE
def test_without_libvirt_the_target_of_a_pivot_is_kept_until_it_says_that_it_is_not_used(
    scene: Scene, name: str
) -> None:
    scene.prepare(SCENES[name]).fakes.domains.fail("pivot", LibvirtTimeout("no answer"))
    scene.fakes.domains.fail("end_mirror", LibvirtUnavailable("it is away"))
    scene.fail(ErrorCode.LIBVIRT_TIMEOUT, "partial")
    assert scene.fakes.storpool.volumes
    for _ in range(2):
        scene.sweep()
    assert scene.state() == scene.before


@LIVE
@pytest.mark.parametrize("persistent", [True, False], ids=["a persistent machine", "a transient machine"])
def test_what_a_machine_may_have_written_to_is_not_deleted_when_the_machine_has_ended(
    scene: Scene, name: str, persistent: bool
) -> None:
    """It moved, its answer was lost, and then it was switched off: only the target has what was written since."""
    scene.prepare(SCENES[name])
    (machine,) = scene.fakes.domains.machines.values()
    machine.persistent = persistent
    scene.fakes.domains.lose_answer("pivot", LibvirtTimeout("no answer"))
    having = scene.fakes.domains.having

    def ends(*_: object) -> None:
        if machine.live and machine.live["vda"].path != path:
            scene.fakes.domains.stop(machine.uuid)

    path = machine.live["vda"].path

    def seen(*arguments: object) -> object:
        ends()
        return having(*arguments)  # type: ignore[arg-type]

    scene.fakes.domains.having = seen  # type: ignore[method-assign,assignment]
    reply = scene.run()
    assert not isinstance(reply, Success)
    assert reply.side_effects == "partial"
    for _ in range(2):
        with suppress(AgentError):
            scene.sweep()
    if "out" in name:
        assert scene.at().read_bytes() == CONTENTS
    else:
        assert [scene.contents(each) for each in scene.fakes.storpool.volumes] == [CONTENTS]
        assert scene.at(FILE).exists()


@LIVE
def test_a_stop_of_the_agent_leaves_the_mirror_running_for_the_next_start(scene: Scene, name: str) -> None:
    scene.prepare(SCENES[name])
    begun: list[object] = []

    def stop(*_: object) -> None:
        begun.append(_)
        raise AgentStopping

    copied, scene.fakes.domains.on_copy = scene.fakes.domains.on_copy, stop
    with pytest.raises(AgentStopping):
        scene.run()
    (machine,) = scene.fakes.domains.machines.values()
    assert list(machine.mirrors) == ["vda"]
    scene.die()
    scene.fakes.domains.on_copy = copied
    volumes = set(scene.fakes.storpool.volumes)
    assert isinstance(scene.run(attempt=2), Success)
    assert set(scene.fakes.storpool.volumes) == volumes


@pytest.mark.parametrize("name", ["migrateVolume, out, delete", "migrateVolume, in, delete"])
def test_a_copy_that_failed_or_lost_a_byte_deletes_no_source(scene: Scene, name: str) -> None:
    scene.prepare(SCENES[name])
    scene.fakes.images.lost = True
    scene.fail(ErrorCode.COPY_MISMATCH)
    scene.fakes.images.failing["convert"] = CopyFailed("it failed")
    scene.fail(ErrorCode.COPY_FAILED)


def used_elsewhere(scene: Scene) -> Command:
    volume = scene.volume()
    scene.fakes.storpool.attach_elsewhere(volume, client=2)
    return MigrateVolume(volume=str(volume.reference), target=TARGET)


def used_here(scene: Scene) -> Command:
    volume = scene.volume()
    scene.fakes.succeed(ConnectPhysicalDisk(volume=str(volume.reference)))
    return MigrateVolume(volume=str(volume.reference), target=TARGET)


def new_of_a_used_one(scene: Scene) -> Command:
    volume = scene.volume()
    scene.fakes.storpool.attach_elsewhere(volume, client=2)
    return MigrateVolume(volume=str(volume.reference), template="dev", new_volume=True)


@pytest.mark.parametrize("make", [used_elsewhere, used_here, new_of_a_used_one])
def test_a_volume_that_somebody_has_is_not_copied(scene: Scene, make: Maker) -> None:
    failure = scene.prepare(make).fail(ErrorCode.VOLUME_BUSY)
    assert failure.facts["clients"] in (["1"], ["2"])


def test_a_file_that_a_machine_runs_with_is_not_copied_without_it(scene: Scene) -> None:
    def make(scene: Scene) -> Command:
        scene.machine(str(scene.file()))
        return MigrateVolume(source=FILE, source_format="raw", template="dev")

    scene.prepare(make).fail(ErrorCode.DISK_IN_USE_BY_VM)


def test_a_machine_without_the_volume_is_not_mirrored(scene: Scene) -> None:
    def make(scene: Scene) -> Command:
        machine = scene.fakes.machine()
        return MigrateVolume(volume=str(scene.volume().reference), target=TARGET, vm=machine.uuid)

    scene.prepare(make).fail(ErrorCode.DISK_NOT_FOUND)


def test_a_file_of_the_targets_name_is_never_taken_for_the_target(scene: Scene) -> None:
    def make(scene: Scene) -> Command:
        scene.file(b"another's", TARGET)
        return SCENES["migrateVolume, live out"](scene)

    scene.prepare(make).fail(ErrorCode.FILE_EXISTS)
    assert scene.at().read_bytes() == b"another's"


def test_a_source_that_cannot_be_deleted_stays_and_the_volume_has_moved(scene: Scene) -> None:
    scene.prepare(SCENES["migrateVolume, out, delete"])
    scene.fakes.storpool.failures["delete_volume"] = [StorPoolUnavailable("away")]
    scene.run()
    assert scene.at().read_bytes() == CONTENTS
    assert [scene.contents(each) for each in scene.fakes.storpool.volumes] == [CONTENTS]


def test_an_older_generation_moves_nothing(scene: Scene) -> None:
    def make(scene: Scene) -> Command:
        volume = scene.volume()
        scene.journal.raise_fence(volume.global_id, 7)
        return MigrateVolume(volume=str(volume.reference), target=TARGET, generation=6)

    scene.prepare(make).fail(ErrorCode.STALE_GENERATION)
