# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Secondary storage that is lost, full, read-only or broken: an error that says so, and nothing written elsewhere."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from nas import Nas
from storpool_agent.errors import (
    AgentError,
    ImageRefused,
    SecondaryFull,
    SecondaryReadOnly,
    SecondaryUnavailable,
)
from storpool_agent.secondary.model import Part
from storpool_agent.secondary.storage import SecondaryStorage

pytestmark = pytest.mark.long

PATH = "volumes/1/1/image.qcow2"
WAIT_S = 20.0
Lose = Callable[[Nas], None]


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=WAIT_S)


@pytest.fixture
def agent(nas: Nas) -> Iterator[SecondaryStorage]:
    made = nas.agent()
    made.acquire(nas.store, "r1")
    yield made
    made.release(nas.store, "r1")


def begun(agent: SecondaryStorage, nas: Nas) -> Part:
    part = agent.create_part(nas.store, PATH, "r1")
    os.write(part.descriptor, b"data")
    return part


def unmounted(nas: Nas) -> None:
    run("umount", "--lazy", str(nas.point))


def covered(nas: Nas) -> None:
    run("mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "somebodys", str(nas.point))


def replaced_by_another_export(nas: Nas) -> None:
    point, other = nas.point, nas.disk.path / "other"
    other.mkdir()
    unmounted(nas)
    store = nas.server.export("/other", other)
    source = store.removeprefix("nfs://").replace("/", ":/", 1)
    run("mount", "-t", "nfs", "-o", "nosuid,nodev,noexec", source, str(point))


def mounted_again(nas: Nas) -> None:
    point = nas.point
    unmounted(nas)
    source = nas.store.removeprefix("nfs://").replace("/", ":/", 1)
    run("mount", "-t", "nfs", "-o", "nosuid,nodev,noexec", source, str(point))


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(unmounted, id="unmounted under the job"),
        pytest.param(covered, id="another file system mounted over it"),
        pytest.param(replaced_by_another_export, id="another export mounted in its place"),
        pytest.param(mounted_again, id="mounted again by somebody"),
    ],
)
def test_a_store_that_is_not_what_it_was_is_not_used(agent: SecondaryStorage, nas: Nas, lose: Lose) -> None:
    agent.write_text(nas.store, "kept", "text")
    part = begun(agent, nas)
    lose(nas)
    for use in (
        lambda: agent.publish(part),
        lambda: agent.create_part(nas.store, "new/file", "r1"),
        lambda: agent.discard_part(nas.store, PATH, "r1"),
        lambda: agent.write_text(nas.store, "kept", "other"),
        lambda: agent.remove(nas.store, "kept"),
        lambda: agent.open_image(nas.store, "kept"),
        lambda: agent.exists(nas.store, "kept"),
        lambda: agent.acquire(nas.store, "r2"),
    ):
        with pytest.raises(SecondaryUnavailable, match=nas.store):
            use()
    assert not Path(f"/proc/self/fd/{part.descriptor}").exists()
    assert (nas.files / "kept").read_text() == "text"
    assert not (nas.files / PATH).exists()
    agent.release(nas.store, "r1")
    assert nas.below() == []


def test_after_a_loss_the_next_job_has_the_store_again_and_finds_what_was_left(
    agent: SecondaryStorage, nas: Nas
) -> None:
    part = begun(agent, nas)
    unmounted(nas)
    with pytest.raises(SecondaryUnavailable):
        agent.publish(part)
    agent.release(nas.store, "r1")
    agent.acquire(nas.store, "r1")
    assert agent.publish(begun(agent, nas)) == 4
    assert names(nas) == [PATH]


def names(nas: Nas) -> list[str]:
    return sorted(str(each.relative_to(nas.files)) for each in nas.files.rglob("*") if not each.is_dir())


def test_what_is_mounted_below_a_store_is_not_entered(agent: SecondaryStorage, nas: Nas) -> None:
    agent.write_text(nas.store, "inner/kept", "text")
    run("mount", "-t", "tmpfs", "somebodys", str(nas.point / "inner"))
    with pytest.raises(ImageRefused, match="another file system"):
        agent.create_part(nas.store, "inner/new", "r1")
    run("umount", str(nas.point / "inner"))


@pytest.mark.parametrize("kind", ["b", "c"])
def test_a_device_is_no_image(agent: SecondaryStorage, nas: Nas, kind: str) -> None:
    run("mknod", str(nas.files / "odd"), kind, "7", "0")
    with pytest.raises(ImageRefused, match="device"):
        agent.open_image(nas.store, "odd")


