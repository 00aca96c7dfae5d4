# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a sender may rely on: one effect, one reply, in order, whatever happens to the connection or the agent."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import uuid4

from agent_process import AgentProcess, Stack, running_stack
from integration.agent.refusals import Scene, nothing_changes, refused
from rabbit import close_all_connections
from raw_client import raw_client
from storpool_commands import topology
from storpool_commands.control import Ping, Pong
from storpool_commands.errors import ErrorCode

MIB = 1 << 20
PING = {"command": "ping"}
EX_CONFIG = 78
SLOW_S = 1.0


def resize(volume: str, size_mib: int = 32) -> dict[str, Any]:
    return {"command": "StorpoolResizeCmd", "volume": volume, "newSizeBytes": size_mib * MIB}


def connect(volume: str) -> dict[str, Any]:
    return {"command": "connectPhysicalDisk", "volume": volume}


def test_the_reply_is_given_again_byte_for_byte_to_whoever_asks(scene: Scene, volume: str) -> None:
    request_id = scene.raw.ask(resize(volume))
    scene.raw.reply(request_id)
    with raw_client(scene.stack.amqp_url) as other, nothing_changes(scene.stack):
        other.ask(resize(volume), request_id=request_id)
        other.reply(request_id)
    (first,), (again,) = scene.raw.replies(request_id), other.replies(request_id)
    assert again.body == first.body
    assert (first.routing_key, again.routing_key) == (f"kvm1.{scene.raw.word}", f"kvm1.{other.word}")
    assert first.publisher == again.publisher != "guest"


def test_whoever_asks_while_it_runs_gets_the_same_reply_once(scene: Scene, volume: str) -> None:
    _slow(scene, "VolumeUpdate")
    request_id = scene.raw.ask(resize(volume))
    with raw_client(scene.stack.amqp_url) as other:
        for _ in range(2):
            scene.raw.ask(resize(volume), request_id=request_id)
            other.ask(resize(volume), request_id=request_id)
        scene.raw.reply(request_id)
        other.reply(request_id)
        other.settle()
        scene.raw.settle()
    (first,), (again,) = scene.raw.replies(request_id), other.replies(request_id)
    assert again.body == first.body
    assert len(_calls(scene, "VolumeUpdate", volume)) == 1


def test_a_reply_waits_for_its_queue(scene: Scene) -> None:
    word = f"late-{uuid4().hex[:8]}"
    request_id = str(uuid4())
    scene.raw.publish({"id": request_id, "protocol": 1, "body": PING}, reply_to=word)
    _until(lambda: bool(_refusals_of(scene.stack, request_id)))
    scene.raw.listen(word)
    assert scene.raw.reply(request_id)["status"] == "success"
    scene.raw.listen_for(1.5)
    assert len(scene.raw.replies(request_id)) == 1


def test_the_sender_hears_that_its_request_is_stored(scene: Scene, volume: str) -> None:
    scene.raw.settle()
    _slow(scene, "VolumeUpdate")
    request_id = scene.raw.ask(resize(volume), progress=True)
    accepted = scene.raw.next_reply()
    assert (accepted["status"], accepted["id"], accepted["host"]) == ("accepted", request_id, "kvm1")
    assert scene.raw.reply(request_id)["status"] == "success"
    scene.raw.settle()


def test_commands_for_one_volume_run_in_order_of_arrival_and_others_pass_them(scene: Scene, volume: str) -> None:
    other = scene.stack.create()
    _slow(scene, "VolumeUpdate", arg_re=volume[1:].replace(".", r"\."))
    order = [scene.raw.ask(resize(volume, size)) for size in (32, 48, 64)]
    passing = [scene.raw.ask(resize(other, 32)), scene.raw.ask(connect(other))]
    began = time.monotonic()
    assert [scene.raw.reply(one)["status"] for one in passing] == ["success"] * 2
    assert time.monotonic() - began < SLOW_S
    assert scene.raw.replies(order[0]) == []
    sizes = [scene.raw.reply(one)["result"]["previousSizeBytes"] for one in order]
    assert sizes == [16 * MIB, 32 * MIB, 48 * MIB]
    scene.stack.storpool.detach(other[1:])


def test_a_machine_and_a_volume_are_each_a_turn_of_their_own(scene: Scene, volume: str) -> None:
    """By name and by id is the same volume: the second waits for the first."""
    name = f"vm-{uuid4().hex[:8]}"
    gid = scene.stack.storpool.create(16 * MIB, template="dev", name=name)
    _slow(scene, "VolumeUpdate")
    first = scene.raw.ask(resize(f"~{gid}", 32))
    second = scene.raw.ask(resize(f"/dev/storpool/{name}", 48))
    assert scene.raw.reply(second)["result"]["previousSizeBytes"] == 32 * MIB
    assert scene.raw.replies(first)


