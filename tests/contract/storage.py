# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handler relies on in StorPool and Devices: run on the fakes and on the real parts."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import pytest

from storpool_agent.deadline import Deadline
from storpool_agent.errors import (
    DeviceMismatch,
    DeviceTimeout,
    NameTaken,
    SizeNotPropagated,
    SnapshotNotFound,
    StorPoolRefused,
    TemplateNotFound,
    VolumeBusy,
    VolumeNotFound,
)
from storpool_agent.host import Devices, StorPool
from storpool_agent.storpool.model import NewSnapshot, NewVolume, Volume, VolumeChange
from storpool_commands.references import Reference

MIB = 1 << 20
NOWHERE = Volume("d.n.zzz", "~d.n.zzz", MIB, snapshot=False)


@dataclass(frozen=True)
class Storage:
    """The parts under test, and what only the test can do."""

    storpool: StorPool
    devices: Devices
    opened: Callable[[str], AbstractContextManager[None]]
    """While inside, a process has the device of this global id open."""
    attach_elsewhere: Callable[[Volume], int]
    """At another client; its id."""
    export: Callable[[Volume], None]
    """Let another location have this snapshot."""
    write: Callable[[Volume, str], None]
    """On a volume that is attached nowhere, which it is again afterwards."""
    read: Callable[[Volume], str]
    """What was written last on a volume or a snapshot that is attached nowhere; empty when nothing was."""


def soon() -> Deadline:
    """Enough for what happens."""
    return Deadline.after(10)


def shortly() -> Deadline:
    """For what does not."""
    return Deadline.after(0.3)


def made(storage: Storage, request_id: str = "r1", size_bytes: int = MIB) -> Volume:
    return storage.storpool.create_volume(NewVolume(size_bytes, "dev"), request_id, soon())


def attached(storage: Storage) -> Volume:
    volume = made(storage)
    storage.storpool.attach(volume, "rw", "export", soon())
    return volume


def limits(storage: Storage, volume: Volume) -> tuple[int | None, int | None]:
    found = storage.storpool.volume(volume.reference, soon())
    return found.iops, found.bandwidth_kib_sec


