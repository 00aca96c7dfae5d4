# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A command whose agent is killed while it runs it, and whose sender gets the one reply from the next agent."""

import sqlite3
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from agent_process import Stack
from real_lab import wait_for
from storpool_commands.control import QueryCommand

REPLY_TIMEOUT_S = 60.0


def through_a_crash(stack: Stack, command: Any, point: str) -> Any:
    """Send the command to an agent that dies at the point; the result that the sender gets from its successor."""
    with _sent(stack, command, crash_at=point) as answer:
        stack.agent.wait_crashed()
        stack.agent.start()
    return answer[0]


def through_a_lost_answer(stack: Stack, command: Any, query: str, done: Callable[[], bool]) -> Any:
    """As `through_a_crash`, when StorPool has done what `query` asks for and has not answered."""
    stack.storpool.sim.fault({"kind": "hang", "processed": True}, query=query)
    with _sent(stack, command) as answer:
        wait_for(done, REPLY_TIMEOUT_S)
        stack.agent.kill()
        stack.storpool.sim.clear_faults()
        stack.agent.start()
    return answer[0]


@contextmanager
def _sent(stack: Stack, command: Any, *, crash_at: str | None = None) -> Generator[list[Any]]:
    """Send it to an agent that is started for it; after the block there is an answer, one."""
    request_id = uuid4()
    answer: list[Any] = []
    stack.agent.start(crash_at=crash_at)
    try:
        with ThreadPoolExecutor(1, "sender") as sender:
            reply = sender.submit(stack.call, command, request_id=request_id)
            yield answer
            answer.append(reply.result(REPLY_TIMEOUT_S))
        assert_one_reply(stack, request_id)
    finally:
        stack.agent.stop()


def assert_one_reply(stack: Stack, request_id: UUID) -> None:
    known = stack.call(QueryCommand(id=request_id))
    assert (known.status.state, known.reply and known.reply["status"]) == ("finished", "success")
    with sqlite3.connect(f"file:{stack.agent.state_dir}/journal.db?mode=ro", uri=True) as journal:
        [(replies,)] = journal.execute("SELECT count(*) FROM command WHERE id = ?", (str(request_id),))
    journal.close()
    assert replies == 1
