# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is still there that a maintenance of the host would disturb."""

import json
from collections.abc import Sequence
from time import monotonic

from storpool_agent import picture
from storpool_agent.deadline import Deadline
from storpool_agent.errors import AgentError
from storpool_agent.handlers.temporaries import MIRROR
from storpool_agent.host import Host
from storpool_agent.job import Job
from storpool_agent.journal.journal import Journal
from storpool_commands.control import Drained, ListedAttachment, PendingUnplug, RunningMirror, UnfinishedCommand

LOOK_TIMEOUT_S = 10.0
"""For StorPool and libvirt: the drain itself is in effect, and its reply must not wait for what hangs."""
LISTED = 100


def drained(host: Host, journal: Journal, unfinished: Sequence[Job]) -> Drained:
    """The reply to a drain. Raises JournalUnavailable; what others cannot tell is told as not known."""
    unplugs = journal.unplugs.pending()
    mirrors = [(one.command, *json.loads(one.target)) for one in journal.temporaries.of_kind(MIRROR)]
    attachments, not_known = _in_use(host, journal)
    return Drained(
        draining=True,
        quiet=not (unfinished or unplugs or mirrors) and attachments == [],
        unfinished=len(unfinished),
        commands=[_status(job) for job in unfinished[:LISTED]],
        pending_unplugs=[PendingUnplug(global_id=one.global_id, vm=one.vm, request=one.command) for one in unplugs],
        mirrors=[RunningMirror(vm=vm, path=path, request=request) for request, vm, path in mirrors],
        attachments=attachments,
        not_known=not_known,
    )


def _status(job: Job) -> UnfinishedCommand:
    return UnfinishedCommand(
        id=job.request.id,
        body_command=job.request.body.command,
        state="queued" if job.attempt is None else "running",
        waited_s=round(monotonic() - job.queued_at, 1),
        progress=job.meter.read(),
    )


def _in_use(host: Host, journal: Journal) -> tuple[list[ListedAttachment] | None, str | None]:
    try:
        seen = picture.take(host, journal, Deadline.after(LOOK_TIMEOUT_S))
    except AgentError as error:
        return None, str(error)
    return [
        ListedAttachment(
            global_id=one.global_id,
            snapshot=one.snapshot,
            mode=one.mode,
            path=seen.path(one.global_id),
            vms=seen.running(one.global_id),
            vm_names=seen.running_names(one.global_id),
        )
        for one in sorted(seen.here, key=lambda one: one.global_id)
        if seen.running(one.global_id)
    ], None
