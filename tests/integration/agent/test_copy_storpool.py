# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copy jobs beside a StorPool that loses answers, refuses, is away, or flips a bit."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.agent import copy_jobs
from integration.agent.copies import MIB, SLOW_BYTES_S, Depot, running_depot
from integration.agent.copy_jobs import CopyJob, Make
from integration.agent.refusals import refused
from storpool_commands.client import CommandFailed
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.errors import ErrorCode

pytestmark = pytest.mark.long

PIECE = 2 * MIB
"""What qemu-img writes at a time."""
LOST = {"kind": "reset_after"}
REFUSED = {"kind": "error", "name": "injected", "descr": "A copy job is not to have it"}


@pytest.fixture(scope="module")
def shared(services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Depot]:
    with running_depot(tmp_path_factory.mktemp("store"), start=False) as depot:
        yield depot


@pytest.fixture
def depot(shared: Depot) -> Iterator[Depot]:
    """Without the faults of the test before."""
    with shared.running_agent():
        yield shared
        shared.stack.storpool.sim.clear_faults()


LOST_ANSWERS = [
    pytest.param(make, query, id=f"{make.__name__} and {query}")
    for make, queries in {
        copy_jobs.download_volume: ("VolumeCreate", "VolumesReassignWait", "VolumeUpdate"),
        copy_jobs.download_template: ("VolumeSnapshot", "VolumeDelete"),
        copy_jobs.copy_volume: ("VolumeSnapshot", "SnapshotDelete"),
        copy_jobs.template_from_snapshot: ("VolumeCreate", "VolumeDelete"),
        copy_jobs.move_to_file: ("VolumeDelete",),
    }.items()
    for query in queries
]


@pytest.mark.parametrize(("make", "query"), LOST_ANSWERS)
def test_a_lost_answer_makes_nothing_twice_and_leaves_nothing(depot: Depot, make: Make, query: str) -> None:
    job = make(depot)
    depot.stack.storpool.sim.fault(LOST, query=query)
    reply = depot.reply(depot.send(job.command))
    job.assert_done_once(job.result_of(reply))


HANGING = [
    pytest.param(copy_jobs.download_volume, "VolumeCreate", id="a volume is made"),
    pytest.param(copy_jobs.copy_volume, "VolumeSnapshot", id="a snapshot is made"),
    pytest.param(copy_jobs.move_to_file, "VolumeDelete", id="the source is deleted"),
]


@pytest.mark.parametrize(("make", "query"), HANGING)
def test_an_agent_that_dies_before_the_answer_has_come_leaves_nothing_to_its_successor(
    depot: Depot, make: Make, query: str
) -> None:
    job = make(depot)
    sim = depot.stack.storpool.sim
    sim.fault({"kind": "hang", "processed": True}, query=query)
    before = len(sim.requests(query))
    request_id = depot.send(job.command)
    depot.wait_for(lambda: len(sim.requests(query)) > before)
    depot.agent.kill()
    sim.clear_faults()
    depot.agent.start()
    job.assert_done_once(job.result_of(depot.reply(request_id)))


CLEANING = [
    pytest.param(copy_jobs.backup, "VolumesReassignWait", "detach", id="a snapshot cannot be detached"),
    pytest.param(copy_jobs.copy_volume, "SnapshotDelete", "", id="a temporary snapshot cannot be deleted"),
    pytest.param(copy_jobs.template_from_snapshot, "VolumeDelete", "", id="a temporary volume cannot be deleted"),
]


@pytest.mark.parametrize(("make", "query", "body"), CLEANING)
def test_a_copy_that_cannot_be_tidied_up_after_has_succeeded(depot: Depot, make: Make, query: str, body: str) -> None:
    """What is left goes as soon as the agent looks again: after a while, or at its start."""
    job = make(depot)
    depot.stack.storpool.sim.fault(REFUSED, query=query, times=None, body_re=body)
    result = job.result_of(depot.raw.reply(depot.send(job.command)))
    assert depot.rows()
    assert depot.agent.events("leftover kept")
    depot.stack.storpool.sim.clear_faults()
    depot.agent.restart()
    depot.wait_nothing_left()
    job.assert_done_once(result)


