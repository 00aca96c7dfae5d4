# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How the agent is, and what of it somebody should look at."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import time

from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError, JournalUnavailable
from storpool_agent.host import Host
from storpool_agent.journal.database import FILE_NAME
from storpool_agent.journal.overview import Counts, Overview
from storpool_commands.control import AgentStatus, JournalStatus, ProcessStatus, Reach

REACH_S = 3.0
"""For StorPool, and then for libvirt: what does not answer within that is not there for a person who waits."""
LOW_BYTES = 256 << 20
"""A journal's disk with less room is nearly full."""
UNSENT_S = 60.0
"""A reply that is not taken for so long has nobody who takes it, or no broker."""
UNPLUG_S = 600.0
"""A guest that has not let go for so long does so seldom by itself."""

NOTHING = Counts(0, 0, None, 0, None, 0, 0, 0)


def take(host: Host, overview: Overview, state_dir: Path, version: str, process: ProcessStatus | None) -> AgentStatus:
    """`process`: None when no agent runs. Raises nothing but what is a defect: what cannot be asked is a trouble."""
    storpool = _reach(lambda: _storpool(host))
    libvirt = _reach(lambda: _libvirt(host))
    journal = _journal(state_dir)
    counts, unreadable = _counts(overview)
    troubles = [
        *unreadable,
        *_of_process(process),
        *_out_of_reach("StorPool", storpool),
        *_out_of_reach("libvirt", libvirt),
        *_of_journal(journal, state_dir),
        *_of_counts(counts),
    ]
    return AgentStatus(
        host=host.name,
        version=version,
        process=process,
        storpool=storpool,
        libvirt=libvirt,
        journal=journal,
        unfinished=counts.unfinished,
        unsent_replies=counts.unsent,
        oldest_unsent=_time(counts.oldest_unsent),
        pending_unplugs=counts.unplugs,
        pending_thaws=counts.thaws,
        leftovers=counts.leftovers,
        troubles=troubles,
    )


def _reach(ask: Callable[[], str]) -> Reach:
    try:
        return Reach(reachable=True, detail=ask())
    except AgentError as error:
        return Reach(reachable=False, detail=str(error))


def _storpool(host: Host) -> str:
    services = host.storpool.services(Deadline.after(REACH_S))
    ours = next((one for one in services.clients if one.client == host.storpool.our_id), None)
    client = f"client {host.storpool.our_id} {ours.status if ours else 'is not listed'}"
    return f"cluster {services.cluster_status}, {client}"


def _libvirt(host: Host) -> str:
    libvirt, qemu = host.domains.versions(Deadline.after(REACH_S))
    return f"libvirt {libvirt}, QEMU {qemu}"


def _journal(state_dir: Path) -> JournalStatus:
    path = state_dir / FILE_NAME
    sizes = [file.stat().st_size for file in state_dir.glob(f"{FILE_NAME}*")] if state_dir.is_dir() else []
    where = os.statvfs(state_dir if state_dir.is_dir() else "/")
    return JournalStatus(
        path=str(path),
        size_bytes=sum(sizes),
        free_bytes=where.f_bavail * where.f_frsize,
        total_bytes=where.f_blocks * where.f_frsize,
    )


def _counts(overview: Overview) -> tuple[Counts, list[str]]:
    try:
        return overview.counts(), []
    except JournalUnavailable as error:
        return NOTHING, [str(error)]


def _of_process(process: ProcessStatus | None) -> Iterator[str]:
    if process is None:
        yield "no agent answers"
        return
    yield from process.troubles
    for link in process.links:
        if not link.connected:
            since = f" since {link.since:%Y-%m-%d %H:%M:%S} UTC" if link.since else ""
            what = "commands are not taken" if link.name == "in" else "replies are not sent"
            why = f" ({link.reason})" if link.reason else ""
            yield f"not connected to the broker {process.broker}{since}: {what}{why}"


def _out_of_reach(name: str, reach: Reach) -> Iterator[str]:
    if not reach.reachable:
        yield f"{name}: {reach.detail}"


def _of_journal(journal: JournalStatus, state_dir: Path) -> Iterator[str]:
    if journal.free_bytes < LOW_BYTES:
        yield f"only {journal.free_bytes >> 20} MiB are free at {state_dir}: commands are refused when it is full"


def _of_counts(counts: Counts) -> Iterator[str]:
    now = time()
    if counts.oldest_unsent is not None and now - counts.oldest_unsent > UNSENT_S:
        yield f"replies are not sent: {counts.unsent}, the oldest for {round(now - counts.oldest_unsent)} s"
    if counts.oldest_unplug is not None and now - counts.oldest_unplug > UNPLUG_S:
        yield f"guests have not let go of a disk: {counts.unplugs}, one for {round(now - counts.oldest_unplug)} s"
    if counts.thaws_overdue:
        yield f"guests may be frozen for longer than they should: {counts.thaws_overdue}"
    if counts.leftovers:
        yield f"of ended copies could not be taken away yet: {counts.leftovers}, see `leftover kept` in the log"


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
