# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The watch that every test is under notices a loop device, a mount and a domain."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import leaks
from block_device import eventually
from guest import SilentGuest
from host_namespaces import Namespaces
from leaks import Watch


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "SETTLE_S", 0.0)


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch((tmp_path,))


def test_a_loop_device_over_a_file_of_this_run_is_noticed(watch: Watch, make_device: Callable[[int], Path]) -> None:
    device = make_device(1)
    assert watch.left_behind() == {f"loop device {device}"}


def test_a_loop_device_over_somebody_elses_file_is_not(make_device: Callable[[int], Path], tmp_path: Path) -> None:
    watch = Watch((tmp_path / "another",))
    make_device(1)
    assert watch.left_behind() == set()


def test_a_mount_is_noticed(watch: Watch, tmp_path: Path) -> None:
    point = tmp_path / "mounted"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True, timeout=10)
    try:
        assert watch.left_behind() == {f"mount {point}"}
    finally:
        subprocess.run(["umount", point], check=True, timeout=10)


def test_a_domain_is_noticed(run_directory: Path) -> None:
    watch = Watch((run_directory,))
    with SilentGuest() as guest:
        assert watch.left_behind() == {f"domain {guest.name}"}
    assert watch.left_behind() == set()


def test_a_process_of_a_host_in_a_test_is_noticed(watch: Watch, tmp_path: Path) -> None:
    own, here = tmp_path / "host", tmp_path / "here"
    own.mkdir()
    here.mkdir()
    host = Namespaces("kvm1", tmp_path, {own: here})
    try:
        assert any("(cat) in a network of its own" in each for each in watch.left_behind())
    finally:
        host.close()
    assert watch.left_behind() == set()


def test_a_process_of_another_worker_that_has_a_copy_of_our_mounts_is_not(watch: Watch, tmp_path: Path) -> None:
    point = tmp_path / "mounted"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True, timeout=10)
    isolated = subprocess.Popen(["unshare", "--net", "--mount", "cat"], stdin=subprocess.PIPE)
    try:
        assert eventually(lambda: Path(f"/proc/{isolated.pid}/comm").read_text() == "cat\n")
        assert "network of its own" not in str(watch.left_behind())
    finally:
        isolated.communicate(timeout=10)
        subprocess.run(["umount", point], check=True, timeout=10)