@pytest.mark.parametrize("make", [copy_jobs.download_volume, copy_jobs.download_template, copy_jobs.copy_volume])
def test_a_cancelled_copy_that_cannot_be_taken_back_is_answered_all_the_same(depot: Depot, make: Make) -> None:
    job, request_id = slow(depot, make)
    for query in ("VolumeDelete", "SnapshotDelete"):
        depot.stack.storpool.sim.fault(REFUSED, query=query, times=None)
    depot.cancel(request_id)
    refused(depot.raw.reply(request_id), ErrorCode.CANCELLED, side_effects="partial")
    assert depot.rows()
    depot.stack.storpool.sim.clear_faults()
    depot.agent.restart()
    depot.wait_nothing_left()
    job.assert_not_done()


@pytest.fixture
def alone(services: None, tmp_path: Path) -> Iterator[Depot]:
    """For a test that ends StorPool, too."""
    with running_depot(tmp_path) as depot:
        yield depot


def test_a_storpool_that_is_down_when_a_copy_is_cancelled_is_not_waited_for(alone: Depot) -> None:
    """Its devices stay behind when it dies, as those of storpool_block do."""
    depot = alone
    job, request_id = slow(depot, copy_jobs.download_volume)
    depot.stack.storpool.kill()
    depot.cancel(request_id)
    refused(depot.raw.reply(request_id, 90), ErrorCode.CANCELLED, side_effects="partial")
    depot.stack.storpool.start()
    depot.agent.restart()
    depot.wait_nothing_left()
    job.assert_not_done()


def test_nobody_has_a_volume_before_its_contents_are_verified(depot: Depot) -> None:
    job, request_id = slow(depot, copy_jobs.download_volume)
    (volume,) = set(depot.objects()) - job.objects
    assert depot.objects()[volume]["sp-writing"] == request_id
    assert depot.stack.attachments(f"~{volume}") == [(1, "rw")]
    with depot.stack.second_agent():
        for host in ("kvm1", "kvm2"):
            with pytest.raises(CommandFailed) as caught:
                depot.stack.management.call(ConnectPhysicalDisk(volume=f"~{volume}"), host=host, timeout_s=30)
            assert caught.value.code == ErrorCode.VOLUME_INCOMPLETE
            assert caught.value.facts["request"] == request_id
    assert depot.stack.attachments(f"~{volume}") == [(1, "rw")]
    result = job.result_of(depot.reply(request_id))
    assert depot.stack.attachments(f"~{volume}") == []
    job.assert_done_once(result)


@pytest.mark.parametrize("make", [copy_jobs.download_volume, copy_jobs.download_template, copy_jobs.move_from_file])
def test_a_bit_that_flips_on_the_way_to_storpool_is_found(depot: Depot, make: Make) -> None:
    """On the volume, where the copy has been already and the verification has not."""
    job, request_id = slow(depot, make)
    (volume,) = set(depot.objects()) - job.objects
    flip(depot, job, str(depot.backing(volume)))
    refused(depot.reply(request_id), ErrorCode.COPY_MISMATCH, says=("does not read back",))
    job.assert_not_done()


@pytest.mark.parametrize("make", [copy_jobs.copy_volume, copy_jobs.move_to_file])
def test_a_bit_that_flips_on_the_way_from_storpool_is_found(depot: Depot, make: Make) -> None:
    """In the file, which so never gets its name; the source is not deleted."""
    job, request_id = slow(depot, make)
    (part,) = depot.names() - job.files
    flip(depot, job, str(depot.files / part))
    refused(depot.reply(request_id), ErrorCode.COPY_MISMATCH, says=("does not read back",))
    job.assert_not_done()


def slow(depot: Depot, make: Make) -> tuple[CopyJob, str]:
    """A job in the middle of its copy."""
    job = make(depot, bandwidth_bytes_s=SLOW_BYTES_S)
    request_id = depot.send(job.command)
    depot.wait_copying(request_id)
    return job, request_id


def flip(depot: Depot, job: CopyJob, path: str) -> None:
    """One bit, in the middle of what has been written: nobody writes that again."""
    places: list[int] = []

    def written() -> bool:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - only a descriptor of another process leads to it
            there = [place for place in range(0, len(job.data), PIECE) if is_at(file.fileno(), job.data, place)]
        places[:] = there
        return bool(there)

    depot.wait_for(written)
    with open(path, "r+b", buffering=0) as file:  # noqa: PTH123
        file.seek(places[0] + PIECE // 2)
        file.write(bytes([job.data[places[0] + PIECE // 2] ^ 1]))


def is_at(descriptor: int, data: bytes, place: int) -> bool:
    return os.pread(descriptor, PIECE, place) == data[place : place + PIECE]