def test_a_full_store_says_how_much_is_free_and_keeps_nothing_half(agent: SecondaryStorage, nas: Nas) -> None:
    agent.write_text(nas.store, "text", "old")
    nas.disk.fill()
    with pytest.raises(SecondaryFull) as caught:
        agent.write_text(nas.store, "text", "x" * 8192)
    free = caught.value.facts["free_bytes"]
    assert isinstance(free, int)
    assert free < 8192
    assert names(nas) == ["text"]
    assert (nas.files / "text").read_text() == "old"
    nas.disk.free()
    agent.write_text(nas.store, "text", "new")
    assert (nas.files / "text").read_text() == "new"


def test_a_store_without_room_for_a_name_is_full(agent: SecondaryStorage, nas: Nas) -> None:
    nas.disk.use_up_inodes()
    for use in (
        lambda: agent.create_part(nas.store, "new", "r1"),
        lambda: agent.create_part(nas.store, "new/file", "r1"),
        lambda: agent.write_text(nas.store, "new", ""),
    ):
        with pytest.raises(SecondaryFull):
            use()
    assert names(nas) == []


def test_a_read_only_store_is_read_and_not_written(agent: SecondaryStorage, nas: Nas) -> None:
    agent.write_text(nas.store, "kept", "text")
    part = begun(agent, nas)
    agent.publish(part)
    run("mount", "-o", "remount,bind,ro,nosuid,nodev,noexec", str(nas.point))
    for use in (
        lambda: agent.create_part(nas.store, "new", "r1"),
        lambda: agent.create_part(nas.store, "new/file", "r1"),
        lambda: agent.write_text(nas.store, "kept", "other"),
        lambda: agent.remove(nas.store, "kept"),
    ):
        with pytest.raises(SecondaryReadOnly, match="read-only"):
            use()
    os.close(agent.open_image(nas.store, "kept"))
    assert (nas.files / "kept").read_text() == "text"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM], ids=os.strerror)
def test_a_store_that_this_host_may_not_write_is_read_only(
    agent: SecondaryStorage, nas: Nas, mocker: MockerFixture, number: int
) -> None:
    """As an export with root_squash is: here, root may write everything."""
    mocker.patch.object(os, "mkdir", side_effect=OSError(number, os.strerror(number)))
    with pytest.raises(SecondaryReadOnly, match="root_squash"):
        agent.create_part(nas.store, PATH, "r1")


def test_a_file_that_this_host_may_not_read_is_unavailable(
    agent: SecondaryStorage, nas: Nas, mocker: MockerFixture
) -> None:
    agent.write_text(nas.store, "kept", "text")
    opening = mocker.patch.object(os, "stat", side_effect=PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(SecondaryUnavailable, match="Permission denied"):
        agent.exists(nas.store, "kept")
    mocker.stop(opening)


def test_a_file_system_that_fails_is_unavailable_and_nothing_has_its_name(xfs_nas: Nas) -> None:
    agent = xfs_nas.agent()
    agent.acquire(xfs_nas.store, "r1")
    agent.write_text(xfs_nas.store, "kept", "text")
    part = begun(agent, xfs_nas)
    xfs_nas.disk.shut_down()
    with pytest.raises(SecondaryUnavailable):
        agent.publish(part)
    for use in (
        lambda: agent.create_part(xfs_nas.store, "new", "r1"),
        lambda: agent.write_text(xfs_nas.store, "kept", "other"),
    ):
        with pytest.raises(AgentError) as caught:
            use()
        assert isinstance(caught.value, SecondaryUnavailable)
    agent.release(xfs_nas.store, "r1")
    assert xfs_nas.mounted == []


def test_a_store_that_fails_under_a_file_is_unmounted_all_the_same(xfs_nas: Nas) -> None:
    """What was begun cannot be discarded there; nor may it keep the mount busy."""
    agent = xfs_nas.agent()
    agent.acquire(xfs_nas.store, "r1")
    begun(agent, xfs_nas)
    xfs_nas.disk.shut_down()
    with pytest.raises(SecondaryUnavailable):
        agent.acquire(xfs_nas.store, "r1-part")
    agent.release(xfs_nas.store, "r1")
    assert xfs_nas.mounted == []


def test_an_image_is_read_past_the_page_cache(xfs_nas: Nas) -> None:
    agent = xfs_nas.agent()
    agent.acquire(xfs_nas.store, "r1")
    part = agent.create_part(xfs_nas.store, PATH, "r1")
    direct = os.open(f"/proc/self/fd/{part.descriptor}", os.O_RDWR | os.O_DIRECT)
    os.ftruncate(direct, 1 << 20)
    os.close(direct)
    agent.publish(part)
    image = agent.open_image(xfs_nas.store, PATH)
    direct = os.open(f"/proc/self/fd/{image}", os.O_RDONLY | os.O_DIRECT)
    assert os.lseek(direct, 0, os.SEEK_HOLE) == 0
    for each in (direct, image):
        os.close(each)
    agent.release(xfs_nas.store, "r1")
