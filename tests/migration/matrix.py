# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A migration, one part of it killed at one of its phases, restarted; the migration driven on until it has an end."""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import Event

import libvirt

from agent_process import AgentProcess
from kvm_host import KvmHost
from migration.driver import Driver, Step
from migration.moments import before_confirm, before_finish, wait_for_the_middle
from real_lab import background, wait_for
from storpool_commands.client import CallError, CommandFailed, MigrationFailed, MigrationUnresolved
from two_hosts import TwoHosts

SLOW_BYTES_S = 16 << 20
REACHED_TIMEOUT_S = 90.0
RUN_TIMEOUT_S = 240.0
HELD_S = 2.0
"""How long StorPool leaves a request unanswered, for something to be killed meanwhile."""
RUNS = 4
"""How often the driver is run before the migration counts as one without an end."""


Kill = Callable[[], None]
Record = Callable[[str, object], None]
PROPERTY = "migration matrix"


@dataclass
class Victim:
    """One part of what a migration needs."""

    kill: Kill
    restart: Kill


@dataclass(frozen=True)
class _Outcome:
    """Of one run of the driver."""

    said: str
    """Why it has not moved; empty when it has."""
    settled: bool


def victims(driver: Driver) -> Mapping[str, Victim]:
    source, destination = driver.source, driver.destination
    return {
        "agent of the source": Victim(source.agent.kill, source.agent.start),
        "agent of the destination": Victim(destination.agent.kill, destination.agent.start),
        "libvirtd of the source": Victim(source.libvirtd.kill, source.libvirtd.start),
        "libvirtd of the destination": Victim(destination.libvirtd.kill, destination.libvirtd.start),
        "both libvirtd": Victim(
            _each(source.libvirtd.kill, destination.libvirtd.kill),
            _each(source.libvirtd.start, destination.libvirtd.start),
        ),
    }


def _each(*calls: Kill) -> Kill:
    def call_each() -> None:
        for call in calls:
            call()

    return call_each


@dataclass
class Gate:
    """Stops the driver before one of its steps, once."""

    step: Step
    reached: Event = field(default_factory=Event)
    opened: Event = field(default_factory=Event)

    def __call__(self, step: Step) -> None:
        if step == self.step and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(REACHED_TIMEOUT_S), f"nobody opened the gate before {step}"

    @contextmanager
    def closed(self) -> Generator[None]:
        """In the block the driver stands before the step."""
        try:
            assert self.reached.wait(REACHED_TIMEOUT_S), f"the driver did not come to {self.step}"
            yield
        finally:
            self.opened.set()


@contextmanager
def _at_the_prepare(driver: Driver) -> Generator[None]:
    """The destination's agent waits for StorPool to attach a volume."""
    with _storpool_holds(driver.hosts, driver.destination):
        yield


@contextmanager
def _at_the_beginning(driver: Driver) -> Generator[None]:
    """The source's agent has begun with migrateVm; the destination's libvirtd, which it asks, stands still."""
    gate = driver.before = Gate("migrate")
    before = _started(driver.source, "migrateVm")
    try:
        with gate.closed():
            driver.destination.libvirtd.hang()
        wait_for(lambda: _started(driver.source, "migrateVm") > before, REACHED_TIMEOUT_S)
        yield
    finally:
        driver.destination.libvirtd.go_on()


@contextmanager
def _in_the_middle(driver: Driver) -> Generator[None]:
    wait_for_the_middle(driver.source, driver.guest.uuid)
    yield


@contextmanager
def _when_all_is_sent(driver: Driver) -> Generator[None]:
    with before_finish(driver.source, driver.destination, driver.guest.uuid):
        yield


@contextmanager
def _when_it_has_arrived(driver: Driver) -> Generator[None]:
    with before_confirm(driver.source, driver.destination, driver.guest.uuid):
        yield


@contextmanager
def _at_the_finish_there(driver: Driver) -> Generator[None]:
    gate = driver.before = Gate("finish on destination")
    with gate.closed():
        yield


@contextmanager
def _at_the_finish_here(driver: Driver) -> Generator[None]:
    """The source's agent waits for StorPool to detach a volume."""
    with _storpool_holds(driver.hosts, driver.source):
        yield


@contextmanager
def _at_the_rollback(driver: Driver) -> Generator[None]:
    """Somebody has aborted it; the destination's agent waits for StorPool to detach a volume."""
    wait_for_the_middle(driver.source, driver.guest.uuid)
    with _storpool_holds(driver.hosts, driver.destination, lambda: _abort(driver)):
        yield


PHASES: Mapping[str, Callable[[Driver], AbstractContextManager[None]]] = {
    "prepare": _at_the_prepare,
    "begin": _at_the_beginning,
    "middle": _in_the_middle,
    "all sent": _when_all_is_sent,
    "arrived": _when_it_has_arrived,
    "finish there": _at_the_finish_there,
    "finish here": _at_the_finish_here,
    "rollback": _at_the_rollback,
}

ON_THE_WAY = ("middle", "all sent", "arrived", "rollback")
"""Phases that are reached while the memory is sent."""


def play(driver: Driver, phase: str, victim: Victim) -> str:
    """Kill and restart it at the phase, drive the migration to its end, and say what that was."""
    driver.bandwidth_bytes_s = SLOW_BYTES_S if phase in ON_THE_WAY else None
    moment = PHASES[phase](driver)
    with background(lambda: _attempt(driver)) as run:
        with moment:
            _refuse_early_end(run)
            victim.kill()
        victim.restart()
    return _settled(driver, run.result())


