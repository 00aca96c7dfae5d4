# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is taken for a device, and what is not."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from device_root import DeviceRoot
from storpool_agent.devices.tree import DeviceTree
from storpool_agent.errors import DeviceMismatch

GID = "d.n.a1"
MIB = 1 << 20


def test_a_device_is_read_by_one_opening(tree: DeviceTree, root: DeviceRoot) -> None:
    loop = root.attached(GID, MIB)
    device = tree.look(GID)
    assert device is not None
    assert (device.size_bytes, device.mode, device.number) == (MIB, "rw", loop.stat().st_rdev)
    assert device.node == str(root.path / "sp-1")
    assert device.sequence == int(Path(f"/sys/block/{loop.name}/diskseq").read_text())


def test_a_read_only_device_is_seen_as_such(tree: DeviceTree, root: DeviceRoot) -> None:
    root.attached(GID, MIB, read_only=True)
    device = tree.look(GID)
    assert device is not None
    assert device.mode == "ro"


def test_nothing_is_there(tree: DeviceTree, root: DeviceRoot) -> None:
    assert tree.look(GID) is None
    root.link(GID, root.path / "sp-7")
    assert tree.look(GID) is None, "a link that leads nowhere"


def test_every_link_that_is_named_by_a_global_id_is_told(tree: DeviceTree, root: DeviceRoot) -> None:
    assert tree.linked() == ()
    root.attached(GID, MIB)
    root.link("d.n.9z", root.path / "sp-7")
    for stranger in (".d.n.a1.4711", "vm-1", "d.n.a1-part1"):
        root.link(stranger, root.path / "sp-1")
    assert tree.linked() == ("d.n.9z", GID)


def test_a_host_without_the_directory_has_no_links(tmp_path: Path) -> None:
    assert DeviceTree(tmp_path / "nothing").linked() == ()


def test_a_link_may_be_relative_as_udev_makes_it(tree: DeviceTree, root: DeviceRoot) -> None:
    root.node(root.loop(MIB), "loop1000")
    root.link(GID, Path("../loop1000"))
    device = tree.look(GID)
    assert device is not None
    assert device.node == str(root.path / "loop1000")


def test_what_is_no_block_device_is_refused(tree: DeviceTree, root: DeviceRoot) -> None:
    """A `dd of=` that came too early leaves a file where the device should be."""
    planted = root.path / "sp-9"
    planted.write_bytes(b"data")
    root.link(GID, planted)
    with pytest.raises(DeviceMismatch, match="no block device"):
        tree.look(GID)
    Path(tree.link(GID)).unlink()
    Path(tree.link(GID)).write_bytes(b"data")
    with pytest.raises(DeviceMismatch, match="no block device"):
        tree.look(GID)


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket"])
def test_what_is_no_file_either_is_refused_and_not_opened(
    tree: DeviceTree, root: DeviceRoot, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = root.path / "sp-9"
    monkeypatch.chdir(root.path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        make: dict[str, Callable[[], object]] = {
            "directory": planted.mkdir,
            "fifo": lambda: os.mkfifo(planted),
            "socket": lambda: server.bind("sp-9"),
        }
        make[kind]()
        root.link(GID, planted)
        with pytest.raises(DeviceMismatch, match="no block device"):
            tree.look(GID)


def test_a_link_out_of_the_root_is_refused(tree: DeviceTree, root: DeviceRoot) -> None:
    root.link(GID, root.loop(MIB))
    with pytest.raises(DeviceMismatch, match="not under"):
        tree.look(GID)
    root.link(GID, Path("/etc/passwd"))
    with pytest.raises(DeviceMismatch, match="not under"):
        tree.look(GID)


def test_links_in_a_circle_are_refused(tree: DeviceTree, root: DeviceRoot) -> None:
    root.link(GID, Path(tree.link(GID)))
    with pytest.raises(DeviceMismatch, match="cannot be opened"):
        tree.look(GID)


def test_a_link_that_moves_never_shows_one_device_as_another(tree: DeviceTree, root: DeviceRoot) -> None:
    nodes = [root.node(root.loop(MIB), "sp-1"), root.node(root.loop(2 * MIB), "sp-2")]
    sizes = {str(nodes[0]): MIB, str(nodes[1]): 2 * MIB}
    root.link(GID, nodes[0])
    stop = Event()

    def move() -> None:
        while not stop.is_set():
            for node in nodes:
                root.link(GID, node)

    mover = Thread(target=move)
    mover.start()
    seen = 0
    for _ in range(300):
        try:
            device = tree.look(GID)
        except DeviceMismatch:  # it moved under every look
            continue
        assert device is not None
        assert device.size_bytes == sizes[device.node]
        seen += 1
    stop.set()
    mover.join()
    assert seen
