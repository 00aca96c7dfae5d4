# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A migration, one part of it killed at one of its phases, restarted; the migration driven on until it has an end."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import Event

from migration.driver import Driver, Step
from migration.moments import before_confirm, before_finish, wait_for_the_middle
from private_rabbit import PrivateRabbit
from real_lab import background, wait_for
from storpool_commands.client import CallError, CommandFailed

SLOW_BYTES_S = 16 << 20
REACHED_TIMEOUT_S = 90.0
RUN_TIMEOUT_S = 240.0
HELD_S = 2.0
"""How long StorPool leaves a request unanswered, for something to be killed meanwhile."""
RUNS = 4
"""How often the driver is run before the migration counts as one without an end."""

Kill = Callable[[], None]


@dataclass
class Victim:
    """One part of what a migration needs."""

    kill: Kill
    restart: Kill


def victims(driver: Driver, broker: PrivateRabbit | None) -> Mapping[str, Victim]:
    source, destination = driver.source, driver.destination
    found = {
        "agent of the source": Victim(source.agent.kill, source.agent.start),
        "agent of the destination": Victim(destination.agent.kill, destination.agent.start),
        "libvirtd of the source": Victim(source.libvirtd.kill, source.libvirtd.start),
        "libvirtd of the destination": Victim(destination.libvirtd.kill, destination.libvirtd.start),
    }
    return {**found, "broker": Victim(broker.stop, broker.start)} if broker else found


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


def play(driver: Driver, phase: str, victim: Victim) -> str:
    """Kill and restart it at the phase, drive the migration to its end, and say what that was."""
    driver.bandwidth_bytes_s = SLOW_BYTES_S
    moment = PHASES[phase](driver)
    with background(lambda: _attempt(driver)) as run:
        with moment:
            _refuse_early_end(run)
            victim.kill()
        victim.restart()
    said = [run.result()]
    while said[-1] and len(said) < RUNS:
        said.append(_attempt(driver))
    return _end(driver, [each for each in said if each])


def _attempt(driver: Driver) -> str:
    """Why it has not come to its end; empty when it has."""
    try:
        driver.run()
    except CommandFailed as error:
        return str(error.code)
    except CallError as error:
        return type(error).__name__
    return ""
