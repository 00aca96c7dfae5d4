# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The watch that every test is under notices what is left, and only that."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import leaks
from leaks import Watch


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "SETTLE_S", 0.2)


@pytest.fixture
def watch() -> Watch:
    return Watch(())


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_tidy_test_leaves_nothing(watch: Watch) -> None:
    assert watch.left_behind() == set()


def test_a_running_thread_is_noticed_by_name(watch: Watch) -> None:
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait, name="forgotten")
    thread.start()
    try:
        assert watch.left_behind() == {"thread forgotten"}
    finally:
        ending.set()
        thread.join()


def test_a_thread_that_is_about_to_end_is_waited_for(watch: Watch) -> None:
    thread = threading.Timer(0.05, lambda: None)
    thread.start()
    assert watch.left_behind() == set()


def test_a_child_process_is_noticed_by_its_command(watch: Watch, sleeper: subprocess.Popen[bytes]) -> None:
    assert watch.left_behind() == {f"process {sleeper.pid} (sleep)"}


def test_a_process_in_the_place_of_one_that_has_ended_is_none_too_many(sleeper: subprocess.Popen[bytes]) -> None:
    while Path(f"/proc/{sleeper.pid}/comm").read_text() != "sleep\n":
        pass  # its descriptors are closed a moment before it has its name
    watch = Watch(())
    sleeper.kill()
    sleeper.wait()
    with subprocess.Popen(["sleep", "60"]) as second, subprocess.Popen(["sleep", "60"]) as third:
        try:
            left = watch.left_behind()
            assert len(left) == 1
            assert left < {f"process {second.pid} (sleep)", f"process {third.pid} (sleep)"}
        finally:
            second.kill()
            third.kill()


def test_what_was_there_before_is_not_held_against_a_test(sleeper: subprocess.Popen[bytes]) -> None:
    assert Watch(()).left_behind() == set()


LOOPS = """{"loopdevices": [
  {"name": "/dev/loop1", "back-file": "/run-1/pool", "maj:min": "7:1", "back-maj:min": "254:0"},
  {"name": "/dev/loop2", "back-file": "/v1", "maj:min": "7:2", "back-maj:min": "7:1"},
  {"name": "/dev/loop3", "back-file": "/run-2/pool", "maj:min": "7:3", "back-maj:min": "254:0"}]}"""


def test_loop_devices_count_when_they_lead_to_the_runs_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_output", lambda *_: LOOPS)
    assert leaks._loops(["/run-1"]) == {"/dev/loop1", "/dev/loop2"}


def test_mounts_count_below_a_directory_or_from_its_devices() -> None:
    assert leaks._mounts(["/proc"]) >= {"mount /proc"}
    assert leaks._mounts(["/no-such-directory", str(Path("/dev/no-such-device"))]) == set()
