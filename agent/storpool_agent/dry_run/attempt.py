# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An attempt that changes nothing."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import ClassVar, Literal

from storpool_agent.attempt import Attempt, OpenTickets, Rows, RunningStep
from storpool_agent.journal.migrations import Ticket, TicketState
from storpool_agent.journal.temporaries import Temporary
from storpool_commands.envelope import Step
from storpool_commands.errors import SideEffects


class DryAttempt(Attempt):
    """Steps that would change something are `planned`, and so is what comes after the first of them.

    Nothing is noted and nothing is expected later; what is in the journal is read.
    """

    plans: ClassVar[bool] = True
    _planning = False

    @property
    def side_effects(self) -> SideEffects:
        return "none"

    @contextmanager
    def step(self, name: str, *, changes: bool = False, always: bool = False) -> Generator[RunningStep]:
        if not always:
            self._refuse_cancelled(name)
        running = RunningStep()
        started = monotonic()
        self._planning = self._planning or changes
        try:
            yield running
        except Exception:
            self._dry_ended(name, "failed", started)
            raise
        planned = self._planning and running.status == "done"
        self._dry_ended(name, "planned" if planned else running.status, started)

    @contextmanager
    def undo(self, *names: str) -> Generator[None]:
        yield

    def over(self, *names: str) -> None:
        pass

    def note(self, kind: str, target: str) -> None:
        pass

    def noted(self, kind: str, target: str) -> bool:
        return False

    def notes(self, kind: str) -> list[str]:
        return []

    @property
    def temporaries(self) -> Rows:
        return ReadRows(self._journal.temporaries)

    @property
    def tickets(self) -> OpenTickets:
        return ReadTickets(self._journal.tickets)

    def fence(self, global_id: str, generation: int | None) -> None:
        if generation is not None:
            self._refuse_stale(global_id, generation, self._journal.fence(global_id))

    def expect_unplug(self, global_id: str, vm: str) -> None:
        pass

    def forget_unplug(self, global_id: str) -> None:
        pass

    def expect_thaw(self, vm: str, within_s: float) -> None:
        pass

    def thawed(self, vm: str) -> None:
        pass

    def _dry_ended(self, name: str, status: Literal["done", "already", "failed", "planned"], started: float) -> None:
        took_ms = round((monotonic() - started) * 1000, 3)
        self._steps.append((Step(step=name, status=status, took_ms=took_ms), False))


class ReadTickets:
    """The migrations that are under way; none is begun or ended."""

    def __init__(self, real: OpenTickets) -> None:
        self._real = real

    def open(self, ticket: Ticket) -> Ticket:
        return self._real.get(ticket.migration) or ticket

    def attaching(self, migration: str, global_id: str, *, now: bool) -> None:
        pass

    def moved(self, migration: str) -> None:
        pass

    def withdraw(self, migration: str) -> None:
        pass

    def close(self, migration: str, vm: str, state: TicketState) -> None:
        pass

    def get(self, migration: str) -> Ticket | None:
        return self._real.get(migration)

    def of_machine(self, vm: str) -> Ticket | None:
        return self._real.of_machine(vm)

    def with_volume(self, global_id: str) -> Ticket | None:
        return self._real.with_volume(global_id)


class ReadRows:
    """What other requests have made; this one makes nothing."""

    def __init__(self, real: Rows) -> None:
        self._real = real

    def add(self, one: Temporary) -> None:
        pass

    def strike(self, one: Temporary) -> None:
        pass

    def change(self, *, add: Sequence[Temporary] = (), strike: Sequence[Temporary] = ()) -> None:
        pass

    def of(self, command: str) -> list[Temporary]:
        return []

    def with_target(self, kind: str, target: str) -> list[Temporary]:
        return self._real.with_target(kind, target)

    def give_away(self, kind: str, target: str) -> bool:
        return bool(self._real.with_target(kind, target))
