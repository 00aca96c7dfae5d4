# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Waiting for a device to come, to grow and to go."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer
from time import monotonic

import pytest
from pytest_mock import MockerFixture

from device_root import DeviceRoot, run
from storpool_agent.deadline import Deadline
from storpool_agent.devices import uevents
from storpool_agent.devices.tree import DeviceTree
from storpool_agent.devices.uevents import Uevents
from storpool_agent.errors import DetachIncomplete, DeviceMismatch, DeviceTimeout, SizeNotPropagated

GID = "d.n.a1"
MIB = 1 << 20
PROMPT_S = 3.0  # far above the longest pause between looks, far below the deadlines


@contextmanager
def later(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    timer = Timer(seconds, act)
    timer.start()
    yield
    timer.join()


def test_a_device_that_is_there_costs_no_wait(tree: DeviceTree, root: DeviceRoot, mocker: MockerFixture) -> None:
    waited = mocker.spy(Uevents, "wait")
    root.attached(GID, MIB)
    tree.wait_ready(GID, MIB, "rw", Deadline.after(10))
    tree.wait_size(GID, MIB, Deadline.after(10))
    waited.assert_not_called()


def test_a_late_link_is_seen_soon(tree: DeviceTree, root: DeviceRoot) -> None:
    """It is made without udev: no event comes with it."""
    node = root.node(root.loop(MIB))
    began = monotonic()
    with later(0.3, lambda: root.link(GID, node)):
        assert tree.wait_ready(GID, MIB, "rw", Deadline.after(10)).size_bytes == MIB
    assert 0.3 < monotonic() - began < 0.3 + PROMPT_S


def test_a_link_that_never_comes_is_a_timeout_with_what_was_seen(tree: DeviceTree, root: DeviceRoot) -> None:
    with pytest.raises(DeviceTimeout, match="there is no link") as caught:
        tree.wait_ready(GID, MIB, "rw", Deadline.after(0.2))
    assert (caught.value.facts["link"], caught.value.facts["node"]) == (False, False)
    root.link(GID, root.path / "sp-7")
    with pytest.raises(DeviceTimeout, match="where no device is") as caught:
        tree.wait_ready(GID, MIB, "rw", Deadline.after(0.2))
    assert (caught.value.facts["link"], caught.value.facts["node"]) == (True, False)


def test_a_host_without_storpool_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceTimeout, match="storpool_block"):
        DeviceTree(tmp_path).wait_ready(GID, MIB, "rw", Deadline.after(0.1))


def test_a_wrong_size_or_mode_is_waited_for_and_then_refused(tree: DeviceTree, root: DeviceRoot) -> None:
    root.attached(GID, MIB, read_only=True)
    began = monotonic()
    with pytest.raises(DeviceMismatch) as caught:
        tree.wait_ready(GID, 2 * MIB, "ro", Deadline.after(0.3))
    assert monotonic() - began >= 0.3
    assert (caught.value.facts["size_bytes"], caught.value.facts["wanted_size_bytes"]) == (MIB, 2 * MIB)
    with pytest.raises(DeviceMismatch, match="ro, instead of") as caught:
        tree.wait_ready(GID, MIB, "rw", Deadline.after(0.1))
    assert (caught.value.facts["mode"], caught.value.facts["wanted_mode"]) == ("ro", "rw")


def test_a_planted_file_is_replaced_in_time(tree: DeviceTree, root: DeviceRoot) -> None:
    node = root.node(root.loop(MIB))
    Path(tree.link(GID)).write_bytes(b"")
    with later(0.2, lambda: root.link(GID, node)):
        tree.wait_ready(GID, MIB, "rw", Deadline.after(10))


def test_growth_is_seen_by_its_event(tree: DeviceTree, root: DeviceRoot) -> None:
    loop = root.attached(GID, MIB)
    backing = root.scratch / "backing-0"

    def grow() -> None:
        with backing.open("r+b") as file:
            file.truncate(2 * MIB)
        run("losetup", "--set-capacity", loop)

    with later(0.3, grow):
        assert tree.wait_size(GID, 2 * MIB, Deadline.after(10)).size_bytes == 2 * MIB
    with pytest.raises(SizeNotPropagated) as caught:
        tree.wait_size(GID, 3 * MIB, Deadline.after(0.2))
    assert caught.value.facts["size_bytes"] == 2 * MIB


def test_a_device_is_gone_with_its_link_and_its_node(tree: DeviceTree, root: DeviceRoot) -> None:
    root.attached(GID, MIB)
    device = tree.wait_ready(GID, MIB, "rw", Deadline.after(10))
    with pytest.raises(DetachIncomplete, match="sp-1") as caught:
        tree.wait_gone(GID, device, Deadline.after(0.1))
    assert (caught.value.facts["link"], caught.value.facts["node"]) == (True, device.node)
    Path(device.link).unlink()
    with pytest.raises(DetachIncomplete) as caught:
        tree.wait_gone(GID, device, Deadline.after(0.1))
    assert (caught.value.facts["link"], caught.value.facts["node"]) == (False, device.node)
    with later(0.2, Path(device.node).unlink):
        tree.wait_gone(GID, device, Deadline.after(10))


def test_a_link_that_stays_is_not_gone(tree: DeviceTree, root: DeviceRoot) -> None:
    root.link(GID, root.path / "sp-7")
    with pytest.raises(DetachIncomplete):
        tree.wait_gone(GID, None, Deadline.after(0.1))


def test_a_node_that_is_another_device_by_now_is_gone(tree: DeviceTree, root: DeviceRoot) -> None:
    """Node name and number are used again; the kernel's sequence number is not."""
    root.attached(GID, MIB)
    device = tree.wait_ready(GID, MIB, "rw", Deadline.after(10))
    Path(device.link).unlink()
    tree.wait_gone(GID, replace(device, sequence=device.sequence - 1), Deadline.after(1))


@pytest.mark.parametrize("udevd", [True, False])
def test_events_are_heard_with_and_without_udevd(
    root: DeviceRoot, udevd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not udevd:
        monkeypatch.setattr(uevents, "UDEV_CONTROL", root.path / "nowhere")
    events = Uevents()
    events.start()
    seen = events.count
    root.loop(MIB)
    assert events.wait(seen, 5)
    events.stop()


def test_lost_events_wake_everyone_and_the_thread_goes_on(root: DeviceRoot, mocker: MockerFixture) -> None:
    real = uevents._drain
    overflows = iter([OSError(errno.ENOBUFS, "No buffer space available")])

    def drain(descriptor: int) -> None:
        for overflow in overflows:
            raise overflow
        real(descriptor)

    mocker.patch.object(uevents, "_drain", side_effect=drain)
    events = Uevents()
    events.start()
    for seen_by in ("who waited looks again", "and the new monitor hears"):
        seen = events.count
        root.loop(MIB)
        assert events.wait(seen, 5), seen_by
    assert next(overflows, None) is None
    events.stop()


def test_without_a_start_looks_alone_find_it(root: DeviceRoot) -> None:
    node = root.node(root.loop(MIB))
    tree = DeviceTree(root.path)
    with later(0.2, lambda: root.link(GID, node)):
        tree.wait_ready(GID, MIB, "rw", Deadline.after(10))
    tree.stop()
