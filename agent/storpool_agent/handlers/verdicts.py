# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From how a machine stands on both hosts to what is to be done about it. Pure.

What libvirtd does with a migration that it finds at its start (libvirt 9.0, qemu_process.c, for one without post-copy):
on the source, one that was being sent is given up and the machine goes on; one that was sent completely, with nothing
heard from the other host, is left standing still ("third party needs to check what to do next"). On the destination,
one that had not been taken over is killed. The machine arrives paused, so that it runs on one host at most, whatever
is lost on the way: it is started by whoever has seen that it is not, and will not be, on the other.
"""

from enum import Enum, auto

from storpool_agent.domains.model import Presence


class Verdict(Enum):
    """What is true, or what makes it so."""

    STAYED = auto()
    """It is on the source, as before."""
    MOVED = auto()
    """It runs on the destination, and not on the source."""
    STRANDED = auto()
    """It stands still on the source, all of it, and is nowhere else: rollbackMigration has it go on."""
    ENDED = auto()
    """It is off on both: its guest, or somebody, has switched it off."""
    START_THERE = auto()
    """It is on the destination alone, and stands still: it is to go on there."""
    DROP_HERE = auto()
    """It stands still on both, and all of it is there: what is here is to go first."""
    DROP_THERE = auto()
    """It is here, and what stands still there is an old copy that has never run."""
    WAIT = auto()
    """Not settled yet, or not known."""
    UNKNOWN = auto()
    """It contradicts itself, or the machine is nowhere."""


def judge(here: Presence | None, there: Presence | None, *, has_moved: bool = False) -> Verdict:
    """`here` is the source, `there` the destination, None what is not known. `has_moved`: it was seen to run there."""
    if here is None or here.standing == "leaving":
        return Verdict.WAIT
    if here.standing == "arriving":
        return Verdict.UNKNOWN
    if here.standing == "running":
        return _while_it_runs_here(there, has_moved=has_moved)
    if here.standing == "paused":
        return _while_it_stands_here(here, there)
    if here.standing == "off" and there is not None and not there.active:
        return Verdict.ENDED  # one that has moved has left no configuration here
    return _gone(there, has_moved=has_moved)


def _while_it_runs_here(there: Presence | None, *, has_moved: bool) -> Verdict:
    """One that has run there is no copy that may go, whoever has started it here meanwhile."""
    if there is None or not there.active:
        return Verdict.STAYED
    if there.standing == "paused":
        return Verdict.UNKNOWN if has_moved else Verdict.DROP_THERE
    return Verdict.WAIT if there.standing == "arriving" else Verdict.UNKNOWN


def _while_it_stands_here(here: Presence, there: Presence | None) -> Verdict:
    """A machine that was stopped by somebody, or by its disk, has gone on here since it was sent, or never was."""
    if there is None or there.standing == "arriving":
        return Verdict.WAIT
    if not there.active:
        return Verdict.STRANDED if here.by_migration else Verdict.STAYED
    if not here.by_migration:
        return Verdict.UNKNOWN
    return {"running": Verdict.MOVED, "paused": Verdict.DROP_HERE}.get(there.standing, Verdict.UNKNOWN)


def _gone(there: Presence | None, *, has_moved: bool) -> Verdict:
    if there is None or there.standing == "arriving":
        return Verdict.WAIT
    if there.standing == "paused":
        return Verdict.MOVED if has_moved else Verdict.START_THERE
    return Verdict.MOVED if there.standing == "running" else Verdict.UNKNOWN
