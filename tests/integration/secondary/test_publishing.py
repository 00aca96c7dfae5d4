# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Files that get their name at once and whole, also when the agent dies in between or others want the name."""

import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from nas import Nas
from storpool_agent.errors import FileExists, SecondaryUnavailable
from storpool_agent.secondary.storage import SecondaryStorage

PATH = "snapshots/1/1/backup.qcow2"
WAIT_S = 20.0
ROUNDS = 20


def write(agent: SecondaryStorage, nas: Nas, data: bytes, owner: str = "r1") -> int:
    part = agent.create_part(nas.store, PATH, owner)
    os.write(part.descriptor, data)
    return agent.publish(part)


def names(nas: Nas) -> list[str]:
    return sorted(str(each.relative_to(nas.files)) for each in nas.files.rglob("*") if not each.is_dir())


def test_of_two_that_publish_one_name_at_once_one_wins_and_the_other_leaves_nothing(nas: Nas) -> None:
    agent, start = nas.agent(), threading.Barrier(2)
    agent.acquire(nas.store, "r1")

    def publish(owner: str) -> str | None:
        part = agent.create_part(nas.store, PATH, owner)
        os.write(part.descriptor, owner.encode() * 1000)
        start.wait(WAIT_S)
        try:
            agent.publish(part)
        except FileExists:
            return None
        return owner

    for _ in range(ROUNDS):
        with ThreadPoolExecutor(2) as pool:
            (winner,) = filter(None, pool.map(publish, ("a1", "b2")))
        assert names(nas) == [PATH]
        assert (nas.files / PATH).read_text() == winner * 1000
        agent.remove(nas.store, PATH)
    agent.release(nas.store, "r1")


DIES = """
import os, signal, sys
from pathlib import Path
from storpool_agent.secondary import parts
from storpool_agent.secondary.storage import SecondaryStorage
from storpool_agent.settings import Secondary

mounts, store, path, step = sys.argv[1:]
agent = SecondaryStorage(Secondary(mount_dir=Path(mounts)), Path(mounts))
agent.acquire(store, "r1")
part = agent.create_part(store, path, "r1")
os.write(part.descriptor, b"first")
call = getattr(os, step)
def dying(*arguments, **more):
    if step == "unlink":
        os.kill(os.getpid(), signal.SIGKILL)
    call(*arguments, **more)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, step, dying)
agent.publish(part)
"""


def die_in_publish(nas: Nas, step: str) -> None:
    arguments = (str(nas.mount_dir), nas.store, PATH, step)
    ended = subprocess.run([sys.executable, "-c", DIES, *arguments], check=False, timeout=WAIT_S)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("step", ["link", "unlink"])
def test_dying_after_the_file_has_its_name_leaves_it_whole_and_its_second_name_is_removed(nas: Nas, step: str) -> None:
    die_in_publish(nas, step)
    agent = nas.agent()
    agent.acquire(nas.store, "r1")
    assert len(names(nas)) == 2
    with pytest.raises(FileExists):
        agent.create_part(nas.store, PATH, "r1")
    assert names(nas) == [PATH]
    image = agent.open_image(nas.store, PATH)
    assert os.pread(image, 9, 0) == b"first"
    os.close(image)
    agent.release(nas.store, "r1")


def test_discarding_after_such_a_death_leaves_the_file_that_has_its_name(nas: Nas) -> None:
    die_in_publish(nas, "link")
    agent = nas.agent()
    agent.acquire(nas.store, "r1")
    agent.discard_part(nas.store, PATH, "r1")
    assert names(nas) == [PATH]
    agent.release(nas.store, "r1")


def test_dying_before_the_file_has_its_name_leaves_a_part_that_the_next_run_begins_anew(nas: Nas) -> None:
    die_in_publish(nas, "fchmod")
    agent = nas.agent()
    agent.acquire(nas.store, "r1")
    assert not agent.exists(nas.store, PATH)
    assert write(agent, nas, b"second") == 6
    assert names(nas) == [PATH]
    assert (nas.files / PATH).read_text() == "second"
    agent.release(nas.store, "r1")


