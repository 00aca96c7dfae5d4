# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How long a guest is waited for, and what is made of its answers. libvirt here is two XML texts and a list."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread, Timer
from time import monotonic
from typing import TypeVar, cast
from xml.etree.ElementTree import fromstring

import libvirt
import pytest

from storpool_agent.deadline import Deadline
from storpool_agent.domains import unplugging
from storpool_agent.domains.access import Access
from storpool_agent.domains.calls import Call, DomainCalls
from storpool_agent.domains.link import Link
from storpool_agent.domains.machine import Machine
from storpool_agent.domains.model import DiskInDomain, Domain
from storpool_agent.domains.news import Newsroom
from storpool_agent.domains.refusals import translated
from storpool_agent.domains.unplugging import Unplugging
from storpool_agent.errors import LibvirtRefused, LibvirtUnavailable, UnplugPending, UnplugRejected, VmBusy

T = TypeVar("T")
URI = "test:///default"
DOMAIN = Domain("00000000-0000-0000-0000-000000000001", "vm", True, True)
DISK_XML = "<disk type='block'><source dev='/dev/storpool/v'/><alias name='ua-1'/></disk>"
WITH_DISK = f"<domain><devices>{DISK_XML}</devices></domain>"
COPYING = WITH_DISK.replace("</disk>", "<mirror/></disk>")
WITHOUT = "<domain><devices/></domain>"
DISK = DiskInDomain(DOMAIN, "/dev/storpool/v", "vda", "virtio", True, True, "ua-1", None, None)


@dataclass
class Script:
    """`answers` are what asking the guest raises or does, one each; after them it is silent."""

    answers: list[libvirt.libvirtError | Callable[[], None]]
    live: str = WITH_DISK
    config: str = WITHOUT
    asked: int = 0
    lost_looks: int = 0


@dataclass(frozen=True)
class Scripted(Access):
    script: Script

    def read(self, uuid: str, deadline: Deadline) -> Machine | None:
        if self.script.lost_looks:
            self.script.lost_looks -= 1
            raise LibvirtUnavailable("libvirt: down")
        return Machine(DOMAIN, fromstring(self.script.live), fromstring(self.script.config))  # noqa: S314

    def call(self, uuid: str, call: Call[T], deadline: Deadline) -> T:
        self.script.asked += 1
        answer = self.script.answers.pop(0) if self.script.answers else None
        if isinstance(answer, libvirt.libvirtError):
            raise translated(answer, vm=uuid) from answer
        if answer is not None:
            answer()
        return cast(T, 0)

    def let_go(self) -> None:
        self.script.live = WITHOUT
        self.newsroom.device_removed(DOMAIN.uuid, "ua-1")

    def let_go_silently(self) -> None:
        self.script.live = WITHOUT

    def go_down(self) -> None:
        self.script.lost_looks = 2


def scripted(*answers: libvirt.libvirtError) -> Scripted:
    newsroom = Newsroom()
    return Scripted(Link(URI, newsroom), DomainCalls(URI), DomainCalls(URI), newsroom, Event(), Script(list(answers)))


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unplugging, "LOOK_AGAIN_S", 0.3)


def run(access: Access, wait_guest_s: float) -> None:
    Unplugging(access, DOMAIN, DISK, Deadline.after(30)).run(wait_guest_s)


def error(text: str) -> libvirt.libvirtError:
    made = libvirt.libvirtError("call failed")
    made.err = (1, 10, text)
    return made


def test_a_refusal_of_the_guest_ends_the_wait_at_once() -> None:
    access = scripted()
    Timer(0.1, access.newsroom.removal_failed, (DOMAIN.uuid, "ua-1")).start()
    began = monotonic()
    with pytest.raises(UnplugRejected) as rejected:
        run(access, 20)
    assert rejected.value.facts == {"vm": DOMAIN.uuid, "target": "vda", "alias": "ua-1"}
    assert monotonic() - began < 10


def test_news_of_another_disk_or_machine_is_not_ours() -> None:
    access = scripted()
    Timer(0.05, access.newsroom.removal_failed, (DOMAIN.uuid, "ua-2")).start()
    Timer(0.05, access.newsroom.removal_failed, ("another", "ua-1")).start()
    with pytest.raises(UnplugPending):
        run(access, 0.3)


def test_an_answer_that_comes_before_the_wait_is_not_lost() -> None:
    access = scripted()
    access.script.answers.append(access.let_go)
    began = monotonic()
    run(access, 20)
    assert monotonic() - began < 10


def test_an_event_that_never_comes_costs_a_look_and_no_more() -> None:
    access = scripted()
    Timer(0.1, access.let_go_silently).start()
    began = monotonic()
    run(access, 20)
    assert monotonic() - began < unplugging.LOOK_AGAIN_S + 10


def test_a_guest_that_does_not_hear_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unplugging, "ASK_AGAIN_S", 0.1)
    busy = error("unable to execute 'device_del': Hot-unplug failed: guest is busy (power indicator blinking)")
    access = scripted(busy, error("Device ua-1 is already in the process of unplug"), error("no such luck"))
    with pytest.raises(UnplugPending):
        run(access, 0.75)
    assert 4 <= access.script.asked <= 8


def test_a_device_that_libvirt_does_not_have_is_gone() -> None:
    access = scripted(error("no device found with alias ua-1"))
    Timer(0.1, access.let_go_silently).start()
    run(access, 20)


def test_a_first_request_that_libvirt_refuses_is_a_failure() -> None:
    with pytest.raises(LibvirtRefused):
        run(scripted(error("no such luck")), 20)


def test_a_disk_that_is_being_copied_is_left_as_it_is() -> None:
    access = scripted()
    access.script.live = COPYING
    access.script.config = WITH_DISK
    with pytest.raises(VmBusy):
        run(access, 20)
    assert access.script.asked == 0


def test_a_configuration_that_does_not_change_is_a_failure() -> None:
    access = scripted()
    access.script.config = WITH_DISK
    with pytest.raises(LibvirtRefused):
        run(access, 20)
    assert access.script.asked == 1


def test_the_wait_outlives_a_restart_of_libvirtd() -> None:
    access = scripted()
    access.script.answers.append(access.go_down)
    Timer(0.3, access.let_go).start()
    run(access, 20)


def test_no_time_for_the_guest_still_asks_it_once() -> None:
    access = scripted()
    with pytest.raises(UnplugPending):
        run(access, 0)
    assert access.script.asked == 1


def test_a_stop_of_the_agent_ends_the_wait() -> None:
    access = scripted()
    Timer(0.1, access.stopping.set).start()
    began = monotonic()
    with pytest.raises(UnplugPending):
        run(access, 20)
    assert monotonic() - began < unplugging.LOOK_AGAIN_S + 10


def test_other_operations_have_their_turn_while_the_guest_thinks() -> None:
    access = scripted()
    waiting = Thread(target=run_until_gone, args=(access,))
    waiting.start()
    try:
        with access.calls.turn(DOMAIN.uuid, Deadline.after(1)):
            pass
    finally:
        access.let_go()
        waiting.join(5)
    assert not waiting.is_alive()


def run_until_gone(access: Access) -> None:
    run(access, 20)
