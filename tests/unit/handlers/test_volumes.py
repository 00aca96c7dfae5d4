# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Making, changing and deleting volumes: defaults, refusals, and what a second run finds."""

from uuid import uuid4

import pytest
from pydantic import SecretStr

from fake_host import FakeHost
from fakes import FakeStorPool
from storpool_agent.errors import LibvirtUnavailable, StorPoolTimeout
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import AttachDisk
from storpool_commands.envelope import Success
from storpool_commands.errors import ErrorCode
from storpool_commands.volumes import (
    CreateVolume,
    CreateVolumeFromSnapshot,
    CreateVolumeFromTemplate,
    DeleteVolume,
    SetQosTier,
    UpdateVolume,
)

MIB = 1 << 20


def other_pool(host: FakeHost) -> FakeStorPool:
    """A pool of another API, by the name `other`, with the template `fast` in the cluster `x.y`."""
    url = SecretStr("SP_API_HTTP=other:81;SP_AUTH_TOKEN=1;SP_TEMPLATE=fast")
    host.pools.keep(host.pools.open("other", url, "x.y"))
    storpool = host.pools.apis["other:81"]
    storpool.template_names = {"fast"}
    storpool.clusters = {"d.n", "x.y"}
    return storpool


def only(storpool: FakeStorPool, *, snapshot: bool = False) -> Volume:
    [found] = [each for each in storpool.volumes.values() if each.snapshot == snapshot]
    return found


def test_a_new_volume_has_its_tags_and_limits(host: FakeHost) -> None:
    command = CreateVolume(
        size_bytes=MIB,
        template="dev",
        uuid="u-1",
        vm_uuid="vm-1",
        vc_policy="daily",
        disk_id=0,
        iops=7,
        tags={"x": "y"},
    )
    made = host.succeed(command)
    expected = {"cs": "volume", "uuid": "u-1", "cvm": "vm-1", "vc-policy": "daily", "disk": "0", "x": "y"}
    assert {name: made.tags[name] for name in expected} == expected
    assert set(made.tags) - set(expected) == {"sp-op"}
    assert only(host.storpool).iops == 7


def test_a_pool_gives_its_template_and_its_cluster(host: FakeHost) -> None:
    storpool = other_pool(host)
    made = host.succeed(CreateVolume(size_bytes=MIB, pool="other"))
    assert (made.template, made.global_id.startswith("x.y.")) == ("fast", True)
    assert list(storpool.volumes) == [made.global_id]
    assert host.storpool.volumes == {}


def test_what_the_command_names_beats_the_pool(host: FakeHost) -> None:
    storpool = other_pool(host)
    storpool.template_names.add("slow")
    made = host.succeed(CreateVolume(size_bytes=MIB, pool="other", template="slow", cluster_id="d.n"))
    assert (made.template, made.global_id.startswith("d.n.")) == ("slow", True)


def test_a_pool_that_is_not_known_is_refused(host: FakeHost) -> None:
    failure = host.fail(CreateVolume(size_bytes=MIB, pool="nope"))
    assert (failure.code, failure.side_effects) == (ErrorCode.POOL_NOT_FOUND, "none")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(None, 4 * MIB, id="the template's by default"),
        pytest.param(2 * MIB, 4 * MIB, id="the template's when the offering's is smaller"),
        pytest.param(8 * MIB, 8 * MIB, id="the offering's when it is larger"),
    ],
)
def test_a_volume_from_a_template_is_large_enough(host: FakeHost, asked: int | None, expected: int) -> None:
    template = host.storpool.add(4 * MIB, snapshot=True)
    host.storpool.contents[template.global_id] = "Debian"
    made = host.succeed(CreateVolumeFromTemplate(snapshot=str(template.reference), size_bytes=asked))
    assert (made.size_bytes, made.parent) == (expected, template.global_id)
    assert host.storpool.contents[made.global_id] == "Debian"


