# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What every operation on a machine works with."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains import machine
from storpool_agent.domains.calls import DomainCalls
from storpool_agent.domains.link import Link
from storpool_agent.domains.machine import Machine
from storpool_agent.domains.news import Newsroom
from storpool_agent.domains.refusals import translated

T = TypeVar("T")


@dataclass(frozen=True)
class Access:
    link: Link
    calls: DomainCalls
    guest_calls: DomainCalls
    """Calls that wait for the guest's agent: one that hangs keeps none of the others waiting."""
    newsroom: Newsroom
    stopping: Event

    def read(self, uuid: str, deadline: Deadline) -> Machine | None:
        return self.link.ask(lambda connection: machine.read(connection, uuid), deadline)

    def read_all(self, deadline: Deadline) -> list[Machine]:
        return self.link.ask(lambda connection: machine.read_all(connection, deadline), deadline)

    def call(self, uuid: str, call: Callable[[libvirt.virDomain], T], deadline: Deadline) -> T:
        """A call that may have to wait for QEMU, its refusals translated."""
        try:
            return self.calls.make(uuid, call, deadline)
        except libvirt.libvirtError as error:
            raise translated(error, vm=uuid) from error
