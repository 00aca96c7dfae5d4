# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How the agent is."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from storpool_agent.cli import asking, render
from storpool_agent.cli.exits import NOT_RUNNING, TROUBLE
from storpool_agent.cli.options import config_option, json_option
from storpool_agent.cli.presence import Presence
from storpool_agent.cli.render import BAD, FAINT, GOOD, WARNING, Cell
from storpool_commands.control import AgentStatus, GetAgentStatus, ProcessStatus, Reach

SERVES = "serves"


@click.command()
@config_option
@json_option
def status(config: Path, as_json: bool) -> None:
    """How the agent is: connections, work, disk.

    Exit status 0: all is well. 1: trouble, which is told. 3: it does not run. 78: nor could it, with these settings.
    """
    answer = asking.ask(config, GetAgentStatus(), AgentStatus)
    if as_json:
        answer.print_json()
    else:
        show(answer.result, answer.agent)
    sys.exit(exit_status(answer.result, answer.agent))


def exit_status(told: AgentStatus, agent: Presence) -> int:
    """As `systemctl status` has it."""
    if agent.state == "down":
        return NOT_RUNNING
    return TROUBLE if told.troubles or agent.state == "silent" else 0


def show(told: AgentStatus, agent: Presence) -> None:
    """All of it on one screen."""
    render.facts([*_agent(told, agent), *_connections(told), *_work(told), *_disk(told)])
    troubles = [one for one in told.troubles if told.process or one != "no agent answers"]
    if troubles:
        render.heading("Trouble")
        for one in troubles:
            render.line((f"  {one}", BAD))


def _agent(told: AgentStatus, agent: Presence) -> Iterator[tuple[str, Cell]]:
    process = told.process
    if process is None:
        yield "agent", (f"{told.host}: {'does not run' if agent.state == 'down' else 'does not answer'}", BAD)
        return
    state = _state(told, process)
    yield "agent", (f"{told.host}: {state}", GOOD if state == SERVES else WARNING)
    yield "running since", f"{render.moment(process.started_at)}, pid {process.pid}, version {told.version}"


def _state(told: AgentStatus, process: ProcessStatus) -> str:
    """It serves when it has all that commands need."""
    if process.stopping:
        return "stops"
    if process.draining:
        return "drained, takes no commands"
    needed = {
        "its broker": all(link.connected for link in process.links),
        "StorPool": told.storpool.reachable,
        "libvirt": told.libvirt.reachable,
    }
    missing = [name for name, there in needed.items() if not there]
    return f"runs, without {' and '.join(missing)}" if missing else SERVES


def _connections(told: AgentStatus) -> Iterator[tuple[str, Cell]]:
    if told.process is not None:
        yield from _broker(told.process)
    yield "StorPool", _reach(told.storpool)
    yield "libvirt", _reach(told.libvirt)


def _broker(process: ProcessStatus) -> Iterator[tuple[str, Cell]]:
    for link in process.links:
        what = "takes commands from" if link.name == "in" else "sends replies to"
        since = f" since {render.moment(link.since)}" if link.since else ""
        state = f"connected{since}" if link.connected else f"not connected{since}"
        yield f"broker, {link.name}", (f"{what} {process.broker}: {state}", "" if link.connected else BAD)
        if link.reason and not link.connected:
            yield "", (link.reason, BAD)


def _reach(reach: Reach) -> Cell:
    return reach.detail if reach.reachable else (reach.detail, BAD)


def _work(told: AgentStatus) -> Iterator[tuple[str, Cell]]:
    for lane in told.process.lanes if told.process else ():
        yield f"lane {lane.name}", f"{lane.running} of {lane.workers} workers busy, {lane.queued} queued"
    yield "unfinished", _count(told.unfinished, " (requests)")
    oldest = f"; the oldest is from {render.moment(told.oldest_unsent)}" if told.oldest_unsent else ""
    yield "unsent replies", _count(told.unsent_replies, oldest)
    yield "pending unplugs", _count(told.pending_unplugs, " (guests that were asked to let go of a disk)")
    yield "may be frozen", _count(told.pending_thaws, " (guests)")
    yield "leftovers", _count(told.leftovers, " (of ended copies, to be taken away)")


def _count(number: int, what: str) -> Cell:
    return f"{number}{what}" if number else ("none", FAINT)


def _disk(told: AgentStatus) -> Iterator[tuple[str, Cell]]:
    journal = told.journal
    room = f"{render.sized(journal.free_bytes)} of {render.sized(journal.total_bytes)} free on its disk"
    yield "journal", f"{journal.path}, {render.sized(journal.size_bytes)}; {room}"
