# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Each kind of drift, and what is none."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import click
import pytest

from storpool_agent.devices.model import Device
from storpool_agent.domains.model import DiskInDomain, Domain
from storpool_agent.drift import drifts, lasting
from storpool_agent.journal.unplugs import PendingUnplug
from storpool_agent.picture import Link, Picture, UsedDisk
from storpool_agent.storpool.model import Attachment
from storpool_commands import catalogue
from storpool_commands.client.cli import fields
from storpool_commands.client.cli.app import subcommand_name
from storpool_commands.control import Drift
from storpool_commands.disks import Mode
from unit.commands.samples import wire_name

GID = "d.n.a1"
PATH = f"/dev/storpool-byid/{GID}"
VM = Domain("0c8e2a5e-6f6c-4f0a-8f7a-0d3c1d7a9c11", "vm1", running=True, persistent=True)
OUR_ID = 1
THEN, NOW = datetime(2026, 11, 27, 12, tzinfo=UTC), datetime(2026, 11, 27, 13, tzinfo=UTC)
COMMANDS = get_args(get_args(catalogue.Command)[0])


def attached(client: int = OUR_ID, mode: Mode = "rw") -> Attachment:
    return Attachment(GID, client, mode)


def linked(mode: Mode | None = "rw", *, there: bool = True) -> dict[str, Link]:
    return {GID: Link(PATH, there, Device(PATH, "/dev/sp-1", 1, 1, 512, mode) if mode else None)}


def used(mode: Mode = "rw", *, live: bool = True, global_id: str | None = GID, path: str = PATH) -> UsedDisk:
    return UsedDisk(DiskInDomain(VM, path, "vdb", "virtio", live, True, None, None, None, mode), global_id)


def found(
    attachments: Sequence[Attachment] = (),
    links: dict[str, Link] | None = None,
    disks: Sequence[UsedDisk] = (),
    unplugs: Sequence[PendingUnplug] = (),
) -> list[tuple[str, str | None, str | None, str | None]]:
    picture = Picture(OUR_ID, attachments, links or {}, disks, unplugs)
    return [(one.kind, one.global_id, one.path, one.vm) for one in drifts(picture, THEN)]


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"attachments": [attached()], "links": linked(), "disks": [used()]}, id="a-used-volume"),
        pytest.param(
            {"attachments": [attached()], "links": linked(), "disks": [used(live=False)]}, id="of-a-stopped-machine"
        ),
        pytest.param({"disks": [used(live=False)]}, id="a-stopped-machine-needs-no-attachment"),
        pytest.param({"attachments": [attached(2), attached(3)]}, id="others-are-not-looked-at"),
        pytest.param(
            {"attachments": [attached(), attached(2, "ro")], "links": linked(), "disks": [used()]}, id="a-reader"
        ),
        pytest.param(
            {"attachments": [attached(mode="ro"), attached(2)], "links": linked("ro"), "disks": [used("ro")]},
            id="we-read-what-another-writes",
        ),
    ],
)
def test_what_agrees_is_no_drift(picture: dict[str, Any]) -> None:
    assert found(**picture) == []


def test_an_attachment_without_a_link_or_with_one_that_leads_nowhere() -> None:
    expected = [("no-device", GID, PATH, None)]
    assert found([attached()], linked(None, there=False), [used()]) == expected
    assert found([attached()], linked(None), [used()]) == expected


def test_a_link_that_storpool_does_not_list() -> None:
    assert found((), linked()) == [("not-attached", GID, PATH, None)]
    assert found([attached(2)], linked(None)) == [("not-attached", GID, PATH, None)]


def test_a_running_machines_disk_that_storpool_does_not_list() -> None:
    assert found(disks=[used()]) == [("not-attached", GID, PATH, VM.uuid)]


def test_a_running_machines_disk_whose_path_is_a_name_that_nobody_knows() -> None:
    path = "/dev/storpool/gone"
    assert found(disks=[used(global_id=None, path=path)]) == [("not-attached", None, path, VM.uuid)]


def test_an_attachment_that_no_machine_has() -> None:
    assert found([attached()], linked()) == [("not-used", GID, PATH, None)]


def test_a_device_of_another_mode() -> None:
    assert found([attached()], linked("ro"), [used()]) == [("wrong-mode", GID, PATH, None)]


def test_a_disk_of_another_mode() -> None:
    expected = [("wrong-mode", GID, PATH, VM.uuid)]
    assert found([attached(mode="ro")], linked("ro"), [used("rw")]) == expected
    assert found([attached()], linked(), [used("ro")]) == expected


def test_a_guest_that_was_asked_to_let_go_is_told_once() -> None:
    pending = PendingUnplug(GID, VM.uuid, "request-1")
    expected = [("unplug-pending", GID, PATH, VM.uuid)]
    assert found([attached()], linked(), [used()], [pending]) == expected
    assert found([attached()], linked(), [], [pending]) == expected


