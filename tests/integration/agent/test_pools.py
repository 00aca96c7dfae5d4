# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A second StorPool for a host: proven, kept over restarts, refused where it must be, and its token nowhere."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from agent_process import Stack, running_stack
from devcluster_process import DevclusterProcess, running_devcluster
from integration.agent.refusals import assert_kept_secret
from raw_client import RawClient, raw_client
from storpool_commands.client import CommandFailed
from storpool_commands.errors import ErrorCode
from storpool_commands.pools import AddStoragePool, GetHostInfo, GetPoolStats, PoolSpace, RemoveStoragePool
from storpool_commands.volumes import CreateVolume

MIB = 1 << 20
TOKEN = "canary-of-the-pool-4711"
EX_CONFIG = 78
PROGRAM = [sys.executable, "-c", "from storpool_commands.client.cli import main; main()"]


@pytest.fixture(scope="module")
def other(services: None) -> Iterator[DevclusterProcess]:
    """The API that is added: another token, other templates, no devices."""
    options = ["--devices", "none", "--template", "ssd", "--template", "hdd", "--cluster-id", "e.o"]
    with running_devcluster({1: None}, options=options, token=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def running(other: DevclusterProcess) -> Iterator[tuple[Stack, RawClient]]:
    fixed = {"api": other.api, "token": TOKEN, "template": "hdd"}
    pools: dict[str, Any] = {"pools.fixed": fixed}
    with running_stack(start=False, **pools) as stack, raw_client(stack.amqp_url) as raw:
        yield stack, raw
        assert_kept_secret((TOKEN,), raw, stack.agent)


@pytest.fixture
def stack(running: tuple[Stack, RawClient]) -> Iterator[Stack]:
    """One that knows the pool of its agent.toml alone, before and after."""
    stack, _ = running
    stack.agent.start()
    try:
        yield stack
        for name in names(stack):
            if name != "fixed":
                stack.call(RemoveStoragePool(name=name))
    finally:
        stack.agent.stop()


def names(stack: Stack) -> list[str]:
    return list(stack.call(GetHostInfo()).pools)


def add(
    other: DevclusterProcess, name: str = "p", *, token: str = TOKEN, template: str = "ssd", pairs: bool = False
) -> AddStoragePool:
    url = f"storpool://{token}@{other.api}/{template}"
    if pairs:
        url = f"SP_API_HTTP={other.api};SP_AUTH_TOKEN={token};SP_TEMPLATE={template}"
    return AddStoragePool(name=name, url=SecretStr(url))


def refusal(stack: Stack, command: Any) -> CommandFailed:
    before = names(stack)
    with pytest.raises(CommandFailed) as refused:
        stack.call(command)
    assert refused.value.reply.side_effects == "none"
    assert TOKEN not in refused.value.reply.model_dump_json()
    assert names(stack) == before
    return refused.value


def test_a_pool_is_used_and_outlives_a_restart(stack: Stack, other: DevclusterProcess) -> None:
    added = stack.call(add(other))
    assert (added.added_now, added.pool.name, added.pool.api, added.pool.template) == (True, "p", other.api, "ssd")
    volume = stack.call(CreateVolume(size_bytes=16 * MIB, pool="p"))
    assert [(one["globalId"], one["templateName"]) for one in other.call("GET", "VolumesList")] == [
        (volume.global_id, "ssd")
    ]
    stack.agent.restart()
    (space,) = stack.call(GetPoolStats(pool="p")).pools
    assert (space.volumes, space.capacity_bytes - space.free_bytes) == (1, space.used_bytes)
    assert not stack.call(add(other, pairs=True)).added_now
    other.call("POST", f"VolumeDelete/~{volume.global_id}")


def test_the_agent_alone_can_read_what_is_kept(stack: Stack, other: DevclusterProcess) -> None:
    stack.call(add(other))
    directory = stack.agent.state_dir / "pools"
    (file,) = directory.iterdir()
    assert [oct(one.stat().st_mode & 0o777) for one in (directory, file)] == ["0o700", "0o600"]
    assert TOKEN in file.read_text()
    stack.call(RemoveStoragePool(name="p"))
    assert TOKEN not in file.read_text()


@pytest.mark.long
def test_what_cannot_be_proven_is_not_added(stack: Stack, other: DevclusterProcess) -> None:
    assert refusal(stack, add(other, token="wrong")).code is ErrorCode.STORPOOL_UNAUTHORIZED
    missing = refusal(stack, add(other, template="nvme"))
    assert (missing.code, missing.facts["templates"]) == (ErrorCode.TEMPLATE_NOT_FOUND, ["ssd", "hdd"])
    nobody = AddStoragePool(name="p", url=SecretStr(f"storpool://{TOKEN}@127.0.0.1:1/ssd"))
    assert refusal(stack, nobody).code is ErrorCode.STORPOOL_UNAVAILABLE
    none = AddStoragePool(name="p", url=SecretStr(f"SP_API_HTTP={other.api};SP_AUTH_TOKEN={TOKEN}"))
    assert refusal(stack, none).code is ErrorCode.INVALID_COMMAND


def test_what_is_known_otherwise_is_not_added(stack: Stack, other: DevclusterProcess) -> None:
    stack.call(add(other))
    assert refusal(stack, add(other, "q")).facts["used_by"] == "p"
    moved = AddStoragePool(name="p", url=add(other).url, cluster_id="a.b")
    assert refusal(stack, moved).code is ErrorCode.POOL_CONFLICT
    assert refusal(stack, add(other, "q", template="hdd")).code is ErrorCode.TEMPLATE_IN_USE
    assert refusal(stack, add(other, "fixed")).code is ErrorCode.POOL_CONFLICT
    assert refusal(stack, RemoveStoragePool(name="fixed")).code is ErrorCode.POOL_CONFLICT
    assert not stack.call(add(other, "fixed", template="hdd")).added_now


def test_a_pool_that_does_not_answer_fails_the_room_of_all(stack: Stack, other: DevclusterProcess) -> None:
    stack.call(add(other))
    assert [(one.name, one.template) for one in room(stack)] == [("", "dev"), ("fixed", "hdd"), ("p", "ssd")]
    other.sim.fault({"kind": "error", "name": "noSuchThing", "descr": "not now"}, query="VolumeTemplatesStatus")
    with pytest.raises(CommandFailed) as failed:
        stack.call(GetPoolStats())
    assert (failed.value.code, failed.value.facts["pool"]) == (ErrorCode.STORPOOL_REFUSED, "fixed")
    assert "pool fixed: " in failed.value.reply.message


def room(stack: Stack) -> list[PoolSpace]:
    return list(stack.call(GetPoolStats()).pools)


def test_a_host_says_what_it_is(stack: Stack) -> None:
    found = stack.call(GetHostInfo())
    assert (found.host, found.our_id, found.protocol, found.pools) == ("kvm1", 1, 1, ["fixed"])
    assert found.client is not None
    assert (found.cluster_status, found.client.client, found.client.status) == ("running", 1, "running")
    assert found.libvirt is not None
    assert found.qemu is not None


@pytest.mark.long
@pytest.mark.parametrize("point", ["accepted", "connect:done", "keep:done"])
def test_a_request_whose_secret_died_with_the_agent_says_so(stack: Stack, other: DevclusterProcess, point: str) -> None:
    stack.agent.stop()
    stack.agent.start(crash_at=f"addStoragePool/{point}")
    request_id, answer = uuid4(), list[BaseException]()
    sender = threading.Thread(target=_send, args=(stack, add(other), request_id, answer))
    sender.start()
    try:
        stack.agent.wait_crashed()
        stack.agent.start()
    finally:
        sender.join(60)
    (failed,) = answer
    assert isinstance(failed, CommandFailed)
    assert (failed.code, failed.reply.retry) == (ErrorCode.SECRET_NOT_KEPT, "retryable")
    assert failed.reply.side_effects == ("none" if point == "accepted" else "partial")
    assert stack.call(add(other)).added_now is (point != "keep:done")


def _send(stack: Stack, command: AddStoragePool, request_id: UUID, answer: list[BaseException]) -> None:
    try:
        stack.call(command, request_id=request_id)
    except CommandFailed as failed:
        answer.append(failed)


def test_a_secret_is_in_no_reply_dead_letter_or_query(
    stack: Stack, other: DevclusterProcess, running: tuple[Stack, RawClient]
) -> None:
    _, raw = running
    body = {"command": "addStoragePool", "name": "p", "url": add(other).url.get_secret_value()}
    request_id = raw.ask(body, progress=True)
    assert raw.reply(request_id)["status"] == "success"
    raw.ask({**body, "name": "q"}, request_id=request_id)
    conflict = raw.dead_letter()
    assert conflict.headers["code"] == ErrorCode.ID_CONFLICT
    assert TOKEN.encode() not in conflict.body
    query: dict[str, Any] = {"id": str(uuid4()), "protocol": 1, "body": {"command": "queryCommand", "id": request_id}}
    raw.publish(query, exchange="storpool.control")
    assert raw.reply(query["id"])["result"]["reply"]["result"]["pool"]["name"] == "p"
    raw.received = [one for one in raw.received if one.json.get("code") != ErrorCode.ID_CONFLICT]
    started = [line for line in stack.agent.events("started") if line["command"] == "addStoragePool"]
    assert started[-1]["args"] == {"name": "p", "url": "**********"}


@pytest.mark.long
def test_a_file_that_is_damaged_or_readable_keeps_the_agent_from_starting(
    stack: Stack, other: DevclusterProcess
) -> None:
    stack.call(add(other))
    stack.agent.stop()
    file = stack.agent.state_dir / "pools" / "added.json"
    content = file.read_text()
    try:
        for spoil, says in ((lambda: file.chmod(0o644), "chmod 600"), (lambda: file.write_text("{"), "damaged")):
            spoil()
            stack.agent.start(wait=False)
            assert stack.agent.wait_ended() == EX_CONFIG
            assert says in stack.agent.events("not started")[-1]["reason"]
            file.chmod(0o600)
    finally:
        file.write_text(content)
        stack.agent.start()
    assert names(stack) == ["fixed", "p"]


def test_an_operator_hands_the_url_in_without_showing_it(stack: Stack, other: DevclusterProcess) -> None:
    arguments = ["--url", stack.client_url, "--host", "kvm1", "add-storage-pool", "--name", "p", "--url-file", "-"]
    done = subprocess.run(
        [*PROGRAM, *arguments],
        input=f"{add(other).url.get_secret_value()}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert TOKEN not in done.stdout
    assert names(stack) == ["fixed", "p"]