def test_a_queued_command_is_cancelled_once(scene: Scene, volume: str) -> None:
    _slow(scene, "VolumeUpdate")
    running, queued = scene.raw.ask(resize(volume, 32)), scene.raw.ask(resize(volume, 48))
    _until(lambda: _query(scene, running)["state"] == "running")
    assert _control(scene, "cancelCommand", queued)["result"]["outcome"] == "cancelled"
    refused(_control(scene, "cancelCommand", queued), ErrorCode.TOO_LATE, says=(queued,), facts={"id": queued})
    refused(scene.raw.reply(queued), ErrorCode.CANCELLED)
    assert scene.raw.reply(running)["status"] == "success"
    scene.raw.settle()
    assert len(scene.raw.replies(queued)) == 1
    assert len(_calls(scene, "VolumeUpdate", volume)) == 1
    assert (_query(scene, queued)["state"], _query(scene, queued)["attempts"]) == ("finished", 0)


def test_a_running_command_stops_at_its_next_step(scene: Scene, volume: str) -> None:
    _slow(scene, "Volume", arg_re=volume[1:].replace(".", r"\."))
    with nothing_changes(scene.stack):
        request_id = scene.raw.ask(resize(volume))
        _until(lambda: _query(scene, request_id)["state"] == "running")
        assert _control(scene, "cancelCommand", request_id)["result"]["outcome"] == "stopping"
        reply = scene.raw.reply(request_id)
    refused(reply, ErrorCode.CANCELLED, facts={"step": "storpool", "volume": volume})


def test_a_finished_or_unknown_command_is_not_cancelled(scene: Scene) -> None:
    finished, unknown = scene.raw.ask(PING), str(uuid4())
    scene.raw.reply(finished)
    refused(_control(scene, "cancelCommand", finished), ErrorCode.TOO_LATE, says=(finished,), facts={"id": finished})
    for command in ("cancelCommand", "queryCommand"):
        refused(_control(scene, command, unknown), ErrorCode.UNKNOWN_REQUEST, says=(unknown,), facts={"id": unknown})


def test_a_command_can_be_asked_after_while_it_runs_and_when_it_is_done(scene: Scene, volume: str) -> None:
    _slow(scene, "VolumeUpdate")
    request_id = scene.raw.ask(resize(volume))
    _until(lambda: _query(scene, request_id)["steps"] == ["find"])
    running = _control(scene, "queryCommand", request_id)["result"]
    assert (running["status"]["state"], running["status"]["attempts"], running["reply"]) == ("running", 1, None)
    reply = scene.raw.reply(request_id)
    done = _control(scene, "queryCommand", request_id)["result"]
    assert (done["status"]["state"], done["status"]["bodyCommand"], done["reply"]) == (
        "finished",
        "StorpoolResizeCmd",
        reply,
    )


def test_the_commands_of_the_host_are_listed_the_newest_first(scene: Scene, volume: str) -> None:
    _slow(scene, "VolumeUpdate")
    running, done = scene.raw.ask(resize(volume)), scene.raw.ask(PING)
    scene.raw.reply(done)
    newest = _control(scene, "listCommands", limit=2)["result"]["commands"]
    assert [(one["id"], one["bodyCommand"]) for one in newest] == [(done, "ping"), (running, "StorpoolResizeCmd")]
    under_way = _control(scene, "listCommands", state="running")["result"]["commands"]
    assert [one["id"] for one in under_way] == [running]
    scene.raw.reply(running)


def test_a_ping_on_the_control_queue_passes_everything(scene: Scene, volume: str) -> None:
    _slow(scene, "VolumeUpdate")
    slow = [scene.raw.ask(resize(volume, size)) for size in (32, 48)]
    began = time.monotonic()
    assert _control(scene, "ping")["result"]["host"] == "kvm1"
    assert time.monotonic() - began < SLOW_S
    assert [scene.raw.reply(one)["status"] for one in slow] == ["success"] * 2


def test_another_agent_on_the_same_journal_is_not_started(scene: Scene) -> None:
    second = AgentProcess(scene.stack.agent.directory, scene.stack.settings)
    second.start(wait=False)
    assert second.wait_ended() == EX_CONFIG
    reason = scene.stack.agent.events("not started")[-1]["reason"]
    assert reason == f"another agent uses {scene.stack.agent.state_dir}; stop it first"
    scene.raw.settle()