def test_two_that_write() -> None:
    expected = [("two-writers", GID, PATH, VM.uuid)]
    assert found([attached(), attached(2)], linked(), [used()]) == expected
    (told,) = drifts(Picture(OUR_ID, [attached(3), attached(), attached(2)], linked(), [used()], ()), THEN)
    assert "client 2, 3" in told.detail


def test_all_that_is_wrong_is_told_the_worst_first() -> None:
    kinds = [kind for kind, *_ in found([attached(), attached(2)], linked("ro"))]
    assert kinds == ["two-writers", "wrong-mode", "not-used"]


def drift(kind: Any, path: str | None = PATH, detail: str = "", seen: datetime = THEN) -> Drift:
    return Drift(
        kind=kind, global_id=GID, path=path, vm=None, detail=detail, first_seen=seen, evidence=[], repair="virsh list"
    )


def test_what_was_not_there_a_moment_ago_is_not_told_and_what_was_is_as_old() -> None:
    earlier = [drift("not-used", detail="then"), drift("no-device")]
    later = [drift("not-used", detail="now", seen=NOW), drift("wrong-mode"), drift("no-device", None)]
    assert lasting(earlier, later) == [drift("not-used", detail="now", seen=THEN)]


def test_the_evidence_is_what_each_side_says() -> None:
    (told,) = drifts(Picture(OUR_ID, [attached(), attached(2)], linked(), [used()], ()), THEN)
    assert told.evidence == [
        "StorPool: attached rw to client 1, this host",
        "StorPool: attached rw to client 2",
        f"kernel: {PATH} leads to /dev/sp-1, rw",
        f"libvirt: disk vdb of vm1 (running), rw, {PATH}",
    ]
    (told,) = drifts(Picture(OUR_ID, (), {}, [used(global_id=None, path="/dev/storpool/gone")], ()), THEN)
    assert told.evidence == ["libvirt: disk vdb of vm1 (running), rw, /dev/storpool/gone"]
    (told, _) = drifts(Picture(OUR_ID, [attached()], linked(None, there=False), (), ()), THEN)
    assert told.evidence == [
        "StorPool: attached rw to client 1, this host",
        f"kernel: no link {PATH}",
        "libvirt: no machine has it",
    ]


PENDING = PendingUnplug(GID, VM.uuid, "request-1")
BROKEN = {
    "two-writers-with-a-machine": Picture(OUR_ID, [attached(), attached(2)], linked(), [used()], (), host="kvm1"),
    "two-writers-without": Picture(OUR_ID, [attached(), attached(2)], linked(), (), (), host="kvm1"),
    "a-disk-not-attached": Picture(OUR_ID, (), {}, [used("ro")], (), host="kvm1"),
    "a-link-not-attached": Picture(OUR_ID, (), linked(), (), (), host="kvm1"),
    "no-device": Picture(OUR_ID, [attached()], linked(None), [used()], (), host="kvm1"),
    "a-device-of-another-mode": Picture(OUR_ID, [attached()], linked("ro"), [used()], (), host="kvm1"),
    "a-disk-of-another-mode": Picture(OUR_ID, [attached()], linked(), [used("ro")], (), host="kvm1"),
    "an-unplug": Picture(OUR_ID, [attached()], linked(), [used()], [PENDING], host="kvm1"),
    "not-used": Picture(OUR_ID, [attached()], linked(), (), (), host="kvm1"),
    "a-snapshot": Picture(OUR_ID, [Attachment(GID, OUR_ID, "ro", snapshot=True)], linked("ro"), (), (), host="kvm1"),
}


@pytest.mark.parametrize("picture", BROKEN.values(), ids=BROKEN)
def test_a_repair_is_a_command_that_there_is(picture: Picture) -> None:
    """Written as a person would have to: the subcommand is one, its options make a command of the wire."""
    for told in drifts(picture, THEN):
        for line in told.repair.split(" && "):
            words = shlex.split(line)
            if words[0] == "storpool":
                assert words == ["storpool", "detach", "volume", f"~{GID}", "client", "2"]
                continue
            assert words[:3] == ["storpool-ctl", "--host", "kvm1"]
            [model] = [each for each in COMMANDS if subcommand_name(wire_name(each)) == words[3]]
            made = click.Command(words[3], params=list(fields.options(model))).make_context(words[3], words[4:])
            assert fields.made(model, made.params)


def test_the_other_writer_is_detached_where_a_machine_runs_with_the_volume_here() -> None:
    here, elsewhere = (drifts(BROKEN[f"two-writers-{name}"], THEN)[0].repair for name in ("with-a-machine", "without"))
    assert here == f"storpool detach volume ~{GID} client 2"
    assert elsewhere == f"storpool-ctl --host kvm1 disconnect-physical-disk --volume ~{GID}"


def test_a_disk_that_nobody_knows_is_to_be_looked_at() -> None:
    (told,) = drifts(Picture(OUR_ID, (), {}, [used(global_id=None, path="/dev/storpool/gone")], ()), THEN)
    assert told.repair == f"virsh domblklist {VM.uuid}"
