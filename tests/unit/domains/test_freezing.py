# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is made of the answers of a guest's agent, and above all of those that do not come."""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import TypeVar, cast
from xml.etree.ElementTree import Element

import libvirt
import pytest

from storpool_agent.deadline import Deadline
from storpool_agent.domains import freezing
from storpool_agent.domains.access import Access
from storpool_agent.domains.calls import Call, DomainCalls
from storpool_agent.domains.link import Link
from storpool_agent.domains.machine import Machine
from storpool_agent.domains.model import Domain
from storpool_agent.domains.news import Newsroom
from storpool_agent.errors import AgentError, GuestAgentUnavailable, GuestNotFrozen, LibvirtTimeout, VmNotRunning

T = TypeVar("T")
URI = "test:///default"
DOMAIN = Domain("00000000-0000-0000-0000-000000000001", "vm", True, True)
TIME = {"seconds": 1, "nseconds": 0}
QEMU = "internal error: unable to execute QEMU agent command "


class ScriptedCalls(DomainCalls):
    """What the agent answers, call by call; no call too many is made."""

    def __init__(self, *answers: object) -> None:
        super().__init__(URI)
        self.answers = list(answers)

    def make(self, uuid: str, call: Call[T], deadline: Deadline) -> T:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast(T, answer)


@dataclass(frozen=True)
class Scripted(Access):
    live: bool = True

    def read(self, uuid: str, deadline: Deadline) -> Machine | None:
        return Machine(DOMAIN, Element("domain") if self.live else None, None)


def said(number: int, text: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError("call failed")
    error.err = (number, 10, text)
    return error


NOT_CONNECTED = said(86, "Guest agent is not responding: QEMU guest agent is not connected")
UNAVAILABLE = said(86, "Guest agent is not responding: Guest agent not available for now")
GONE = said(86, "Guest agent is not responding: Guest agent disappeared while executing command")
NOT_CONFIGURED = said(74, "argument unsupported: QEMU guest agent is not configured")
NOT_RUNNING = said(55, "Requested operation is not valid: domain is not running")
FROZEN = said(1, QEMU + "'guest-get-time': Command guest-get-time has been disabled: the agent is in frozen state")
NO_TIME = said(1, QEMU + "'guest-get-time': Command guest-get-time has been disabled")
NO_FREEZE = said(1, QEMU + "'guest-fsfreeze-freeze': Command guest-fsfreeze-freeze has been disabled")
THAWED_ITSELF = said(1, QEMU + "'guest-fsfreeze-thaw': couldn't hold writes: fsfreeze is limited up to 10 seconds: ")


@pytest.fixture
def scripts() -> Iterator[list[ScriptedCalls]]:
    """All answers of each are to be used up."""
    made: list[ScriptedCalls] = []
    yield made
    assert [script.answers for script in made] == [[] for _ in made]


def access(scripts: list[ScriptedCalls], *answers: object, live: bool = True) -> Access:
    newsroom = Newsroom()
    scripts.append(ScriptedCalls(*answers))
    return Scripted(Link(URI, newsroom), DomainCalls(URI), scripts[-1], newsroom, Event(), live)


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.mark.parametrize(
    "answers",
    [(TIME, 2), (NO_TIME, 2), (FROZEN,)],
    ids=["frozen", "an agent that may not tell the time", "frozen already"],
)
def test_a_guest_is_frozen(scripts: list[ScriptedCalls], answers: tuple[object, ...]) -> None:
    freezing.freeze(access(scripts, *answers), DOMAIN, soon())


@pytest.mark.parametrize(
    ("answers", "refusal"),
    [
        pytest.param((NOT_CONNECTED,), GuestAgentUnavailable, id="not connected"),
        pytest.param((NOT_CONFIGURED,), GuestAgentUnavailable, id="not configured"),
        pytest.param((UNAVAILABLE,), GuestAgentUnavailable, id="silent from the start"),
        pytest.param((LibvirtTimeout("late"),), GuestAgentUnavailable, id="no answer from the start"),
        pytest.param((NOT_RUNNING,), VmNotRunning, id="off"),
        pytest.param((TIME, NO_FREEZE), GuestNotFrozen, id="freezing is not allowed"),
        pytest.param((TIME, 0), GuestNotFrozen, id="nothing to freeze"),
        pytest.param((TIME, UNAVAILABLE), LibvirtTimeout, id="silent when it was to freeze"),
        pytest.param((TIME, GONE), LibvirtTimeout, id="gone when it was to freeze"),
        pytest.param((TIME, LibvirtTimeout("late")), LibvirtTimeout, id="no answer to the freeze"),
    ],
)
def test_only_an_answer_that_was_lost_leaves_a_doubt(
    scripts: list[ScriptedCalls], answers: tuple[object, ...], refusal: type[AgentError]
) -> None:
    with pytest.raises(AgentError) as refused:
        freezing.freeze(access(scripts, *answers), DOMAIN, soon())
    assert type(refused.value) is refusal


@pytest.mark.parametrize(
    ("answers", "held"),
    [((2,), True), ((0,), False), ((THAWED_ITSELF, 0), False)],
    ids=["frozen until now", "not frozen", "Windows has thawed itself"],
)
def test_a_thaw_says_whether_it_was_frozen_until_then(
    scripts: list[ScriptedCalls], answers: tuple[object, ...], held: bool
) -> None:
    assert freezing.thaw(access(scripts, *answers), DOMAIN, soon()) is held


def test_a_paused_machine_is_not_taken_for_one_that_is_off(scripts: list[ScriptedCalls]) -> None:
    assert freezing.thaw(access(scripts, NOT_RUNNING, live=False), DOMAIN, soon()) is False
    with pytest.raises(GuestAgentUnavailable):
        freezing.thaw(access(scripts, NOT_RUNNING), DOMAIN, soon())


def test_a_silent_agent_thaws_nothing(scripts: list[ScriptedCalls]) -> None:
    with pytest.raises(GuestAgentUnavailable):
        freezing.thaw(access(scripts, GONE), DOMAIN, soon())
