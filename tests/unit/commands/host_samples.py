# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One example of what an admin asks on the host, and of its answer, each field set."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from storpool_commands.control import (
    AgentStatus,
    GetAgentStatus,
    JournalStatus,
    Kept,
    LaneStatus,
    LinkStatus,
    ProcessStatus,
    Reach,
)
from storpool_commands.disks import AttachedTo, Holder
from storpool_commands.explaining import (
    ExplainedVolume,
    ExplainVolume,
    SeenDevice,
    SeenDisk,
    SeenJob,
    SeenUnplug,
    SeenVolume,
)
from storpool_commands.wire import AnswerModel, CommandModel

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
JOB = UUID("8a6214d1-b9a8-47b1-9383-cfc8efba294e")
VM = "e5f570c2-4e43-4630-b2e0-8657bee8bbc2"

PROCESS = ProcessStatus(
    pid=4711,
    started_at=NOW,
    stopping=False,
    draining=True,
    broker="broker:5672",
    links=[
        LinkStatus(name="in", connected=True, since=NOW),
        LinkStatus(name="out", connected=False, since=None, reason="the broker has no such vhost"),
    ],
    lanes=[LaneStatus(name="fast", workers=16, running=2, queued=1)],
    unfinished=3,
)
AGENT_STATUS = AgentStatus(
    host="kvm1",
    version="0.1.0",
    process=PROCESS,
    storpool=Reach(reachable=True, detail="cluster running, client 1 running"),
    libvirt=Reach(reachable=False, detail="is libvirtd running?"),
    journal=JournalStatus(path="/var/lib/x/journal.db", size_bytes=1, free_bytes=2, total_bytes=3),
    unfinished=3,
    unsent_replies=1,
    oldest_unsent=NOW,
    pending_unplugs=1,
    pending_thaws=1,
    leftovers=1,
    troubles=["libvirt: is libvirtd running?"],
)
EXPLAINED = ExplainedVolume(
    global_id="d.n.a1",
    volume=SeenVolume(
        global_id="d.n.a1", name="disk-1", snapshot=False, size_bytes=512, template="dev", tags={"sp-op": str(JOB)}
    ),
    client=1,
    attachments=[AttachedTo(client=1, mode="rw")],
    device=SeenDevice(link="/dev/storpool-byid/d.n.a1", node="/dev/sp-1", size_bytes=512, mode="rw"),
    link="/dev/storpool-byid/d.n.a1",
    holders=[Holder(kind="process", name="dd", pid=1)],
    disks=[SeenDisk(vm=VM, name="web-1", running=True, target="vdb", live=True, config=True, mode="rw")],
    jobs=[SeenJob(id=JOB, body_command="detachDisk", state="running", received_at=NOW, step="unplug")],
    recent=[
        SeenJob(
            id=JOB,
            body_command="attachDisk",
            state="finished",
            received_at=NOW,
            outcome="failure",
            code="vm-busy",
            finished_at=NOW,
        )
    ],
    pending_unplug=SeenUnplug(vm=VM, request=str(JOB), since=NOW),
    generation=7,
    writing=str(JOB),
    operation=str(JOB),
    temporaries=[Kept(kind="use", target=str(JOB))],
    not_known=["libvirt: down"],
    summary="Machine web-1 runs with it as vdb.",
    advice=["Wait."],
)

CONTROL_SAMPLES: tuple[CommandModel[Any], ...] = (GetAgentStatus(), ExplainVolume(volume="~d.n.a1"))
RESULT_SAMPLES: tuple[AnswerModel, ...] = (AGENT_STATUS, EXPLAINED)
