# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Two hosts' libvirt, each of which may be killed, and a guest without disks that moves between them."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from guest import Guest, Hardware
from kvm_host import KvmHost
from storpool_agent.deadline import Deadline
from storpool_agent.domains.hypervisor import Hypervisor
from storpool_agent.domains.model import Passage, Presence, Routes
from storpool_agent.handlers.verdicts import Verdict, judge
from storpool_agent.interrupt import Interrupt
from storpool_agent.task import Task

ADDRESSES = ("10.96.0.1", "10.96.0.2")
SLOW_BYTES_S = 16 << 20
MEMORY = Hardware(memory_mib=96)


@dataclass
class Side:
    """One host, and what an agent on it would have of libvirt."""

    host: KvmHost
    domains: Hypervisor

    @property
    def name(self) -> str:
        return self.host.name


@dataclass
class Move:
    """One attempt to have the guest elsewhere."""

    lab: "MovingLab"
    slow: bool = False
    begun: Event = field(default_factory=Event)
    interrupt: Interrupt = field(default_factory=Interrupt)
    reports: list[tuple[int, int | None]] = field(default_factory=list[tuple[int, int | None]])

    def run(self) -> bool:
        lab = self.lab
        passage = Passage(
            lab.vm, lab.guest.name, True, lab.there.name, bandwidth_bytes_s=SLOW_BYTES_S if self.slow else None
        )
        task = Task(self.interrupt, lambda done, total: self.reports.append((done, total)))
        return lab.here.domains.send(passage, self.begun.set, task, soon())


class MovingLab:
    """`here` is where the guest runs."""

    def __init__(self, sides: tuple[Side, Side], guest: Guest) -> None:
        self.here, self.there = sides
        self.guest = guest
        self.vm = guest.uuid

    def standings(self) -> tuple[Presence, Presence]:
        """As this side's agent sees both."""
        domains = self.here.domains
        return domains.standing(self.vm, soon()), domains.standing(self.vm, soon(), peer=self.there.name)

    def words(self) -> tuple[str, str]:
        here, there = self.standings()
        return here.standing, there.standing

    def verdict(self) -> Verdict:
        return judge(*self.standings())

    def arrived(self) -> None:
        """It runs there: from now on that is here."""
        self.here.domains.resume(self.vm, soon(), peer=self.there.name)
        self.here, self.there = self.there, self.here


def soon() -> Deadline:
    return Deadline.after(30)


@contextmanager
def moving_lab() -> Iterator[MovingLab]:
    directory = Path(tempfile.mkdtemp(prefix="hosts-"))
    with ExitStack() as ending:
        ending.callback(shutil.rmtree, directory)
        hosts = [KvmHost(directory, f"kvm{number}", number, ADDRESSES[number - 1]) for number in (1, 2)]
        for host in hosts:
            ending.callback(host.close)
        hosts[0].namespaces.join(hosts[1].namespaces, *ADDRESSES)
        for host in hosts:
            host.libvirtd.start()
        routes = Routes("", {each.name: each.uri for each in hosts}, "", {h.name: h.address for h in hosts}, tls=False)
        one, other = (Side(host, _started(host, routes, ending.callback)) for host in hosts)
        guest = ending.enter_context(Guest(hardware=MEMORY, persistent=True, uri=hosts[0].uri))
        yield MovingLab((one, other), guest)


def _started(host: KvmHost, routes: Routes, at_the_end: Callable[[Callable[[], None]], object]) -> Hypervisor:
    hypervisor = Hypervisor(host.uri, Event(), routes)
    hypervisor.start()
    at_the_end(hypervisor.stop)
    return hypervisor
