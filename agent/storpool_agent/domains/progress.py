# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How a copy gets on, and when it is to be given up."""

import os
from time import monotonic

from storpool_agent.domains.copy_job import CopyJob, Look
from storpool_agent.domains.mirror_xml import Stage
from storpool_agent.domains.news import Waiter
from storpool_agent.errors import AgentError, BlockJobFailed, CopyStalled
from storpool_agent.task import Task

PATIENCE_S = 120.0  # an upgrade of libvirt takes its daemon away for some seconds, on a busy host for a minute
NO_ROOM_BYTES = 1024 * 1024  # QEMU copies a MiB at a time


class Progress:
    """What one look after the other says."""

    def __init__(self, job: CopyJob, task: Task, waiter: Waiter) -> None:
        self._job = job
        self._task = task
        self._waiter = waiter
        self._seen_at = self._moved_at = monotonic()
        self._last = Look(Stage.NONE)
        self.out_of_sight = False
        """It was given up because libvirt does not tell: it cannot be ended either."""

    def is_complete(self, latest: tuple[float, Look | AgentError] | None) -> bool:
        """Raises BlockJobFailed, CopyStalled; and libvirt's error when there has been no other answer for too long."""
        if latest is None:
            return False
        looked_at, seen = latest
        if isinstance(seen, AgentError):
            self._endure(seen)
            return False
        self._seen_at = looked_at
        if seen.stage is Stage.NONE:
            raise BlockJobFailed(f"{self._job.name} has failed: {self._cause()}", **self._job.facts)
        self._note(seen)
        if seen.stage is Stage.MOVED or seen.same:
            return True
        self._refuse_stall(seen)
        return False

    def _note(self, seen: Look) -> None:
        if (seen.stage, seen.done) != (self._last.stage, self._last.done):
            self._moved_at = monotonic()
        if seen.total and seen != self._last:
            self._task.report(seen.done, seen.total)
        self._last = seen

    def _endure(self, error: AgentError) -> None:
        """While nothing is seen nothing stands still."""
        self._moved_at = now = monotonic()
        if now - self._seen_at >= PATIENCE_S:
            self.out_of_sight = True
            raise type(error)(
                f"{error}; {self._job.name} runs on, unwatched: libvirt has said nothing of it for {PATIENCE_S:.0f} s",
                **error.facts,
            ) from error

    def _refuse_stall(self, seen: Look) -> None:
        idle_s = monotonic() - self._moved_at
        if idle_s >= self._task.stall_timeout_s:
            raise CopyStalled(
                f"{self._job.name} has not moved for {idle_s:.0f} s, at {seen.done} of {seen.total} bytes: does that "
                "storage answer?",
                **self._job.facts,
                done_bytes=seen.done,
                total_bytes=seen.total,
            )

    def _cause(self) -> str:
        """libvirt 9.0 has the event alone, and QEMU's reason in its own debug log."""
        if self._waiter.job_end == "cancelled":
            return "somebody has ended it (virsh blockjob --abort)"
        target = self._job.target
        if not target.device and _is_full(target.path):
            return "there is no room left where that file is"
        return "QEMU has given it up, and libvirt does not say why: look for errors of that storage in the host's log"


def _is_full(path: str) -> bool:
    try:
        room = os.statvfs(path)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < NO_ROOM_BYTES
