# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""When a copy is complete, and when it is given up. Looks are a list here; no libvirt is asked."""

from threading import Event
from time import monotonic, sleep

import pytest

from domains_contract import Copy
from storpool_agent.deadline import Deadline
from storpool_agent.domains import progress
from storpool_agent.domains.access import Access
from storpool_agent.domains.calls import DomainCalls
from storpool_agent.domains.copy_job import CopyJob, Look
from storpool_agent.domains.link import Link
from storpool_agent.domains.lookout import Lookout
from storpool_agent.domains.mirror_xml import Stage
from storpool_agent.domains.model import DiskInDomain, Domain, MirrorTarget
from storpool_agent.domains.news import Newsroom, Waiter
from storpool_agent.domains.pivoting import Pivoting
from storpool_agent.domains.progress import Progress
from storpool_agent.errors import BlockJobFailed, CopyStalled, LibvirtTimeout, LibvirtUnavailable, VmBusy

URI = "test:///default"
DOMAIN = Domain("00000000-0000-0000-0000-000000000001", "vm", True, True)
DISK = DiskInDomain(DOMAIN, "/dev/storpool/v", "vda", "virtio", True, True, "ua-1", None, None)
TARGET = MirrorTarget("/dev/storpool/w", "raw", device=True)
AWAY = LibvirtUnavailable("libvirt: down")


class ScriptedJob(CopyJob):
    """The last look is seen again and again."""

    def script(self, *looks: Look) -> None:
        object.__setattr__(self, "looks", list(looks))
        object.__setattr__(self, "pivots", [])

    def look(self, deadline: Deadline) -> Look:
        looks: list[Look] = self.__dict__["looks"]
        return looks.pop(0) if len(looks) > 1 else looks[0]

    def pivot(self, deadline: Deadline) -> None:
        self.__dict__["pivots"].append(deadline)
        raise LibvirtTimeout("the answer is lost")


def job(target: MirrorTarget = TARGET, *looks: Look) -> ScriptedJob:
    newsroom = Newsroom()
    access = Access(Link(URI, newsroom), DomainCalls(URI), DomainCalls(URI), newsroom, Event())
    made = ScriptedJob(access, DISK, target)
    made.script(*looks)
    return made


def waiter() -> Waiter:
    return Waiter(DOMAIN.uuid, "vda")


def watched(copying: Copy, stall_timeout_s: float = 30, by: Waiter | None = None) -> Progress:
    object.__setattr__(copying.task, "stall_timeout_s", stall_timeout_s)
    return Progress(job(), copying.task, by or waiter())


@pytest.mark.parametrize(
    ("look", "complete"),
    [
        (Look(Stage.COPYING, 5, 5), False),
        (Look(Stage.READY, 4, 5), False),
        (Look(Stage.READY, 0, 0), False),
        (Look(Stage.SETTLING), False),
        (Look(Stage.READY, 5, 5), True),
        (Look(Stage.MOVED), True),
    ],
    ids=["not ready", "written to since", "not begun", "being ended", "the same", "pivoted"],
)
def test_a_copy_is_complete_when_it_is_ready_and_both_are_the_same(look: Look, complete: bool) -> None:
    assert watched(Copy()).is_complete((monotonic(), look)) is complete


def test_what_is_new_is_reported_once() -> None:
    copying = Copy()
    progressing = watched(copying)
    for done in (1, 1, 2):
        progressing.is_complete((monotonic(), Look(Stage.COPYING, done, 5)))
    assert copying.reports == [(1, 5), (2, 5)]


def test_what_the_guest_writes_is_no_progress() -> None:
    progressing = watched(Copy(), stall_timeout_s=0.05)
    progressing.is_complete((monotonic(), Look(Stage.COPYING, 1, 5)))
    sleep(0.06)
    with pytest.raises(CopyStalled) as stalled:
        progressing.is_complete((monotonic(), Look(Stage.COPYING, 1, 6)))
    assert (stalled.value.facts["done_bytes"], stalled.value.facts["total_bytes"]) == (1, 6)


def test_nothing_stalls_while_nothing_is_seen() -> None:
    progressing = watched(Copy(), stall_timeout_s=0.05)
    progressing.is_complete((monotonic(), Look(Stage.COPYING, 1, 5)))
    sleep(0.06)
    assert not progressing.is_complete((monotonic(), AWAY))
    assert not progressing.is_complete((monotonic(), Look(Stage.COPYING, 1, 5)))


def test_a_libvirt_that_stays_away_is_given_up_and_what_runs_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.05)
    progressing = watched(Copy())
    assert not progressing.is_complete((monotonic(), AWAY))
    sleep(0.06)
    with pytest.raises(LibvirtUnavailable, match="runs on, unwatched"):
        progressing.is_complete((monotonic(), AWAY))
    assert progressing.out_of_sight


@pytest.mark.parametrize(("end", "why"), [("cancelled", "somebody has ended it"), ("failed", "QEMU has given it up")])
def test_a_copy_that_is_gone_has_failed_and_the_news_say_how(end: str, why: str) -> None:
    newsroom = Newsroom()
    with newsroom.expect(DOMAIN.uuid, "vda") as heard:
        newsroom.block_job(DOMAIN.uuid, "vdb", "cancelled")
        newsroom.block_job(DOMAIN.uuid, "vda", end)  # type: ignore[arg-type]
        newsroom.block_job(DOMAIN.uuid, "vda", None)
        with pytest.raises(BlockJobFailed, match=why):
            watched(Copy(), by=heard).is_complete((monotonic(), Look(Stage.NONE)))


def test_a_copy_that_nobody_waits_for_is_not_begun() -> None:
    waited, over = Event(), Event()
    begun: list[bool] = []

    def begin(lookout: Lookout) -> None:
        waited.wait(10)
        try:
            lookout.commit()
            begun.append(True)
        finally:
            over.set()

    with Lookout(begin, lambda: Look(Stage.NONE), waiter()) as lookout:
        assert lookout.leave() is False
        waited.set()
        assert over.wait(10)
    assert begun == []
    with pytest.raises(VmBusy):
        look_for(lookout, 10)


@pytest.mark.parametrize(
    ("look", "refusal"),
    [
        (Look(Stage.NONE), BlockJobFailed),
        (Look(Stage.COPYING, 1, 5), BlockJobFailed),
        (Look(Stage.READY, 4, 5), BlockJobFailed),
        (Look(Stage.SETTLING), LibvirtTimeout),
    ],
    ids=["no copy", "not ready", "never the same", "no end"],
)
def test_what_is_not_complete_is_not_pivoted_to(look: Look, refusal: type[Exception]) -> None:
    scripted = job(TARGET, look)
    with pytest.raises(refusal):
        Pivoting(scripted, Deadline.after(0.1)).run()
    assert scripted.__dict__["pivots"] == []


def test_a_pivot_whose_answer_is_lost_and_that_is_not_seen_to_be_done_is_uncertain() -> None:
    scripted = job(TARGET, Look(Stage.READY, 4, 5), Look(Stage.READY, 5, 5))
    with pytest.raises(LibvirtTimeout):
        Pivoting(scripted, Deadline.after(0.1)).run()
    assert scripted.__dict__["pivots"] != []


def look_for(lookout: Lookout, seconds: float) -> None:
    give_up = monotonic() + seconds
    while monotonic() < give_up:
        lookout.latest()
        sleep(0.01)
