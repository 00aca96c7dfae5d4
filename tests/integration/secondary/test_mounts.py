# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Mounted exactly while somebody uses it."""

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mount_helper import NfsServer
from nas import EXPORT, Nas
from storpool_agent.errors import SecondaryNotAllowed, SecondaryUnavailable
from storpool_agent.secondary import mountinfo, mounting
from storpool_agent.secondary.storage import SecondaryStorage
from storpool_agent.settings import Secondary

WAIT_S = 20.0


def umount(point: Path, *options: str) -> None:
    subprocess.run(["umount", *options, str(point)], check=True, timeout=WAIT_S)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=WAIT_S)


def test_a_store_is_mounted_for_its_owner_with_options_that_make_it_harmless(nas: Nas) -> None:
    agent = nas.agent()
    assert nas.mounted == []
    agent.acquire(nas.store, "r1")
    found = mountinfo.of(descriptor := os.open(nas.point, os.O_RDONLY))
    os.close(descriptor)
    assert found is not None
    assert found.source == f"{nas.server.name}:{EXPORT}"
    assert found.options >= {"nosuid", "nodev", "noexec", "rw"}
    ((_, options),) = nas.server.mounts
    assert set(options.split(",")) >= set(mounting.OPTIONS.split(","))
    agent.release(nas.store, "r1")
    assert nas.mounted == []
    assert list(nas.mount_dir.iterdir()) == []


def test_two_owners_share_one_mount_until_the_second_has_released_it(nas: Nas) -> None:
    agent = nas.agent()
    for owner in ("r1", "r2", "r1"):
        agent.acquire(nas.store, owner)
    assert len(nas.server.mounts) == 1
    agent.release(nas.store, "r1")
    agent.release(nas.store, "r1")
    assert len(nas.mounted) == 1
    agent.release(nas.store, "r2")
    assert nas.mounted == []


def test_the_second_waits_for_the_mount_of_the_first(nas: Nas) -> None:
    agent, gate = nas.agent(), nas.server.hang()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(agent.acquire, nas.store, owner) for owner in ("r1", "r2")]
        gate.open("w").close()  # only when mount.nfs has begun to read it
        for each in both:
            each.result(WAIT_S)
    assert len(nas.server.mounts) == 1
    for owner in ("r1", "r2"):
        agent.release(nas.store, owner)
    assert nas.mounted == []