def test_a_template_that_is_not_there_makes_no_volume(host: FakeHost) -> None:
    failure = host.fail(CreateVolumeFromTemplate(snapshot="~d.n.zz"))
    assert (failure.code, host.storpool.volumes) == (ErrorCode.SNAPSHOT_NOT_FOUND, {})


def test_a_volume_from_a_snapshot_is_as_large_and_placed_as_that(host: FakeHost) -> None:
    host.pools.own_template = "not-this-one"
    snapshot = host.storpool.add(4 * MIB, snapshot=True)
    made = host.succeed(CreateVolumeFromSnapshot(snapshot=str(snapshot.reference)))
    assert (made.size_bytes, made.template, made.parent) == (4 * MIB, "dev", snapshot.global_id)


def test_a_volume_smaller_than_its_snapshot_is_refused(host: FakeHost) -> None:
    snapshot = host.storpool.add(4 * MIB, snapshot=True)
    failure = host.fail(CreateVolumeFromSnapshot(snapshot=str(snapshot.reference), size_bytes=2 * MIB))
    assert (failure.code, failure.facts["size_bytes"]) == (ErrorCode.WOULD_SHRINK, 4 * MIB)
    assert "create_volume" not in host.storpool.calls


@pytest.mark.parametrize("kind", [CreateVolumeFromTemplate, CreateVolumeFromSnapshot])
def test_a_second_run_finds_what_the_first_one_made(host: FakeHost, kind: type[CreateVolumeFromSnapshot]) -> None:
    snapshot, request_id = host.storpool.add(MIB, snapshot=True), uuid4()
    command = kind(snapshot=str(snapshot.reference))
    host.storpool.lost_answers["create_volume"] = [StorPoolTimeout("no answer")]
    host.run(command, request_id=request_id)
    again = host.run(command, request_id=request_id, attempt=2)
    assert isinstance(again, Success)
    assert only(host.storpool).global_id == again.result.global_id  # type: ignore[union-attr]


def test_what_is_attached_is_not_deleted(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=3)
    host.storpool.attach_elsewhere(volume, client=2)
    failure = host.fail(DeleteVolume(volume=str(volume.reference), delete_after_s=60))
    assert (failure.code, failure.facts["clients"], failure.side_effects) == (
        ErrorCode.VOLUME_BUSY,
        ["2", "3"],
        "none",
    )
    assert list(host.storpool.volumes) == [volume.global_id]


def test_what_is_attached_is_deleted_by_force(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=2)
    assert host.succeed(DeleteVolume(volume=str(volume.reference), detach_force=True, reason="gone")).deleted_now
    assert (host.storpool.volumes, host.storpool.attached) == ({}, {})


def test_a_running_machine_keeps_its_volume_whatever_is_forced(host: FakeHost) -> None:
    volume, machine = host.storpool.add(), host.machine()
    host.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
    failure = host.fail(DeleteVolume(volume=str(volume.reference), detach_force=True, reason="gone"))
    assert (failure.code, failure.facts["vms"]) == (ErrorCode.DISK_IN_USE_BY_VM, [machine.uuid])
    assert (volume.global_id, 1) in host.storpool.attached


def test_nothing_is_forced_while_libvirt_cannot_say_who_runs(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=2)
    host.domains.fail("having", LibvirtUnavailable("down"))
    failure = host.fail(DeleteVolume(volume=str(volume.reference), detach_force=True, reason="gone"))
    assert (failure.code, failure.side_effects) == (ErrorCode.LIBVIRT_UNAVAILABLE, "none")
    assert (volume.global_id, 2) in host.storpool.attached


