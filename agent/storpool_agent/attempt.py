# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One attempt at one request: its steps, its notes, its cancel."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from time import monotonic, time
from typing import ClassVar, Literal, Protocol

import structlog

from storpool_agent import tracing
from storpool_agent.crash import crash_point
from storpool_agent.errors import AgentError, Cancelled, StaleGeneration
from storpool_agent.interrupt import Interrupt
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.temporaries import Temporary
from storpool_agent.journal.thaws import PendingThaw
from storpool_agent.journal.unplugs import PendingUnplug
from storpool_commands.envelope import AnyRequest, Request, Step
from storpool_commands.errors import SideEffects, retry_class

log = structlog.get_logger()


Report = Callable[[str, int | None, int | None], None]
"""Takes the phase, the bytes that are done, and the bytes in all."""


class Rows(Protocol):
    """The journal's list of what is there for as long as jobs run; see TemporaryRows."""

    def add(self, one: Temporary) -> None: ...

    def strike(self, one: Temporary) -> None: ...

    def change(self, *, add: Sequence[Temporary] = (), strike: Sequence[Temporary] = ()) -> None: ...

    def of(self, command: str) -> list[Temporary]: ...

    def with_target(self, kind: str, target: str) -> list[Temporary]: ...

    def give_away(self, kind: str, target: str) -> bool: ...


class Turns(Protocol):
    """The objects that a job has to itself. A job that takes long gives them up while it changes nothing of them."""

    def give_up(self) -> None:
        """Let others work on what the command names."""
        ...

    def again(self, global_id: str, interrupt: Interrupt | None) -> AbstractContextManager[None]:
        """Have one volume or snapshot to itself again, when it is its turn."""
        ...


class NoTurns:
    """For what runs alone."""

    def give_up(self) -> None:
        pass

    def again(self, global_id: str, interrupt: Interrupt | None) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()


class RunningStep:
    """A step while it is being taken."""

    def __init__(self) -> None:
        self.status: Literal["done", "already"] = "done"
        self.counts = True
        """What it changed is an effect of this request."""

    def already(self) -> None:
        """There was nothing to do."""
        self.status = "already"
        self.counts = False

    def earlier(self) -> None:
        """An earlier run of this request has done it, or may have: there is nothing to do, but an effect."""
        self.status = "already"


