# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One attempt at one request: its steps, its notes, its cancel."""

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic, time
from typing import Literal

import structlog

from storpool_agent.crash import crash_point
from storpool_agent.errors import AgentError, Cancelled, StaleGeneration
from storpool_agent.journal.journal import Journal, PendingThaw, PendingUnplug
from storpool_commands.envelope import AnyRequest, Request, Step
from storpool_commands.errors import SideEffects, retry_class

log = structlog.get_logger()


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

    def __init__(self, request: Request, journal: Journal, number: int) -> None:
        self.request_id = str(request.id)
        self.number = number
        """1, or more when the agent died while it ran this request."""
        self.may_have_run = number > 1 or isinstance(request, AnyRequest)
        """What it makes may exist already, so the handler looks first. Always true for a request of the queue of
        all hosts: another agent may have run it before."""
        self._command = request.body.command
        self._journal = journal
        self._steps: list[tuple[Step, bool]] = []
        self._cancelled = False

    @property
    def steps(self) -> list[Step]:
        return [step for step, _ in self._steps]

    @property
    def side_effects(self) -> SideEffects:
        """`none` or `partial`: a failure that is `complete` says so itself."""
        return "partial" if any(changed for _, changed in self._steps) else "none"

    @contextmanager
    def step(self, name: str, *, changes: bool = False, always: bool = False) -> Generator[RunningStep]:
        """Take a step. Raises Cancelled instead of taking it when the request has been cancelled, but for `always`."""
        if self._cancelled and not always:
            raise Cancelled(f"cancelled before the step {name}", step=name)
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
    def undo(self, name: str) -> Generator[None]:
        """Take a step back because a later one has failed; that failure is raised on, whatever happens here."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the first failure is the one to report; this one is in the log
            log.error("undo failed", step=name, reason=str(error))  # noqa: TRY400 - one line, for the admin
            return
        self._steps = [
            (step.model_copy(update={"status": "undone"}), False) if step.step == name else (step, changed)
            for step, changed in self._steps
        ]

    def over(self, name: str) -> None:
        """Nothing is left of what a step did, as it was meant to be."""
        self._steps = [(step, changed and step.step != name) for step, changed in self._steps]

    def note(self, kind: str, target: str) -> None:
        """Write down what this command is about to make, before it makes it."""
        self._journal.note(self.request_id, kind, target)
        crash_point(f"{self._command}/noted")

    def noted(self, kind: str, target: str) -> bool:
        """Whether this command, in an earlier attempt, was about to make it. Never true for a first attempt."""
        return self.number > 1 and self._journal.noted(self.request_id, kind, target)

    def fence(self, global_id: str, generation: int | None) -> None:
        """Let the command pass if nothing newer has been seen for its volume. Raises StaleGeneration."""
        if generation is None:
            return
        highest = self._journal.raise_fence(global_id, generation)
        if highest > generation:
            raise StaleGeneration(
                f"volume {global_id}: the command is of generation {generation}, generation {highest} has been seen",
                volume=global_id,
                generation=generation,
                seen_generation=highest,
            )

    def pending_unplug(self, global_id: str) -> PendingUnplug | None:
        """The guest that was asked to let go of a volume and has not yet."""
        return self._journal.pending_unplug(global_id)

    def expect_unplug(self, global_id: str, vm: str) -> None:
        """Have the detach finished when the guest lets go, also after a restart of the agent."""
        self._journal.expect_unplug(PendingUnplug(global_id, vm, self.request_id))

    def forget_unplug(self, global_id: str) -> None:
        """The volume is detached: nothing is left to be finished."""
        if self._journal.pending_unplug(global_id) is not None:
            self._journal.settle_unplug(global_id)

    def expect_thaw(self, vm: str, within_s: float) -> None:
        """Have a guest thawed by then, whatever becomes of this attempt and of the agent. Call it before freezing."""
        self._journal.expect_thaw(PendingThaw(vm, self.request_id, time() + within_s))

    def pending_thaw(self, vm: str) -> PendingThaw | None:
        """A guest that was frozen, by whichever command, and has not been seen thawed."""
        return self._journal.pending_thaw(vm)

    def thawed(self, vm: str) -> None:
        """The guest is not frozen."""
        pending = self._journal.pending_thaw(vm)
        if pending is not None:
            self._journal.settle_thaw(pending)

    def cancel(self) -> None:
        """Stop before the next step."""
        self._cancelled = True

    def _ended(self, name: str, status: Literal["done", "already", "failed"], started: float, *, changed: bool) -> None:
        took_ms = round((monotonic() - started) * 1000, 3)
        self._steps.append((Step(step=name, status=status, took_ms=took_ms), changed))


def _outcome_unknown(error: Exception) -> bool:
    return not isinstance(error, AgentError) or retry_class(error.code) == "uncertain"