def test_what_stays_attached_in_spite_of_force_is_not_deleted(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = host.storpool.add()
    host.storpool.attach_elsewhere(volume, client=2)
    monkeypatch.setattr(host.storpool, "release", lambda *_args, **_options: None)
    failure = host.fail(DeleteVolume(volume=str(volume.reference), detach_force=True, reason="gone"))
    assert (failure.code, failure.facts["clients"]) == (ErrorCode.VOLUME_BUSY, ["2"])
    assert "delete_volume" not in host.storpool.calls


def test_a_deleted_volume_is_kept_for_a_while(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.contents[volume.global_id] = "payroll"
    deleted = host.succeed(DeleteVolume(volume=str(volume.reference), delete_after_s=3600))
    kept = only(host.storpool, snapshot=True)
    assert (deleted.kept_snapshot, kept.tags["cs"]) == (kept.global_id, "delayDelete")
    assert host.storpool.contents[kept.global_id] == "payroll"
    assert host.storpool.delete_after_s == {kept.global_id: 3600}


def test_a_second_run_keeps_it_once_and_says_the_same(host: FakeHost) -> None:
    volume, request_id = host.storpool.add(), uuid4()
    command = DeleteVolume(volume=str(volume.reference), delete_after_s=3600)
    host.storpool.lost_answers["delete_volume"] = [StorPoolTimeout("no answer")]
    host.run(command, request_id=request_id)
    again = host.run(command, request_id=request_id, attempt=2)
    assert isinstance(again, Success)
    kept = only(host.storpool, snapshot=True)
    expected = (volume.global_id, True, kept.global_id)
    assert (again.result.global_id, again.result.deleted_now, again.result.kept_snapshot) == expected  # type: ignore[union-attr]


def test_a_second_run_does_not_delete_another_volume_that_has_got_the_name(host: FakeHost) -> None:
    host.storpool.add(name="disk")
    request_id = uuid4()
    host.storpool.lost_answers["delete_volume"] = [StorPoolTimeout("no answer")]
    host.run(DeleteVolume(volume="disk"), request_id=request_id)
    newer = host.storpool.add(name="disk")
    again = host.run(DeleteVolume(volume="disk"), request_id=request_id, attempt=2)
    assert isinstance(again, Success)
    assert list(host.storpool.volumes) == [newer.global_id]


def test_what_is_not_there_need_not_be_deleted(host: FakeHost) -> None:
    gone = host.succeed(DeleteVolume(volume="~d.n.zz", delete_after_s=60))
    assert (gone.global_id, gone.deleted_now, gone.kept_snapshot) == (None, False, None)


def test_a_tier_goes_with_the_template_and_without_limits(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.storpool.template_names.add("fast")
    updated = host.succeed(UpdateVolume(volume=str(volume.reference), template="fast", tier="gold"))
    assert (updated.before.template, updated.before.tags) == ("dev", {})
    assert (updated.after.template, updated.after.tags, updated.after.iops) == ("fast", {"qc": "gold"}, None)
    assert host.storpool.calls.count("update_volume") == 1


def test_zero_is_no_limit_and_what_is_not_named_stays(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.succeed(UpdateVolume(volume=str(volume.reference), iops=100, bandwidth_kib_sec=200))
    updated = host.succeed(UpdateVolume(volume=str(volume.reference), iops=0))
    assert (updated.before.iops, updated.after.iops, updated.after.bandwidth_kib_sec) == (100, None, 200)


def test_an_update_that_changes_nothing_is_not_sent(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.succeed(UpdateVolume(volume=str(volume.reference), iops=0, template="dev", tier=""))
    assert "update_volume" not in host.storpool.calls


def test_an_update_that_was_not_taken_is_a_failure(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = host.storpool.add()
    monkeypatch.setattr(host.storpool, "update_volume", lambda *_args: None)
    failure = host.fail(UpdateVolume(volume=str(volume.reference), iops=5, tier=""))
    assert (failure.code, failure.facts["wrong"]) == (ErrorCode.STORPOOL_BAD_ANSWER, ["iops"])


def test_only_the_tag_is_sent_for_a_tier(host: FakeHost) -> None:
    volume = host.storpool.add()
    host.succeed(UpdateVolume(volume=str(volume.reference), iops=100))
    gold = host.succeed(SetQosTier(volume=str(volume.reference), tier="gold"))
    assert (gold.before, gold.after) == (None, "gold")
    none = host.succeed(SetQosTier(volume=str(volume.reference), tier=""))
    assert (none.before, none.after) == ("gold", None)
    assert host.storpool.volumes[volume.global_id].iops == 100