def test_connections_that_break_under_load_lose_no_request_and_run_none_twice() -> None:
    sent = [uuid4() for _ in range(500)]
    with running_stack() as stack, ThreadPoolExecutor(32) as pool:
        calls = [pool.submit(stack.call, Ping(), request_id=request_id) for request_id in sent]
        for answered in (100, 300):
            _until(partial(_answered, calls, answered))
            close_all_connections(stack.amqp_url)
        assert {call.result(60).host for call in calls} == {"kvm1"}
        ran = Counter(line["request"] for line in stack.agent.events("done"))
        assert ran == Counter(map(str, sent))
        assert _journal(stack, "SELECT count(*), count(DISTINCT id) FROM command") == [(500, 500)]
        assert _journal(stack, "SELECT count(*) FROM command WHERE state != 'finished'") == [(0,)]
        connected = Counter(line["link"] for line in stack.agent.events("broker connected"))
        assert min(connected["in"], connected["out"]) >= 2


def test_sigterm_lets_running_commands_finish_and_keeps_the_queued_for_the_next_start() -> None:
    with running_stack(lanes={"fast": 2}) as stack, raw_client(stack.amqp_url) as raw:
        volumes = [stack.create() for _ in range(4)]
        stack.storpool.sim.fault({"kind": "delay", "seconds": SLOW_S}, query="VolumeUpdate", times=2)
        ids = [raw.ask(resize(volume)) for volume in volumes]
        _until(lambda: len(stack.storpool.sim.requests("Volume")) + len(stack.agent.events("started")) >= 2)
        time.sleep(0.3)
        assert stack.agent.stop() == 0
        raw.listen_for(0.5)
        done = [one for one in ids if raw.replies(one)]
        assert done == ids[:2]
        assert _journal(stack, "SELECT state, attempts FROM command ORDER BY seq") == [
            *[("finished", 1)] * 2,
            *[("accepted", 0)] * 2,
        ]
        stack.agent.start()
        assert [raw.reply(one)["status"] for one in ids] == ["success"] * 4
        raw.settle()
        assert raw.answered_twice() == {}
        assert len(stack.storpool.sim.requests("VolumeUpdate")) == 4


def test_only_allowed_publishers_command_the_host() -> None:
    with running_stack(amqp={"allowed_publishers": ["guest"]}) as stack, raw_client(stack.amqp_url) as raw:
        volume = stack.create()
        for exchange in (topology.COMMANDS, topology.CONTROL):
            with nothing_changes(stack):
                request_id = str(uuid4())
                raw.publish({"id": request_id, "protocol": 1, "body": PING}, exchange=exchange)
                reply = raw.next_reply()
            refused(reply, ErrorCode.NOT_AUTHORIZED, says=("user_id", "allowed_publishers"))
            assert raw.dead_letter().headers["code"] == ErrorCode.NOT_AUTHORIZED
        assert _journal(stack, "SELECT count(*) FROM command") == [(0,)]
        request_id = str(uuid4())
        raw.publish({"id": request_id, "protocol": 1, "body": connect(volume)}, user_id="guest")
        assert raw.reply(request_id)["status"] == "success"
        stack.storpool.detach(volume[1:])


def _answered(calls: Sequence[Future[Pong]], enough: int) -> bool:
    return sum(call.done() for call in calls) >= enough


def _slow(scene: Scene, query: str, **match: Any) -> None:
    scene.stack.storpool.sim.fault({"kind": "delay", "seconds": SLOW_S}, query=query, **match)


def _calls(scene: Scene, query: str, volume: str) -> list[dict[str, Any]]:
    return [one for one in scene.stack.storpool.sim.requests(query) if volume[1:] in one["arg"]]


def _control(scene: Scene, command: str, about: str | None = None, **fields: Any) -> dict[str, Any]:
    asked = str(uuid4())
    body = {"command": command, **({"id": about} if about else {}), **fields}
    scene.raw.publish({"id": asked, "protocol": 1, "body": body}, exchange=topology.CONTROL)
    return scene.raw.reply(asked)


def _query(scene: Scene, request_id: str) -> Mapping[str, Any]:
    """Its status, or that it is not stored yet."""
    reply = _control(scene, "queryCommand", request_id)
    status: Mapping[str, Any] = reply["result"]["status"] if reply["status"] == "success" else {"state": None}
    return {"steps": [], **status}


def _until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def _refusals_of(stack: Stack, request_id: str) -> list[dict[str, Any]]:
    return [one for one in stack.agent.events("message refused") if one["message_id"] == request_id]


def _journal(stack: Stack, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(stack.agent.state_dir / "journal.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