def play_crash(driver: Driver, agent: AgentProcess, point: str) -> str:
    """As `play`, for an agent that dies by itself at one of its crash points. Those of a rollback need one."""
    agent.kill()
    agent.start(crash_at=point)
    taken_back = point.startswith("rollbackMigration")
    driver.bandwidth_bytes_s = SLOW_BYTES_S if taken_back else None
    with background(lambda: _attempt(driver)) as run:
        if taken_back:
            wait_for_the_middle(driver.source, driver.guest.uuid)
            _abort(driver)
        agent.wait_crashed()
        agent.start()
    return _settled(driver, run.result())


def _evidence(driver: Driver, error: MigrationUnresolved) -> str:
    """Who has to decide where a machine runs needs to know what each of the hosts says."""
    seen = {host.name: error.seen.get(host.name) for host in (driver.source, driver.destination)}
    assert all(seen.values()), f"not both hosts are heard: {error}"
    return ", ".join(f"{name}: {state}" for name, state in seen.items())


def _settled(driver: Driver, first: _Outcome) -> str:
    """Drive it on until it has come to its end, one or the other."""
    history = [first]
    while not history[-1].settled and len(history) < RUNS:
        history.append(_attempt(driver))
    return _end(driver, [each.said for each in history if each.said])


def cell(victim: str, phase: str, ended: str) -> tuple[str, object]:
    """What a test remembers of it, for the table at the end."""
    return PROPERTY, [victim, phase, ended]


def table(cells: Iterable[Sequence[str]]) -> list[str]:
    """Lines: a victim each, a phase a column; what is longer than a word is below."""
    ends = {(victim, phase): ended for victim, phase, ended in cells}
    rows = list(dict.fromkeys(victim for victim, _ in ends))
    width = max(len(row) for row in rows) + 2
    lines = ["".join(["killed".ljust(width), *(phase.ljust(14) for phase in PHASES)]).rstrip()]
    for row in rows:
        words = (ends.get((row, phase), "-").partition(", ")[0] for phase in PHASES)
        lines.append("".join([row.ljust(width), *(word.ljust(14) for word in words)]).rstrip())
    notes = (f"{victim}, {phase}: {ended}" for (victim, phase), ended in ends.items() if ", " in ended)
    return [*lines, *notes]


def _attempt(driver: Driver) -> _Outcome:
    try:
        driver.run()
    except MigrationFailed as error:
        return _Outcome(str(error.cause.code), settled=True)
    except MigrationUnresolved as error:
        return _Outcome(f"{error.cause.code} ({_evidence(driver, error)})", settled=False)
    except CommandFailed as error:
        return _Outcome(str(error.code), settled=False)
    except CallError as error:
        return _Outcome(type(error).__name__, settled=False)
    return _Outcome("", settled=True)


def _end(driver: Driver, said: list[str]) -> str:
    """Which host has the machine and its volumes, when all is in order. Raises AssertionError otherwise."""
    hosts, guest = driver.hosts, driver.guest
    both = (driver.source, driver.destination)
    wait_for(lambda: sum(len(host.qemus()) for host in both) == 1, REACHED_TIMEOUT_S)
    where = [host for host in both if host.machines()]
    states = [state for host in both for state in host.machines().values()]
    assert states == [libvirt.VIR_DOMAIN_RUNNING], f"{[host.name for host in where]} {states}, after {said}"
    [keeper] = where
    attached = [hosts.attachments(volume) for volume in guest.volumes]
    assert attached == [{keeper.name: "rw"}] * len(guest.volumes), f"{attached}, it is on {keeper.name}, after {said}"
    assert [_open_tickets(host) for host in both] == [0, 0], f"open tickets after {said}"
    guest.has_come_to(keeper)
    guest.still_writes()
    with guest.paused():
        guest.check_disks()
    return ", ".join(["moved" if keeper is driver.destination else "stayed", *said])


def _refuse_early_end(run: "Future[_Outcome]") -> None:
    assert not run.done(), f"it came to an end before anything was killed: {run.result().said or 'success'}"


@contextmanager
def _storpool_holds(hosts: TwoHosts, host: KvmHost, meanwhile: Kill = lambda: None) -> Generator[None]:
    """A request for one of its attachments waits in StorPool when the block begins."""
    before = hosts.storpool.sim.fired()
    hosts.storpool.sim.fault({"kind": "delay", "seconds": HELD_S}, query="VolumesReassignWait", client=host.client)
    meanwhile()
    wait_for(lambda: hosts.storpool.sim.fired() > before, REACHED_TIMEOUT_S)
    yield


def _abort(driver: Driver) -> None:
    connection = libvirt.open(driver.source.uri)
    try:
        connection.lookupByUUIDString(driver.guest.uuid).abortJob()
    finally:
        connection.close()


def _started(host: KvmHost, command: str) -> int:
    return sum(event.get("command") == command for event in host.agent.events("started"))


def _open_tickets(host: KvmHost) -> int:
    journal = sqlite3.connect(f"file:{host.agent.state_dir}/journal.db?mode=ro", uri=True)
    try:
        [(count,)] = journal.execute("SELECT count(*) FROM migration WHERE state = 'open'")
    finally:
        journal.close()
    return int(count)
