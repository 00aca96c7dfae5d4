# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A management client, a real broker, and a host that answers as the test says."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import assert_type
from uuid import UUID, uuid4

import pytest

from integration.client.answers import DISK, connected, encoded, failure, silent, success
from integration.client.stand_in import Request, StandInAgent
from storpool_commands.client import (
    ClientClosed,
    CommandFailed,
    HostUnknown,
    ManagementClient,
    NoReply,
    UnreadableReply,
)
from storpool_commands.control import CommandStatus, ListCommands, ListedCommands, Ping, Pong
from storpool_commands.disks import AttachDisk, ConnectedDisk, ConnectPhysicalDisk, IoTune
from storpool_commands.envelope import Accepted, Progress
from storpool_commands.errors import ErrorCode

COMMAND = ConnectPhysicalDisk(volume="~a.b.c")


def test_a_success_is_the_typed_result(url: str, host: str, client: ManagementClient) -> None:
    with StandInAgent(url, host, connected):
        result = client.call(COMMAND, host=host)
    assert_type(result, ConnectedDisk)
    assert result == DISK


def test_a_failure_carries_all_that_the_host_said(url: str, host: str, client: ManagementClient) -> None:
    with (
        StandInAgent(url, host, lambda request: [failure(request, ErrorCode.VOLUME_BUSY, holders=["vm-1"])]),
        pytest.raises(CommandFailed, match=r"^volume-busy: vm-1 is open$") as raised,
    ):
        client.call(COMMAND, host=host)
    error = raised.value
    assert (error.code, error.message, error.retry) == (ErrorCode.VOLUME_BUSY, "vm-1 is open", "retryable")
    assert (error.side_effects, error.facts, error.steps) == ("none", {"holders": ["vm-1"]}, [])


def test_a_request_has_the_properties_that_the_broker_and_the_host_rely_on(
    url: str, host: str, client: ManagementClient
) -> None:
    request_id = uuid4()
    with StandInAgent(url, host, connected) as agent:
        client.call(COMMAND, host=host, request_id=request_id)
        properties = agent.properties[0]
    assert properties.message_id == properties.correlation_id == str(request_id)
    assert (properties.user_id, properties.delivery_mode, properties.content_type) == ("guest", 2, "application/json")


def test_a_request_says_what_the_caller_said_and_nothing_else(url: str, host: str, client: ManagementClient) -> None:
    request_id = uuid4()
    deadline = datetime.now(UTC) + timedelta(hours=1)
    tune = IoTune(total_iops_sec=0)
    with StandInAgent(url, host, lambda _: []) as agent, pytest.raises(NoReply):
        client.call(
            AttachDisk(vm="vm-1", volume="disk-1", iotune=tune),
            host=host,
            request_id=request_id,
            deadline=deadline,
            dry_run=True,
            timeout_s=0.5,
        )
    assert agent.requests == [
        {
            "id": str(request_id),
            "protocol": 1,
            "deadline": deadline.isoformat().replace("+00:00", "Z"),
            "dryRun": True,
            "body": {"command": "attachDisk", "vm": "vm-1", "volume": "disk-1", "iotune": {"totalIopsSec": 0}},
        }
    ]


def test_progress_comes_in_the_thread_of_the_caller_and_in_order(url: str, host: str, client: ManagementClient) -> None:
    def slowly(request: Request) -> Iterable[bytes]:
        request_id = UUID(request["id"])
        yield encoded(Accepted(id=request_id, host=host))
        yield encoded(Progress(id=request_id, host=host, phase="attach", bytes_done=1, bytes_total=2))
        yield success(request)

    seen: list[Accepted | Progress] = []
    with StandInAgent(url, host, slowly) as agent:
        assert client.call(COMMAND, host=host, on_progress=seen.append) == DISK
    assert agent.requests[0]["progress"] is True
    assert [reply.status for reply in seen] == ["accepted", "progress"]


def test_without_a_reply_the_caller_learns_that_the_host_has_it(url: str, host: str, client: ManagementClient) -> None:
    started = monotonic()
    with StandInAgent(url, host, silent) as agent, pytest.raises(NoReply, match="may run, or still be run") as raised:
        client.call(COMMAND, host=host, timeout_s=0.5)
    assert monotonic() - started < 10
    assert raised.value.confirmed
    assert [raised.value.request_id] == agent.ids


def test_a_late_reply_is_there_for_who_waits_for_it(url: str, host: str, client: ManagementClient) -> None:
    request_id = uuid4()
    with StandInAgent(url, host, connected):
        client.call(COMMAND, host=host, request_id=request_id)
    reply = client.wait(request_id, timeout_s=0.1)
    assert reply.result == DISK