def test_a_server_that_hangs_holds_up_nobody_elses_store(nas: Nas) -> None:
    agent, other = nas.agent(), NfsServer()
    gate = other.hang()
    store = other.export("/x", nas.disk.path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(agent.acquire, store, "r1")
        with gate.open("w"):  # mount.nfs reads it now, until it is closed
            agent.acquire(nas.store, "r2")
            agent.release(nas.store, "r2")
            assert not waiting.done()
        waiting.result(WAIT_S)
    agent.release(store, "r1")
    other.close()


def test_a_mount_that_hangs_is_ended_with_its_helper(nas: Nas) -> None:
    agent = nas.agent(mount_timeout_s=0.5)
    nas.server.hang()
    with pytest.raises(SecondaryUnavailable, match=r"did not come back within 0\.5 s"):
        agent.acquire(nas.store, "r1")
    ((pid, _),) = nas.server.mounts
    assert not is_running(pid)
    assert nas.mounted == []
    nas.server.answer()
    agent.acquire(nas.store, "r1")
    agent.release(nas.store, "r1")


def is_running(pid: int) -> bool:
    """A process that is only waiting to be reaped is not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_mount_says_is_told_on_one_line_without_control_characters(nas: Nas) -> None:
    nas.server.refuse("mount.nfs: access denied by server\n\x1b[31mwhile mounting\x07\n" + "x" * 1000)
    with pytest.raises(SecondaryUnavailable, match=r"access denied by server \[31mwhile mounting x+$") as caught:
        nas.agent().acquire(nas.store, "r1")
    assert len(str(caught.value)) < 600
    assert caught.value.facts["store"] == nas.store
    assert nas.mounted == []


def test_a_server_that_nobody_knows_is_unavailable(nas: Nas) -> None:
    with pytest.raises(SecondaryUnavailable, match="Failed to resolve server"):
        nas.agent().acquire("nfs://no-such.test/export", "r1")


def test_an_owner_whose_mount_failed_does_not_have_the_store(nas: Nas) -> None:
    agent = nas.agent()
    nas.server.refuse("no")
    with pytest.raises(SecondaryUnavailable):
        agent.acquire(nas.store, "r1")
    nas.server.answer()
    with pytest.raises(SecondaryUnavailable, match="not in use by any job"):
        agent.exists(nas.store, "x")


def test_only_the_servers_of_the_settings_are_mounted(tmp_path: Path) -> None:
    settings = Secondary(nfs_servers=["NAS1.test", "fd00::1"], mount_dir=tmp_path / "mounts")
    agent = SecondaryStorage(settings, tmp_path)
    for allowed in ("nfs://nas1.test/export", "nfs://[fd00::1]/export"):
        agent.check(allowed)
    for refused in ("nfs://nas2.test/export", "nfs://nas1.test.evil.test/export", "nfs://[fd00::11]/export"):
        with pytest.raises(SecondaryNotAllowed, match=r"secondary\.nfs_servers"):
            agent.acquire(refused, "r1")
    assert not (tmp_path / "mounts").exists()


def test_the_next_start_takes_over_what_is_mounted(nas: Nas) -> None:
    before, after = nas.agent(), nas.agent()
    before.acquire(nas.store, "r1")
    before.write_text(nas.store, "a", "text")
    after.acquire(nas.store, "r1")
    assert len(nas.server.mounts) == 1
    assert after.exists(nas.store, "a")
    after.release(nas.store, "r1")
    assert nas.mounted == []


def test_the_next_start_sweeps_what_nobody_uses_any_more(nas: Nas) -> None:
    nas.agent().acquire(nas.store, "r1")
    after = nas.agent()
    after.sweep()
    assert nas.mounted == []
    assert list(nas.mount_dir.iterdir()) == []


def test_sweeping_leaves_what_is_used(nas: Nas) -> None:
    nas.agent().acquire(nas.store, "r1")
    after = nas.agent()
    after.acquire(nas.store, "r1")
    after.sweep()
    assert not after.exists(nas.store, "x")
    after.release(nas.store, "r1")
    after.sweep()
    assert nas.mounted == []


def test_a_mount_that_is_busy_stays_and_is_swept_later(nas: Nas) -> None:
    agent = nas.agent()
    agent.acquire(nas.store, "r1")
    agent.write_text(nas.store, "a", "text")
    image = agent.open_image(nas.store, "a")
    with capture_logs() as logs:
        agent.release(nas.store, "r1")
        agent.sweep()
    assert [(each["event"], "busy" in each["reason"]) for each in logs] == [("secondary not unmounted", True)] * 2
    assert len(nas.mounted) == 1
    assert os.pread(image, 9, 0) == b"text"
    os.close(image)
    agent.sweep()
    assert nas.mounted == []


def test_a_busy_mount_is_taken_into_use_again(nas: Nas) -> None:
    agent = nas.agent()
    agent.acquire(nas.store, "r1")
    holder = os.open(nas.point, os.O_RDONLY)
    agent.release(nas.store, "r1")
    agent.acquire(nas.store, "r2")
    os.close(holder)
    assert len(nas.server.mounts) == 1
    agent.release(nas.store, "r2")
    assert nas.mounted == []


@pytest.mark.parametrize("options", ["rw", "nosuid,nodev"])
def test_what_is_mounted_otherwise_is_not_taken_over_but_mounted_anew(nas: Nas, options: str) -> None:
    agent = nas.agent()
    agent.acquire(nas.store, "r1")
    mount("-o", f"remount,bind,{options},exec", str(nas.point))
    with pytest.raises(SecondaryUnavailable, match=r"is mounted without .*noexec"):
        agent.exists(nas.store, "x")
    after = nas.agent()
    after.acquire(nas.store, "r1")
    assert not after.exists(nas.store, "x")
    assert len(nas.server.mounts) == 2
    after.release(nas.store, "r1")


def test_something_else_that_is_mounted_there_and_in_use_is_left_alone(nas: Nas) -> None:
    agent = nas.agent()
    agent.acquire(nas.store, "r1")
    point = nas.point
    agent.release(nas.store, "r1")
    point.mkdir()
    mount("-t", "tmpfs", "somebodys", str(point))
    with (point / "file").open("w"), pytest.raises(SecondaryUnavailable, match="something else is mounted"):
        agent.acquire(nas.store, "r1")
    assert nas.mounted == [point]
    umount(point)


def test_two_exports_of_one_server_are_two_mounts(nas: Nas) -> None:
    agent = nas.agent()
    second = nas.disk.path / "second"
    second.mkdir()
    other = nas.server.export("/export/other", second)
    for store in (nas.store, other):
        agent.acquire(store, "r1")
        agent.write_text(store, "name", store)
    assert len(nas.mounted) == 2
    assert ((nas.files / "name").read_text(), (second / "files/name").read_text()) == (nas.store, other)
    for store in (nas.store, other):
        agent.release(store, "r1")


def test_an_export_may_have_blanks_and_commas_in_its_name(nas: Nas) -> None:
    agent, odd = nas.agent(), nas.disk.path / "odd"
    odd.mkdir()
    store = nas.server.export("/for kvm,1/a:b=c", odd)
    agent.acquire(store, "r1")
    assert not agent.exists(store, "x")
    agent.release(store, "r1")


def test_eight_at_once_find_it_mounted_whenever_they_have_it(nas: Nas) -> None:
    agent, start = nas.agent(), threading.Barrier(8)

    def use(owner: str) -> None:
        start.wait(WAIT_S)
        for _ in range(100):
            agent.acquire(nas.store, owner)
            assert not agent.exists(nas.store, "x")
            agent.release(nas.store, owner)

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(use, f"r{number}") for number in range(8)]:
            each.result()
    assert nas.mounted == []
    assert list(nas.mount_dir.iterdir()) == []
