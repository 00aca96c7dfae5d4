# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Copying a running machine's disk until target and disk are the same, and watching that it gets on."""

from dataclasses import dataclass
from functools import partial
from os.path import realpath
from time import sleep

import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.domains.access import Access
from storpool_agent.domains.copy_job import LOOK_S, CopyJob
from storpool_agent.domains.disk_xml import SourcePaths
from storpool_agent.domains.ending import Ending
from storpool_agent.domains.lookout import Lookout
from storpool_agent.domains.mirror_xml import Stage
from storpool_agent.domains.model import DiskInDomain, MirrorTarget
from storpool_agent.domains.progress import Progress
from storpool_agent.errors import (
    AgentError,
    DiskInUseByVm,
    LibvirtTimeout,
    LibvirtUnavailable,
    VmBusy,
)
from storpool_agent.interrupt import AgentStopping
from storpool_agent.task import Task

CALL_S = 20.0  # above what the calls themselves take at most
END_S = 30.0
REACT_S = 0.1
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Mirroring:
    """One disk of one machine to one target. Used once. `deadline` is for the beginning."""

    access: Access
    disk: DiskInDomain
    target: MirrorTarget
    deadline: Deadline

    def run(self, task: Task) -> None:
        task.interrupt.check()
        uuid = self.disk.domain.uuid
        job = CopyJob(self.access, self.disk, self.target)
        with self.access.newsroom.expect(uuid, self.disk.target) as waiter:
            progress = Progress(job, task, waiter)
            begin = partial(self._begin, job, task)
            with Lookout(begin, lambda: job.look(Deadline.after(CALL_S)), waiter) as lookout:
                try:
                    while not progress.is_complete(lookout.latest()):
                        task.interrupt.wait(REACT_S)
                except AgentStopping:
                    raise
                except Exception as error:
                    if lookout.leave() and not progress.out_of_sight:
                        self._end(job, error)
                    raise
        log.info("disk mirrored", vm=uuid, target=self.disk.target, path=self.target.path)

    def _begin(self, job: CopyJob, task: Task, lookout: Lookout) -> None:
        """Again when its answer is lost: libvirt refuses a second copy of a disk, so that there is never one."""
        lost: AgentError | None = None
        while True:
            try:
                return self._begin_once(job, task, lookout)
            except (LibvirtTimeout, LibvirtUnavailable) as error:
                lost = error
            except VmBusy:  # also as long as the call whose answer was lost has not come back
                if lost is None:
                    raise
            if self.deadline.passed:
                raise lost
            sleep(LOOK_S)

    def _begin_once(self, job: CopyJob, task: Task, lookout: Lookout) -> None:
        turn = self.access.calls.turn
        with turn(realpath(self.target.path), self.deadline), turn(self.disk.domain.uuid, self.deadline):
            stage = job.settle(self.deadline)
            if stage is not Stage.NONE:
                lookout.commit()
                log.info("mirror found", vm=self.disk.domain.uuid, path=self.target.path, stage=stage.value)
                return
            self._refuse_used_target()
            job.refuse_other_size(self.deadline)
            lookout.commit()
            job.begin(task.bandwidth_bytes_s, self.deadline)

    def _refuse_used_target(self) -> None:
        """QEMU's own lock does not tell of a machine that is off, nor where each QEMU has a /dev of its own."""
        paths = SourcePaths([self.target.path])
        for there in (disk for one in self.access.read_all(self.deadline) for disk in one.disks(paths)):
            raise DiskInUseByVm(
                f"{self.target.path}, which was to be copied to, is {there.target} of {there.domain.name}",
                vm=there.domain.uuid,
                name=there.domain.name,
                target=there.target,
            )

    def _end(self, job: CopyJob, reason: Exception) -> None:
        try:
            Ending(self.access, self.disk.domain.uuid, self.target.path, Deadline.after(END_S)).run()
        except AgentError as failure:
            log.warning("mirror not ended", **job.facts, reason=str(failure))
            raise type(failure)(
                f"{reason}; and {job.name} could not be ended, it may run on: {failure}", **failure.facts
            ) from reason