def test_asking_again_with_the_same_id_sends_the_same_bytes(url: str, host: str, client: ManagementClient) -> None:
    request_id = uuid4()
    with StandInAgent(url, host, lambda request: connected(request) if len(agent.requests) > 1 else []) as agent:
        with pytest.raises(NoReply):
            client.call(COMMAND, host=host, request_id=request_id, timeout_s=0.3)
        assert client.call(COMMAND, host=host, request_id=request_id) == DISK
    assert agent.requests[0] == agent.requests[1]


def test_two_callers_of_one_id_both_get_the_reply(url: str, host: str, client: ManagementClient) -> None:
    request_id = uuid4()
    with StandInAgent(url, host, connected), ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.call, COMMAND, host=host, request_id=request_id) for _ in range(2)]
        assert [call.result() for call in calls] == [DISK, DISK]


def test_a_reply_that_comes_twice_counts_once(url: str, host: str, client: ManagementClient) -> None:
    with StandInAgent(url, host, lambda request: [success(request)] * 3):
        assert client.call(COMMAND, host=host) == DISK
        assert client.call(COMMAND, host=host) == DISK


def test_an_unknown_host_is_told_at_once(client: ManagementClient) -> None:
    started = monotonic()
    with pytest.raises(HostUnknown, match="there is no queue of a host nowhere"):
        client.call(COMMAND, host="nowhere", timeout_s=20)
    assert monotonic() - started < 10


@pytest.mark.parametrize("host", ["a.b", "*", "#", "", "x" * 64, "kvm1\n"])
def test_a_host_that_is_not_one_word_is_never_sent(client: ManagementClient, host: str) -> None:
    with pytest.raises(ValueError, match="match pattern"):
        client.call(COMMAND, host=host)


def test_control_commands_take_the_control_queue(url: str, host: str, client: ManagementClient) -> None:
    status = CommandStatus(
        id=uuid4(), body_command="attachDisk", state="running", received_at=datetime.now(UTC), attempts=1
    )
    listed = ListedCommands(commands=[status])
    pong = Pong(host=host, version="0", time=datetime.now(UTC))

    def answer(request: Request) -> Iterable[bytes]:
        return [success(request, pong if request["body"]["command"] == "ping" else listed)]

    with StandInAgent(url, host, answer) as agent:
        assert client.call(ListCommands(limit=5), host=host) == listed
        assert client.control(Ping(), host=host) == pong
        assert client.call(Ping(), host=host) == pong
    assert agent.exchanges == ["storpool.control", "storpool.control", "storpool.commands"]


def test_a_reply_of_another_kind_is_no_result(url: str, host: str, client: ManagementClient) -> None:
    with StandInAgent(url, host, connected), pytest.raises(UnreadableReply, match="connectPhysicalDisk"):
        client.call(Ping(), host=host)


def test_a_reply_from_a_newer_agent_that_cannot_be_read_ends_the_call(
    url: str, host: str, client: ManagementClient
) -> None:
    with (
        StandInAgent(url, host, lambda request: [success(request).replace(b'"rw"', b'"rwx"')]),
        pytest.raises(UnreadableReply, match="newer"),
    ):
        client.call(COMMAND, host=host, timeout_s=5)


def test_closing_ends_the_calls_that_wait(url: str, host: str) -> None:
    client = ManagementClient(url)
    client.open()
    with StandInAgent(url, host, silent) as agent, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.call, COMMAND, host=host)
        agent.wait_for(1)
        client.close()
        with pytest.raises(ClientClosed):
            waiting.result(5)
    with pytest.raises(ClientClosed):
        client.call(COMMAND, host=host)


def test_64_threads_each_get_their_own_reply(url: str, host: str, client: ManagementClient) -> None:
    def answer(request: Request) -> Iterable[bytes]:
        return [success(request, DISK.model_copy(update={"global_id": request["body"]["volume"][1:]}))]

    def work(number: int) -> list[tuple[str, str]]:
        wanted = [f"a.{number}.{turn}" for turn in range(10)]
        return [(gid, client.call(ConnectPhysicalDisk(volume=f"~{gid}"), host=host).global_id) for gid in wanted]

    with StandInAgent(url, host, answer), ThreadPoolExecutor(64) as pool:
        pairs = [pair for done in pool.map(work, range(64)) for pair in done]
    assert len(pairs) == 640
    assert all(wanted == got for wanted, got in pairs)
