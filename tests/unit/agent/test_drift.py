# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Each kind of drift, and what is none."""

from collections.abc import Sequence
from typing import Any

import pytest

from storpool_agent.devices.model import Device
from storpool_agent.domains.model import DiskInDomain, Domain
from storpool_agent.drift import drifts, lasting
from storpool_agent.journal.journal import PendingUnplug
from storpool_agent.picture import Link, Picture, UsedDisk
from storpool_agent.storpool.model import Attachment
from storpool_commands.control import Drift
from storpool_commands.disks import Mode

GID = "d.n.a1"
PATH = f"/dev/storpool-byid/{GID}"
VM = Domain("0c8e2a5e-6f6c-4f0a-8f7a-0d3c1d7a9c11", "vm1", running=True, persistent=True)
OUR_ID = 1


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
    return [(one.kind, one.global_id, one.path, one.vm) for one in drifts(picture)]


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
    (told,) = drifts(Picture(OUR_ID, [attached(3), attached(), attached(2)], linked(), [used()], ()))
    assert "client 2, 3" in told.detail


def test_all_that_is_wrong_is_told_the_worst_first() -> None:
    kinds = [kind for kind, *_ in found([attached(), attached(2)], linked("ro"))]
    assert kinds == ["two-writers", "wrong-mode", "not-used"]


def drift(kind: Any, path: str | None = PATH, detail: str = "") -> Drift:
    return Drift(kind=kind, global_id=GID, path=path, vm=None, detail=detail)


def test_what_was_not_there_a_moment_ago_is_not_told() -> None:
    earlier = [drift("not-used", detail="then"), drift("no-device")]
    later = [drift("not-used", detail="now"), drift("wrong-mode"), drift("no-device", None)]
    assert lasting(earlier, later) == [later[0]]
