# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handler relies on in StorPool's snapshots, clones and reverts: run on the fake and on the real part."""

from dataclasses import replace

import pytest

from contract.storage import MIB, NOWHERE, Storage, made, soon
from storpool_agent.errors import (
    NameTaken,
    SnapshotNotFound,
    StillExported,
    StorPoolRefused,
    TemplateNotFound,
    VolumeBusy,
    VolumeNotFound,
)
from storpool_agent.storpool.model import NewSnapshot, NewVolume, Volume
from storpool_commands.references import Reference

PLAIN = NewSnapshot()


def taken(storage: Storage, volume: Volume, operation: str = "r2") -> Volume:
    return storage.storpool.take_snapshot(volume, PLAIN, operation, soon())


def cloned(storage: Storage, snapshot: Volume, operation: str = "r3", size_bytes: int = MIB) -> Volume:
    wanted = NewVolume(size_bytes, None, parent=snapshot)
    return storage.storpool.create_volume(wanted, operation, soon())


class SnapshotContract:
    """Inherit, and give a fixture `storage`."""

    def test_a_snapshot_that_was_taken_is_found_and_says_of_what(self, storage: Storage) -> None:
        volume = storage.storpool.create_volume(NewVolume(MIB, "dev", name="vm-1", tags={"a": "b"}), "r1", soon())
        wanted = NewSnapshot("before", {"cs": "snapshot"}, delete_after_s=3600)
        snapshot = storage.storpool.take_snapshot(volume, wanted, "r2", soon())
        assert snapshot == storage.storpool.snapshot(Reference("name", "before"), soon())
        assert (snapshot.size_bytes, snapshot.template, snapshot.on_volume) == (MIB, "dev", "vm-1")
        assert dict(snapshot.tags) == {"cs": "snapshot", "sp-op": "r2"}
        assert storage.storpool.volume(volume.reference, soon()).parent == "before"

    def test_what_is_made_of_an_encrypted_volume_is_known_as_one(self, storage: Storage) -> None:
        """StorPool copies no tags by itself."""
        luks = {"sp-luks": "luks1"}
        volume = storage.storpool.create_volume(NewVolume(MIB, "dev", tags={**luks, "cs": "volume"}), "r1", soon())
        plain = storage.storpool.create_volume(NewVolume(MIB, "dev"), "r2", soon())
        snapshot = storage.storpool.take_snapshot(volume, NewSnapshot(tags={"cs": "snapshot"}), "r3", soon())
        clone = cloned(storage, snapshot, "r4")
        moved = storage.storpool.create_volume(NewVolume(MIB, "dev", base_on=volume), "r5", soon())
        group = storage.storpool.take_group_snapshot([plain, volume], NewSnapshot(tags={"cs": "group"}), "r6", soon())
        assert dict(snapshot.tags) == {**luks, "cs": "snapshot", "sp-op": "r3"}
        assert [dict(one.tags) for one in (clone, moved)] == [{**luks, "sp-op": "r4"}, {**luks, "sp-op": "r5"}]
        found = [dict(storage.storpool.snapshot(one.reference, soon()).tags) for one in group]
        assert found == [{"cs": "group", "sp-op": "r6"}, {**luks, "cs": "group", "sp-op": "r6"}]
        assert [dict(one.tags) for one in group] == found

    def test_a_snapshot_without_a_name_goes_by_its_global_id(self, storage: Storage) -> None:
        volume = made(storage)
        snapshot = taken(storage, volume)
        assert snapshot.name == f"~{snapshot.global_id}"
        assert snapshot.on_volume == volume.name
        assert storage.storpool.snapshot(snapshot.reference, soon()) == snapshot

    def test_a_request_that_is_run_again_finds_its_snapshot(self, storage: Storage) -> None:
        volume = made(storage)
        first = taken(storage, volume)
        again = storage.storpool.take_snapshot(volume, PLAIN, "r2", soon(), look_first=True)
        other = storage.storpool.take_snapshot(volume, PLAIN, "r3", soon(), look_first=True)
        assert again.global_id == first.global_id
        assert other.global_id != first.global_id

    def test_a_name_of_a_volume_or_snapshot_is_taken(self, storage: Storage) -> None:
        volume = storage.storpool.create_volume(NewVolume(MIB, "dev", name="vm-1"), "r1", soon())
        wanted = NewSnapshot("before")
        first = storage.storpool.take_snapshot(volume, wanted, "r2", soon())
        assert storage.storpool.take_snapshot(volume, wanted, "r2", soon()).global_id == first.global_id
        for name in ("before", "vm-1"):
            with pytest.raises(NameTaken):
                storage.storpool.take_snapshot(volume, NewSnapshot(name), "r3", soon())

    def test_what_does_not_exist_has_no_snapshots(self, storage: Storage) -> None:
        with pytest.raises(VolumeNotFound):
            taken(storage, NOWHERE)
        with pytest.raises(VolumeNotFound):
            storage.storpool.take_group_snapshot([made(storage), NOWHERE], PLAIN, "r2", soon())
        assert storage.storpool.templates(soon())[0].snapshots == 0

    def test_a_snapshot_keeps_what_was_written_before_it(self, storage: Storage) -> None:
        volume = made(storage)
        storage.write(volume, "before")
        snapshot = taken(storage, volume)
        storage.write(volume, "after")
        assert (storage.read(snapshot), storage.read(volume)) == ("before", "after")

    def test_a_clone_begins_with_the_data_of_its_parent(self, storage: Storage) -> None:
        volume = made(storage)
        storage.write(volume, "before")
        snapshot = taken(storage, volume)
        clone = cloned(storage, snapshot, size_bytes=2 * MIB)
        assert (clone.size_bytes, clone.template, clone.parent) == (2 * MIB, "dev", snapshot.name)
        assert clone == storage.storpool.volume(clone.reference, soon())
        storage.write(volume, "after")
        assert storage.read(clone) == "before"

    def test_a_clone_needs_a_parent_a_template_and_room(self, storage: Storage) -> None:
        snapshot = taken(storage, made(storage))
        for wanted, error in (
            (NewVolume(MIB, "dev", parent=replace(snapshot, global_id="d.n.zzz")), SnapshotNotFound),
            (NewVolume(MIB, None, parent=replace(snapshot, global_id="d.n.zzz")), SnapshotNotFound),
            (NewVolume(MIB, "nope", parent=snapshot), TemplateNotFound),
            (NewVolume(MIB // 2, "dev", parent=snapshot), StorPoolRefused),
        ):
            with pytest.raises(error):
                storage.storpool.create_volume(wanted, "r3", soon())

    def test_a_volume_is_made_in_the_cluster_that_is_named(self, storage: Storage) -> None:
        wanted = NewVolume(MIB, "dev", cluster_id="d.m")
        far = storage.storpool.create_volume(wanted, "r1", soon())
        assert far.global_id.startswith("d.m.")
        assert storage.storpool.volume(far.reference, soon()) == far
        assert storage.storpool.create_volume(wanted, "r1", soon(), look_first=True) == far
        assert taken(storage, far).global_id.startswith("d.m.")
        with pytest.raises(StorPoolRefused, match=r"d\.q"):
            storage.storpool.create_volume(replace(wanted, cluster_id="d.q"), "r2", soon())
        with pytest.raises(TemplateNotFound):
            storage.storpool.create_volume(replace(wanted, template="nope"), "r2", soon())

    def test_a_group_is_in_the_order_of_its_volumes(self, storage: Storage) -> None:
        named = storage.storpool.create_volume(NewVolume(2 * MIB, "dev", name="vm-1"), "r1", soon())
        volumes = [made(storage, "r2"), named, made(storage, "r3")]
        group = storage.storpool.take_group_snapshot(volumes, NewSnapshot(tags={"cs": "group"}), "r4", soon())
        for volume, snapshot in zip(volumes, group, strict=True):
            found = storage.storpool.snapshot(snapshot.reference, soon())
            assert found == snapshot
            assert (found.on_volume, found.size_bytes) == (volume.name, volume.size_bytes)
            assert dict(found.tags) == {"cs": "group", "sp-op": "r4"}

    def test_a_request_that_is_run_again_finds_its_group(self, storage: Storage) -> None:
        volumes = [made(storage, "r1"), made(storage, "r2")]
        first = storage.storpool.take_group_snapshot(volumes, PLAIN, "r3", soon())
        again = storage.storpool.take_group_snapshot(volumes[::-1], PLAIN, "r3", soon(), look_first=True)
        assert [each.global_id for each in again] == [each.global_id for each in first[::-1]]
        assert storage.storpool.templates(soon())[0].snapshots == 2

    def test_a_revert_brings_back_the_data(self, storage: Storage) -> None:
        volume = made(storage)
        storage.write(volume, "before")
        snapshot = taken(storage, volume)
        storage.write(volume, "after")
        storage.storpool.revert_volume(volume, snapshot, soon())
        assert storage.read(volume) == "before"
        assert storage.storpool.volume(volume.reference, soon()).parent == snapshot.name
        assert storage.read(snapshot) == "before"

    def test_a_revert_keeps_the_size_unless_it_is_told_otherwise(self, storage: Storage) -> None:
        small = taken(storage, made(storage))
        volume = made(storage, "r3", size_bytes=2 * MIB)
        storage.storpool.revert_volume(volume, small, soon())
        assert storage.storpool.volume(volume.reference, soon()).size_bytes == 2 * MIB
        storage.storpool.revert_volume(volume, small, soon(), revert_size=True)
        assert storage.storpool.volume(volume.reference, soon()).size_bytes == MIB

    def test_an_attached_volume_is_not_reverted(self, storage: Storage) -> None:
        volume = made(storage)
        snapshot = taken(storage, volume)
        client = storage.attach_elsewhere(volume)
        with pytest.raises(VolumeBusy) as caught:
            storage.storpool.revert_volume(volume, snapshot, soon())
        assert caught.value.facts["volume"] == volume.global_id
        storage.storpool.release([volume], soon())
        storage.storpool.revert_volume(volume, snapshot, soon())
        assert client != storage.storpool.our_id

    def test_what_does_not_exist_is_not_reverted(self, storage: Storage) -> None:
        volume = made(storage)
        snapshot = taken(storage, volume)
        with pytest.raises(VolumeNotFound):
            storage.storpool.revert_volume(NOWHERE, snapshot, soon())
        with pytest.raises(SnapshotNotFound):
            storage.storpool.revert_volume(volume, replace(snapshot, global_id="d.n.zzz"), soon())

    def test_a_deleted_snapshot_is_gone_though_a_clone_lives_on(self, storage: Storage) -> None:
        volume = made(storage)
        storage.write(volume, "before")
        snapshot = taken(storage, volume)
        clone = cloned(storage, snapshot)
        storage.storpool.delete_volume(snapshot, soon())
        with pytest.raises(SnapshotNotFound):
            storage.storpool.snapshot(snapshot.reference, soon())
        again = storage.storpool.take_snapshot(volume, PLAIN, "r2", soon(), look_first=True)
        assert again.global_id != snapshot.global_id
        with pytest.raises(SnapshotNotFound):
            cloned(storage, snapshot, "r4")
        storage.storpool.delete_volume(snapshot, soon())
        assert storage.read(clone) == "before"

    def test_an_attached_snapshot_is_not_deleted(self, storage: Storage) -> None:
        snapshot = taken(storage, made(storage))
        storage.storpool.attach(snapshot, "ro", "export", soon())
        with pytest.raises(VolumeBusy):
            storage.storpool.delete_volume(snapshot, soon())
        storage.storpool.release([snapshot], soon())
        storage.storpool.delete_volume(snapshot, soon())

    def test_an_exported_snapshot_is_not_deleted(self, storage: Storage) -> None:
        snapshot = taken(storage, made(storage))
        storage.export(snapshot)
        with pytest.raises(StillExported) as caught:
            storage.storpool.delete_volume(snapshot, soon())
        assert caught.value.facts["snapshot"] == snapshot.global_id
        assert storage.storpool.snapshot(snapshot.reference, soon()) == snapshot