@pytest.fixture
def agent(nas: Nas) -> SecondaryStorage:
    made = nas.agent()
    made.acquire(nas.store, "r1")
    return made


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_link_whose_answer_was_lost_is_a_link(agent: SecondaryStorage, nas: Nas, mocker: MockerFixture) -> None:
    link = os.link

    def made_and_repeated(*arguments: str, **more: int) -> None:
        link(*arguments, **more)  # type: ignore[arg-type]
        raise fail(errno.EEXIST)

    mocker.patch.object(os, "link", side_effect=made_and_repeated)
    assert write(agent, nas, b"data") == 4
    assert names(nas) == [PATH]
    agent.release(nas.store, "r1")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP], ids=os.strerror)
def test_where_there_are_no_hard_links_the_file_is_renamed_and_nothing_replaced(
    agent: SecondaryStorage, nas: Nas, mocker: MockerFixture, number: int
) -> None:
    other = agent.create_part(nas.store, PATH, "r2")
    mocker.patch.object(os, "link", side_effect=fail(number))
    assert write(agent, nas, b"data") == 4
    with pytest.raises(FileExists):
        agent.publish(other)
    assert names(nas) == [PATH]
    assert (nas.files / PATH).read_bytes() == b"data"
    agent.release(nas.store, "r1")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN], ids=os.strerror)
def test_a_file_that_cannot_be_flushed_does_not_get_its_name(
    agent: SecondaryStorage, nas: Nas, mocker: MockerFixture, number: int
) -> None:
    part = agent.create_part(nas.store, PATH, "r1")
    mocker.patch.object(os, "fsync", side_effect=fail(number))
    with pytest.raises(SecondaryUnavailable) as caught:
        agent.publish(part)
    mocker.stopall()
    assert caught.value.facts["errno"] == number
    assert not agent.exists(nas.store, PATH)
    agent.discard_part(nas.store, PATH, "r1")
    assert names(nas) == []
    agent.release(nas.store, "r1")


def test_a_name_that_is_not_certainly_on_the_disk_is_taken_back(
    agent: SecondaryStorage, nas: Nas, mocker: MockerFixture
) -> None:
    part = agent.create_part(nas.store, PATH, "r1")
    mocker.patch.object(os, "fsync", side_effect=[None, fail(errno.EIO)])
    with pytest.raises(SecondaryUnavailable):
        agent.publish(part)
    mocker.stopall()
    assert names(nas) == []
    agent.release(nas.store, "r1")


def test_the_file_is_on_the_disk_before_its_name_and_the_name_before_the_answer(
    agent: SecondaryStorage, nas: Nas, mocker: MockerFixture
) -> None:
    part = agent.create_part(nas.store, PATH, "r1")
    calls: list[str] = []
    for name in ("fsync", "link", "unlink"):
        mocker.patch.object(os, name, side_effect=recorded(calls, name))
    agent.publish(part)
    mocker.stopall()
    assert calls == ["fsync", "link", "unlink", "fsync"]
    agent.release(nas.store, "r1")


def recorded(calls: list[str], name: str) -> object:
    call = getattr(os, name)

    def recording(*arguments: object, **more: object) -> None:
        calls.append(name)
        call(*arguments, **more)

    return recording


def test_directories_on_the_way_can_be_entered_by_others_whatever_the_umask_is(
    agent: SecondaryStorage, nas: Nas
) -> None:
    before = os.umask(0o077)
    try:
        write(agent, nas, b"data")
    finally:
        os.umask(before)
    way = [nas.files / each for each in Path(PATH).parents if each.name]
    assert [each.stat().st_mode & 0o777 for each in way] == [0o755] * 3
    agent.release(nas.store, "r1")
