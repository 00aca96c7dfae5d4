# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Volumes as real block devices: what a host sees."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from block_device import BLOCK_BYTES, eventually, is_read_only, opened, read_block, size_of, write_block
from devcluster_process import ApiError, DevclusterProcess, running_devcluster

pytestmark = pytest.mark.services

NETLINK_KOBJECT_UEVENT, KERNEL_GROUP = 15, 1


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if not path.is_dir()]


def test_an_attached_volume_is_a_block_device_of_its_size(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create(size=5 << 20, name="disk")
    storpool.attach(gid)
    by_id, by_name = dev1 / "storpool-byid" / gid, dev1 / "storpool" / "disk"
    assert size_of(by_id) == 5 << 20
    assert by_name.readlink() == by_id.readlink() == dev1 / "sp-0"
    assert not is_read_only(by_id)


def test_a_volume_of_one_sector_can_be_attached(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create(size=512)
    storpool.attach(gid)
    assert size_of(dev1 / "storpool-byid" / gid) == 512


def test_an_unnamed_volume_is_linked_by_its_global_id(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create()
    storpool.attach(gid)
    assert sorted(path.name for path in (dev1 / "storpool").iterdir()) == [f"~{gid}"]


def test_a_detached_volume_leaves_neither_link_nor_node(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create()
    storpool.attach(gid)
    number = (dev1 / "sp-0").stat().st_rdev
    storpool.detach(gid)
    assert leftovers(dev1) == []
    storpool.sim.wait_for_removals()
    assert not Path(f"/dev/loop{os.minor(number)}").exists()


def test_a_volume_attached_ro_refuses_writes_until_it_is_rw(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create()
    device = dev1 / "storpool-byid" / gid
    storpool.attach(gid, rights="ro")
    assert is_read_only(device)
    with pytest.raises(PermissionError):
        write_block(device, b"no")
    storpool.attach(gid, rights="rw")
    write_block(device, b"yes")
    assert read_block(device) == b"yes"


def test_a_snapshot_keeps_what_the_volume_loses(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create(size=1 << 20)
    storpool.attach(gid)
    write_block(dev1 / "storpool-byid" / gid, b"before")
    snapshot = storpool.call("POST", f"VolumeSnapshot/~{gid}")["snapshotGlobalId"]
    write_block(dev1 / "storpool-byid" / gid, b"after")
    storpool.reassign({"snapshot": f"~{snapshot}", "ro": [1]})
    assert read_block(dev1 / "storpool-byid" / snapshot) == b"before"
    assert is_read_only(dev1 / "storpool-byid" / snapshot)
    clone = storpool.call("POST", "VolumeCreate", {"parent": f"~{snapshot}", "size": 2 << 20})["globalId"]
    storpool.attach(clone)
    assert read_block(dev1 / "storpool-byid" / clone) == b"before"
    assert size_of(dev1 / "storpool-byid" / clone) == 2 << 20


def test_what_was_written_without_a_flush_survives_a_detach(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create(size=8 << 20)
    device = dev1 / "storpool-byid" / gid
    for content in (b"1" * (8 << 20), b"2" * (8 << 20)):
        storpool.attach(gid)
        device.write_bytes(content)
        assert eventually(lambda: _detaches(storpool, gid))
        storpool.attach(gid)
        assert device.read_bytes() == content
        assert eventually(lambda: _detaches(storpool, gid))


def test_a_reverted_volume_has_the_data_of_the_snapshot(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create()
    device = dev1 / "storpool-byid" / gid
    storpool.attach(gid)
    write_block(device, b"before")
    snapshot = storpool.call("POST", f"VolumeSnapshot/~{gid}")["snapshotGlobalId"]
    write_block(device, b"after")
    storpool.detach(gid, force=True)
    storpool.call("POST", f"VolumeRevert/~{gid}", {"toSnapshot": f"~{snapshot}"})
    storpool.attach(gid)
    assert read_block(device) == b"before"


def test_a_resize_is_seen_by_who_has_the_device_open_and_by_udev(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create(size=1 << 20)
    storpool.attach(gid)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as uevents:
        uevents.bind((0, KERNEL_GROUP))
        uevents.settimeout(5)
        with opened(dev1 / "storpool-byid" / gid) as fd:
            number = os.minor(os.fstat(fd).st_rdev)
            storpool.call("POST", f"VolumeUpdate/~{gid}", {"size": 3 << 20})
            assert os.lseek(fd, 0, os.SEEK_END) == 3 << 20
        while not {f"DEVNAME=loop{number}", "RESIZE=1"} <= set(uevents.recv(65536).decode().split("\0")):
            pass


def test_detaching_an_open_device_is_busy_and_changes_nothing(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create(name="open-disk")
    device = dev1 / "storpool-byid" / gid
    storpool.attach(gid)
    with opened(device), pytest.raises(ApiError, match="'open-disk' is open at client 1") as refused:
        storpool.detach(gid)
    assert refused.value.name == "busy"
    write_block(device, b"still works")
    assert read_block(device) == b"still works"
    storpool.detach(gid)
    assert leftovers(dev1) == []


def test_a_mounted_device_is_busy(storpool: DevclusterProcess, dev1: Path, tmp_path: Path) -> None:
    gid = storpool.create(size=64 << 20)
    device = dev1 / "storpool-byid" / gid
    storpool.attach(gid)
    subprocess.run(["mkfs.ext4", "-q", str(device)], check=True, timeout=30)
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    subprocess.run(["mount", str(device.resolve()), str(mountpoint)], check=True, timeout=30)
    try:
        with pytest.raises(ApiError, match="is open at client 1"):
            storpool.detach(gid)
    finally:
        subprocess.run(["umount", str(mountpoint)], check=True, timeout=30)
    assert eventually(lambda: _detaches(storpool, gid))


def _detaches(storpool: DevclusterProcess, gid: str) -> bool:
    try:
        storpool.detach(gid)
    except ApiError as error:
        assert error.name == "busy"  # noqa: PT017  any other error has to surface
        return False
    return True


def test_one_busy_volume_keeps_the_others_of_its_call_attached(storpool: DevclusterProcess, dev1: Path) -> None:
    free, held = storpool.create(), storpool.create()
    storpool.attach(free)
    storpool.attach(held)
    write_block(dev1 / "storpool-byid" / free, b"kept")
    with opened(dev1 / "storpool-byid" / held), pytest.raises(ApiError, match="is open at"):
        storpool.reassign({"volume": f"~{free}", "detach": [1]}, {"volume": f"~{held}", "detach": [1]})
    assert {item["globalId"] for item in storpool.call("GET", "AttachmentsList")} == {free, held}
    assert read_block(dev1 / "storpool-byid" / free) == b"kept"
    assert size_of(dev1 / "storpool-byid" / free) == 1 << 20


def test_a_forced_detach_lets_the_device_fail_for_who_has_it_open(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create()
    storpool.attach(gid)
    with opened(dev1 / "storpool-byid" / gid, os.O_RDWR | os.O_DIRECT) as fd:
        storpool.detach(gid, force=True)
        assert leftovers(dev1) == []
        assert os.lseek(fd, 0, os.SEEK_END) == 0
        assert os.read(fd, BLOCK_BYTES) == b""
    storpool.attach(gid)
    assert size_of(dev1 / "storpool-byid" / gid) == 1 << 20


def test_two_clients_have_devices_of_their_own(storpool: DevclusterProcess, dev1: Path, dev2: Path) -> None:
    gid = storpool.create()
    storpool.reassign({"volume": f"~{gid}", "rw": [1, 2, 3]})
    assert size_of(dev1 / "storpool-byid" / gid) == size_of(dev2 / "storpool-byid" / gid) == 1 << 20
    storpool.detach(gid, client=1)
    assert leftovers(dev1) == []
    assert (dev2 / "storpool-byid" / gid).is_block_device()
    storpool.reassign({"volume": f"~{gid}", "rw": [1], "detach": "all"})
    assert [item["client"] for item in storpool.call("GET", "AttachmentsList")] == [1]
    assert leftovers(dev2) == []


def test_a_new_name_moves_the_link(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create(name="old")
    storpool.attach(gid)
    storpool.call("POST", "VolumeUpdate/old", {"rename": "new"})
    assert [path.name for path in (dev1 / "storpool").iterdir()] == ["new"]
    assert (dev1 / "storpool-byid" / gid).is_block_device()


def test_state_and_devices_are_back_after_a_kill(storpool: DevclusterProcess, dev1: Path) -> None:
    gids = [storpool.create(name=f"survivor-{number}") for number in range(3)]
    for gid in gids:
        storpool.attach(gid)
    write_block(dev1 / "storpool-byid" / gids[1], b"survives")
    storpool.kill()
    storpool.restart()
    assert {item["globalId"] for item in storpool.call("GET", "AttachmentsList")} == set(gids)
    assert all(size_of(dev1 / "storpool-byid" / gid) == 1 << 20 for gid in gids)
    assert read_block(dev1 / "storpool-byid" / gids[1]) == b"survives"


def test_a_device_that_is_open_while_the_cluster_is_killed_fails_and_is_made_anew(
    storpool: DevclusterProcess, dev1: Path
) -> None:
    gid = storpool.create()
    device = dev1 / "storpool-byid" / gid
    storpool.attach(gid)
    write_block(device, b"data")
    with opened(device) as fd:
        storpool.kill()
        storpool.restart()
        assert os.lseek(fd, 0, os.SEEK_END) == 0
        assert read_block(device) == b"data"


def test_it_ends_without_a_trace_and_starts_with_everything(storpool: DevclusterProcess, dev1: Path) -> None:
    gid = storpool.create()
    storpool.attach(gid)
    assert storpool.stop() == 0
    assert leftovers(dev1) == []
    storpool.start()
    assert size_of(dev1 / "storpool-byid" / gid) == 1 << 20


def test_two_clusters_share_one_device_directory(storpool: DevclusterProcess, dev1: Path) -> None:
    with running_devcluster({1: dev1}, options=["--cluster-id", "e.m"]) as other:
        first, second = storpool.create(), other.create()
        storpool.attach(first)
        other.attach(second)
        assert {path.name for path in dev1.glob("sp-*")} == {"sp-0", "sp-1"}
        storpool.kill()
        storpool.restart()
        assert size_of(dev1 / "storpool-byid" / second) == 1 << 20
        storpool.detach(first)
        assert size_of(dev1 / "storpool-byid" / second) == 1 << 20
    assert leftovers(dev1) == []


def test_attaching_and_detaching_at_once_from_many_threads_mixes_nothing_up(
    storpool: DevclusterProcess, dev1: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def go_round(size_blocks: int) -> None:
        gid = storpool.create(size=size_blocks * BLOCK_BYTES)
        for _ in range(5):
            storpool.attach(gid)
            assert size_of(dev1 / "storpool-byid" / gid) == size_blocks * BLOCK_BYTES
            assert eventually(lambda: _detaches(storpool, gid))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(go_round, range(1, 9)))
    assert leftovers(dev1) == []