class Attempt:
    """What a handler knows of the request it serves.

    Steps with `changes` are what a failure's `sideEffects` is derived from: one that is done, or of unknown outcome,
    and not undone is a side effect. One thread runs an attempt; `cancel` may be called by any.
    """

    plans: ClassVar[bool] = False
    """Nothing is done and nothing is read to its end: what a hash would show is not known."""

    def __init__(
        self,
        request: Request,
        journal: Journal,
        number: int,
        turns: Turns | None = None,
        report: Report = lambda _phase, _done, _total: None,
        span: tracing.Span | None = None,
    ) -> None:
        self.turns: Turns = turns or NoTurns()
        self.report = report
        """Say how far it is, as often as there is news."""
        self._deadline = request.deadline
        self.request_id = str(request.id)
        self.span = span or tracing.begin(request.traceparent)
        """This run, in the trace of its sender, if there is one."""
        self.number = number
        """1, or more when the agent died while it ran this request."""
        self.may_have_run = number > 1 or isinstance(request, AnyRequest)
        """What it makes may exist already, so the handler looks first. Always true for a request of the queue of
        all hosts: another agent may have run it before."""
        self._command = request.body.command
        self._journal = journal
        self._steps: list[tuple[Step, bool]] = []
        self._cancelled = False
        self._undo_failed = False
        """What an earlier run of the request did and this one could not take back is an effect of the request, too."""

    @property
    def steps(self) -> list[Step]:
        return [step for step, _ in self._steps]

    @property
    def side_effects(self) -> SideEffects:
        """`none` or `partial`: a failure that is `complete` says so itself."""
        changed = self._undo_failed or any(changed for _, changed in self._steps)
        return "partial" if changed else "none"

    @contextmanager
    def step(self, name: str, *, changes: bool = False, always: bool = False) -> Generator[RunningStep]:
        """Take a step. Raises Cancelled instead of taking it when the request has been cancelled, but for `always`."""
        if not always:
            self._refuse_cancelled(name)
        running = RunningStep()
        started = monotonic()
        crash_point(f"{self._command}/{name}:begin")
        try:
            yield running
        except Exception as error:
            self._ended(name, "failed", started, changed=changes and _outcome_unknown(error))
            raise
        self._ended(name, running.status, started, changed=changes and running.counts)
        crash_point(f"{self._command}/{name}:done")

    @contextmanager
    def undo(self, *names: str) -> Generator[None]:
        """Take steps back because a later one has failed; that failure is raised on, whatever happens here."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the first failure is the one to report; this one is in the log
            log.error("undo failed", step=names[0], reason=str(error))  # noqa: TRY400 - one line, for the admin
            self._undo_failed = True
            return
        self._steps = [
            (step.model_copy(update={"status": "undone"}), False) if step.step in names else (step, changed)
            for step, changed in self._steps
        ]

    def over(self, *names: str) -> None:
        """Nothing is left of what these steps did, as it was meant to be."""
        self._steps = [(step, changed and step.step not in names) for step, changed in self._steps]

    def note(self, kind: str, target: str) -> None:
        """Write down what this command is about to make, before it makes it."""
        self._journal.note(self.request_id, kind, target)
        crash_point(f"{self._command}/noted")

    def noted(self, kind: str, target: str) -> bool:
        """Whether this command, in an earlier attempt, was about to make it. Never true for a first attempt."""
        return self.number > 1 and self._journal.noted(self.request_id, kind, target)

    def notes(self, kind: str) -> list[str]:
        """What this command wrote down in earlier attempts, all targets of a kind."""
        return self._journal.notes(self.request_id, kind) if self.number > 1 else []

    def fence(self, global_id: str, generation: int | None) -> None:
        """Let the command pass if nothing newer has been seen for its volume. Raises StaleGeneration."""
        if generation is None:
            return
        self._refuse_stale(global_id, generation, self._journal.raise_fence(global_id, generation))

    def pending_unplug(self, global_id: str) -> PendingUnplug | None:
        """The guest that was asked to let go of a volume and has not yet."""
        return self._journal.unplugs.of(global_id)

    def expect_unplug(self, global_id: str, vm: str) -> None:
        """Have the detach finished when the guest lets go, also after a restart of the agent."""
        self._journal.unplugs.expect(PendingUnplug(global_id, vm, self.request_id))

    def forget_unplug(self, global_id: str) -> None:
        """The volume is detached: nothing is left to be finished."""
        if self._journal.unplugs.of(global_id) is not None:
            self._journal.unplugs.settle(global_id)

    def expect_thaw(self, vm: str, within_s: float) -> None:
        """Have a guest thawed by then, whatever becomes of this attempt and of the agent. Call it before freezing."""
        self._journal.thaws.expect(PendingThaw(vm, self.request_id, time() + within_s))

    def pending_thaw(self, vm: str) -> PendingThaw | None:
        """A guest that was frozen, by whichever command, and has not been seen thawed."""
        return self._journal.thaws.of(vm)

    def thawed(self, vm: str) -> None:
        """The guest is not frozen."""
        pending = self._journal.thaws.of(vm)
        if pending is not None:
            self._journal.thaws.settle(pending)

    # what is there for as long as a job runs

    @property
    def temporaries(self) -> Rows:
        """What jobs have made and not taken away."""
        return self._journal.temporaries

    def making(self, kind: str, target: str) -> None:
        """Write down what is about to be made and is to be taken away again, whatever becomes of this attempt."""
        self.temporaries.add(Temporary(self.request_id, kind, target))
        crash_point(f"{self._command}/making-{kind}")

    def stays(self, kind: str, target: str) -> None:
        """It is not to be taken away any more."""
        self.all_stay((kind, target))

    def instead(self, new: Sequence[tuple[str, str]], old: Sequence[tuple[str, str]]) -> None:
        """Have other rows tell of the same things, from one moment to the next."""
        rows = [[Temporary(self.request_id, *one) for one in some] for some in (new, old)]
        self.temporaries.change(add=rows[0], strike=rows[1])
        crash_point(f"{self._command}/making-{new[0][0]}")

    def all_stay(self, *made: tuple[str, str]) -> None:
        """As `stays`, in one moment: all of it or none is there after a crash."""
        self.temporaries.change(strike=[Temporary(self.request_id, *one) for one in made])

    # its end before time

    @cached_property
    def interrupt(self) -> Interrupt:
        """What ends a step that takes long: a cancel, the request's deadline, the end of the agent."""
        interrupt = Interrupt(self._deadline)
        if self._cancelled:
            interrupt.set(Cancelled("cancelled while it ran"))
        return interrupt

    def cancel(self) -> None:
        """Stop before the next step, or in the middle of one that takes long."""
        self._cancelled = True
        self.end(Cancelled("cancelled while it ran"))

    def end(self, reason: Exception) -> None:
        """Stop a step that takes long; others go on to their end."""
        if "interrupt" in vars(self):
            self.interrupt.set(reason)

    def close(self) -> None:
        """It has come to its end."""
        if "interrupt" in vars(self):
            self.interrupt.close()

    def _refuse_cancelled(self, step: str) -> None:
        if self._cancelled:
            raise Cancelled(f"cancelled before the step {step}", step=step)

    def _refuse_stale(self, global_id: str, generation: int, highest: int) -> None:
        if highest > generation:
            raise StaleGeneration(
                f"volume {global_id}: the command is of generation {generation}, generation {highest} has been seen",
                volume=global_id,
                generation=generation,
                seen_generation=highest,
            )

    def _ended(self, name: str, status: Literal["done", "already", "failed"], started: float, *, changed: bool) -> None:
        took_ms = round((monotonic() - started) * 1000, 3)
        self._steps.append((Step(step=name, status=status, took_ms=took_ms), changed))


def _outcome_unknown(error: Exception) -> bool:
    return not isinstance(error, AgentError) or retry_class(error.code) == "uncertain"
