# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A group of snapshots of a guest that writes nothing meanwhile.

That it was frozen all the time is known when the group was answered before the guest was told to go on, and the
guest then still was frozen: others may thaw it too (its administrator, Windows by itself after 10 s).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import Domain
from storpool_agent.errors import (
    AgentError,
    FrozenTooLong,
    GuestNotFrozen,
    LibvirtTimeout,
    StorPoolUnavailable,
)
from storpool_agent.handlers.group import Group
from storpool_agent.host import Host
from storpool_agent.storpool.model import Volume
from storpool_commands.errors import retry_class

TO_FREEZE_AND_SNAPSHOT = 0.8
"""The part of the time for which a guest may be frozen; the rest is for the thaw."""
THAW_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """What came of it. The guest is not frozen any more."""

    snapshots: Sequence[Volume] | None
    """None: not taken, or it is not known whether they were."""
    frozen_ms: float | None
    """None: the guest was not frozen."""
    may_be_taken: bool
    shortfall: AgentError | None
    """Why the snapshots, if they were taken, may not be of the frozen guest."""


def thaw_left(domain: Domain, host: Host, attempt: Attempt) -> None:
    """Thaw what an earlier attempt has left frozen, unless the agent has when it started."""
    if attempt.pending_thaw(domain.uuid) is not None:
        _thaw(domain, host, attempt)


def take(group: Group, domain: Domain, freeze_timeout_s: float, host: Host, attempt: Attempt) -> Outcome:
    """Freeze, take, thaw. Raises what keeps the snapshots from being taken, and a thaw that failed: then none is left.

    A guest that could not be frozen, or not long enough, is an Outcome.
    """
    group.announce()
    attempt.expect_thaw(domain.uuid, freeze_timeout_s)
    started = monotonic()
    in_time = Deadline.after(freeze_timeout_s * TO_FREEZE_AND_SNAPSHOT)
    refusal = _freeze(domain, host, attempt, in_time)
    if refusal is not None:
        return Outcome(None, None, may_be_taken=False, shortfall=refusal)
    snapshots: Sequence[Volume] | None = None
    failure: AgentError | None = None
    try:
        snapshots = group.take_now(in_time)
    except AgentError as error:
        failure = error
    may_be_taken = failure is None or retry_class(failure.code) == "uncertain"
    held = _thaw_or_discard(group, domain, host, attempt, taken=may_be_taken)
    frozen_ms = round((monotonic() - started) * 1000, 3)
    if failure is not None:
        shortfall = _too_long(failure, group, domain, freeze_timeout_s)
        return Outcome(None, frozen_ms, may_be_taken=may_be_taken, shortfall=shortfall)
    return Outcome(snapshots, frozen_ms, may_be_taken=True, shortfall=None if held else _not_held(domain))


def _freeze(domain: Domain, host: Host, attempt: Attempt, deadline: Deadline) -> AgentError | None:
    """Why the guest is not frozen, None when it is."""
    try:
        with attempt.step("freeze", changes=True):
            host.domains.freeze(domain, deadline)
    except LibvirtTimeout as error:
        _thaw(domain, host, attempt)
        refusal = GuestNotFrozen(f"the guest of {domain.name} was not frozen in time: {error}", vm=domain.uuid)
        refusal.__cause__ = error
        return refusal
    except AgentError as error:
        attempt.thawed(domain.uuid)
        return error
    return None


def _thaw_or_discard(group: Group, domain: Domain, host: Host, attempt: Attempt, *, taken: bool) -> bool:
    try:
        return _thaw(domain, host, attempt)
    except AgentError:
        if taken:
            group.discard()
        raise


def _thaw(domain: Domain, host: Host, attempt: Attempt) -> bool:
    """False when it was not frozen any more. A cancel does not keep a guest frozen."""
    with attempt.step("thaw", always=True):
        held = host.domains.thaw(domain, Deadline.after(THAW_TIMEOUT_S))
    attempt.over("freeze")
    attempt.thawed(domain.uuid)
    return held


def _too_long(failure: AgentError, group: Group, domain: Domain, freeze_timeout_s: float) -> AgentError:
    """StorPool has not said in time whether it has taken them. Raises what it has said."""
    if retry_class(failure.code) != "uncertain" and not isinstance(failure, StorPoolUnavailable):
        raise failure
    shortfall = FrozenTooLong(
        f"the guest of {domain.name} may be frozen for {freeze_timeout_s:g} s, and StorPool had not taken the "
        f"snapshots by then: {failure}",
        vm=domain.uuid,
        operation=group.operation,
    )
    shortfall.__cause__ = failure
    return shortfall


def _not_held(domain: Domain) -> AgentError:
    return FrozenTooLong(
        f"the guest of {domain.name} was frozen, and was thawed by somebody else, or by itself, before the agent did; "
        "whether the snapshots were taken before that is not known",
        vm=domain.uuid,
    )