class StorageContract:
    """Inherit, and give a fixture `storage`."""

    def test_a_volume_that_was_made_is_found_and_carries_its_request(self, storage: Storage) -> None:
        wanted = NewVolume(MIB, "dev", name="vm-1", tags={"cs": "volume"})
        volume = storage.storpool.create_volume(wanted, "r1", soon())
        found = storage.storpool.volume(Reference("name", "vm-1"), soon())
        assert found == storage.storpool.volume(volume.reference, soon())
        assert (found.global_id, found.size_bytes, found.name) == (volume.global_id, MIB, "vm-1")
        assert dict(found.tags) == {"cs": "volume", "sp-op": "r1"}

    def test_a_request_that_is_run_again_finds_what_it_made(self, storage: Storage) -> None:
        first = made(storage)
        wanted = NewVolume(MIB, "dev")
        again = storage.storpool.create_volume(wanted, "r1", soon(), look_first=True)
        other = storage.storpool.create_volume(wanted, "r2", soon(), look_first=True)
        assert again.global_id == first.global_id
        assert other.global_id != first.global_id

    def test_a_name_that_another_request_took_is_taken(self, storage: Storage) -> None:
        wanted = NewVolume(MIB, "dev", name="vm-1")
        first = storage.storpool.create_volume(wanted, "r1", soon())
        assert storage.storpool.create_volume(wanted, "r1", soon()).global_id == first.global_id
        with pytest.raises(NameTaken):
            storage.storpool.create_volume(wanted, "r2", soon())

    def test_a_volume_needs_a_template_that_exists(self, storage: Storage) -> None:
        with pytest.raises(TemplateNotFound):
            storage.storpool.create_volume(NewVolume(MIB, "nope"), "r1", soon())
        with pytest.raises(TemplateNotFound):
            storage.storpool.update_volume(made(storage), VolumeChange(template="nope"), soon())

    def test_what_does_not_exist_is_not_found(self, storage: Storage) -> None:
        volume = made(storage)
        with pytest.raises(VolumeNotFound):
            storage.storpool.volume(NOWHERE.reference, soon())
        with pytest.raises(VolumeNotFound):
            storage.storpool.volume(Reference("name", "nope"), soon())
        with pytest.raises(SnapshotNotFound):
            storage.storpool.snapshot(volume.reference, soon())
        with pytest.raises(VolumeNotFound):
            storage.storpool.attach(NOWHERE, "rw", "export", soon())
        with pytest.raises(VolumeNotFound):
            storage.storpool.update_volume(NOWHERE, VolumeChange(size_bytes=2 * MIB), soon())

    def test_what_does_not_exist_is_detached_and_deleted_already(self, storage: Storage) -> None:
        storage.storpool.detach(NOWHERE, soon())
        storage.storpool.delete_volume(NOWHERE, soon())

    def test_an_attached_volume_has_a_device_of_its_size(self, storage: Storage) -> None:
        volume = attached(storage)
        device = storage.devices.wait_ready(volume.global_id, MIB, "rw", soon())
        assert device == storage.devices.look(volume.global_id)
        assert (device.size_bytes, device.mode) == (MIB, "rw")
        assert device.link == storage.devices.link(volume.global_id)
        assert list(storage.devices.linked()) == [volume.global_id]
        listed = storage.storpool.attachments(soon())
        assert [(each.global_id, each.client, each.mode) for each in listed] == [(volume.global_id, 1, "rw")]

    def test_attaching_again_changes_nothing(self, storage: Storage) -> None:
        volume = attached(storage)
        device = storage.devices.wait_ready(volume.global_id, MIB, "rw", soon())
        storage.storpool.attach(volume, "rw", "export", soon())
        assert storage.devices.wait_ready(volume.global_id, MIB, "rw", soon()) == device

    def test_attaching_in_another_mode_changes_the_mode(self, storage: Storage) -> None:
        volume = attached(storage)
        storage.storpool.attach(volume, "ro", "export", soon())
        assert storage.devices.wait_ready(volume.global_id, MIB, "ro", soon()).mode == "ro"
        assert [each.mode for each in storage.storpool.attachments(soon())] == ["ro"]

    def test_there_is_no_device_without_an_attachment(self, storage: Storage) -> None:
        volume = made(storage)
        assert storage.devices.look(volume.global_id) is None
        with pytest.raises(DeviceTimeout):
            storage.devices.wait_ready(volume.global_id, MIB, "rw", shortly())
        storage.devices.wait_gone(volume.global_id, None, shortly())

    def test_a_device_that_is_not_as_wanted_is_refused(self, storage: Storage) -> None:
        volume = attached(storage)
        with pytest.raises(DeviceMismatch):
            storage.devices.wait_ready(volume.global_id, 2 * MIB, "rw", shortly())
        with pytest.raises(DeviceMismatch):
            storage.devices.wait_ready(volume.global_id, MIB, "ro", shortly())

    def test_a_snapshot_is_found_and_attached_read_only(self, storage: Storage) -> None:
        snapshot = storage.storpool.take_snapshot(made(storage), NewSnapshot(), "r2", soon())
        assert snapshot.snapshot
        storage.storpool.attach(snapshot, "ro", "export", soon())
        device = storage.devices.wait_ready(snapshot.global_id, MIB, "ro", soon())
        assert device.mode == "ro"
        storage.storpool.detach(snapshot, soon())
        storage.devices.wait_gone(snapshot.global_id, device, soon())

    def test_a_detached_volume_has_no_device(self, storage: Storage) -> None:
        volume = attached(storage)
        device = storage.devices.wait_ready(volume.global_id, MIB, "rw", soon())
        storage.storpool.detach(volume, soon())
        storage.devices.wait_gone(volume.global_id, device, soon())
        assert storage.devices.look(volume.global_id) is None
        assert storage.storpool.attachments(soon()) == ()
        assert list(storage.devices.linked()) == []
        storage.storpool.detach(volume, soon())

    def test_an_open_device_stays_and_its_holder_is_named(self, storage: Storage) -> None:
        volume = attached(storage)
        device = storage.devices.wait_ready(volume.global_id, MIB, "rw", soon())
        assert list(storage.devices.holders(device)) == []
        with storage.opened(volume.global_id):
            with pytest.raises(VolumeBusy) as caught:
                storage.storpool.detach(volume, shortly())
            holders = storage.devices.holders(device)
        assert caught.value.facts["volume"] == volume.global_id
        assert [holder.kind for holder in holders] == ["process"]
        storage.storpool.detach(volume, soon())

    def test_force_detaches_an_open_device(self, storage: Storage) -> None:
        volume = attached(storage)
        with storage.opened(volume.global_id):
            storage.storpool.detach(volume, soon(), force=True)
        assert storage.storpool.attachments(soon()) == ()

    def test_a_device_grows_with_its_volume(self, storage: Storage) -> None:
        volume = attached(storage)
        with pytest.raises(SizeNotPropagated):
            storage.devices.wait_size(volume.global_id, 2 * MIB, shortly())
        storage.storpool.update_volume(volume, VolumeChange(size_bytes=2 * MIB), soon())
        storage.storpool.wait_for_client(soon())
        assert storage.devices.wait_size(volume.global_id, 2 * MIB, soon()).size_bytes == 2 * MIB

    def test_a_volume_shrinks_only_when_told_so(self, storage: Storage) -> None:
        volume = made(storage, size_bytes=2 * MIB)
        with pytest.raises(StorPoolRefused):
            storage.storpool.update_volume(volume, VolumeChange(size_bytes=MIB), soon())
        storage.storpool.update_volume(volume, VolumeChange(size_bytes=MIB, shrink_ok=True), soon())
        assert storage.storpool.volume(volume.reference, soon()).size_bytes == MIB

    def test_tags_merge_and_an_empty_one_goes(self, storage: Storage) -> None:
        volume = made(storage)
        storage.storpool.update_volume(volume, VolumeChange(tags={"a": "1", "b": "2"}), soon())
        storage.storpool.update_volume(volume, VolumeChange(tags={"a": ""}), soon())
        assert dict(storage.storpool.volume(volume.reference, soon()).tags) == {"b": "2", "sp-op": "r1"}

    def test_a_limit_of_zero_is_no_limit(self, storage: Storage) -> None:
        wanted = NewVolume(MIB, "dev", iops=1000, bandwidth_kib_sec=2048)
        volume = storage.storpool.create_volume(wanted, "r1", soon())
        assert limits(storage, volume) == (1000, 2048)
        storage.storpool.update_volume(volume, VolumeChange(iops=0), soon())
        assert limits(storage, volume) == (None, 2048)
        storage.storpool.update_volume(volume, VolumeChange(iops=5, bandwidth_kib_sec=0), soon())
        assert limits(storage, volume) == (5, None)

    def test_an_attached_volume_is_not_deleted(self, storage: Storage) -> None:
        volume = made(storage)
        client = storage.attach_elsewhere(volume)
        assert [each.client for each in storage.storpool.attachments(soon())] == [client]
        with pytest.raises(VolumeBusy):
            storage.storpool.delete_volume(volume, soon())

    def test_a_deleted_volume_is_gone(self, storage: Storage) -> None:
        volume = made(storage)
        storage.storpool.delete_volume(volume, soon())
        with pytest.raises(VolumeNotFound):
            storage.storpool.volume(volume.reference, soon())

    def test_released_volumes_are_attached_nowhere(self, storage: Storage) -> None:
        here, snapshot = (
            attached(storage),
            storage.storpool.take_snapshot(made(storage, "r2"), NewSnapshot(), "r3", soon()),
        )
        storage.attach_elsewhere(here)
        storage.storpool.attach(snapshot, "ro", "export", soon())
        other = made(storage, "r4")
        storage.attach_elsewhere(other)
        storage.storpool.release([here, snapshot], soon())
        assert [each.global_id for each in storage.storpool.attachments(soon())] == [other.global_id]
        storage.storpool.release([here, snapshot], soon())
        storage.storpool.release([], soon())

    def test_none_is_released_while_one_is_open_unless_by_force(self, storage: Storage) -> None:
        opened, closed = attached(storage), made(storage, "r2")
        storage.attach_elsewhere(closed)
        with storage.opened(opened.global_id):
            with pytest.raises(VolumeBusy) as caught:
                storage.storpool.release([closed, opened], shortly())
            assert caught.value.facts["volume"] == opened.global_id
            assert len(storage.storpool.attachments(soon())) == 2
            storage.storpool.release([closed, opened], soon(), force=True)
        assert storage.storpool.attachments(soon()) == ()

    def test_none_is_released_when_one_does_not_exist(self, storage: Storage) -> None:
        volume = attached(storage)
        with pytest.raises(VolumeNotFound, match="zzz"):
            storage.storpool.release([volume, NOWHERE], soon())
        with pytest.raises(SnapshotNotFound):
            storage.storpool.release([replace(volume, snapshot=True)], soon())
        assert len(storage.storpool.attachments(soon())) == 1

    def test_the_room_of_a_template_is_told(self, storage: Storage) -> None:
        storage.storpool.take_snapshot(made(storage), NewSnapshot(), "r2", soon())
        (space,) = storage.storpool.templates(soon())
        assert (space.name, space.volumes, space.snapshots) == ("dev", 1, 1)
        assert 0 < space.free_bytes <= space.capacity_bytes

    def test_the_services_have_our_client(self, storage: Storage) -> None:
        services = storage.storpool.services(soon())
        assert services.cluster_status == "running"
        assert ("running", True) in {(each.status, each.client == storage.storpool.our_id) for each in services.clients}
