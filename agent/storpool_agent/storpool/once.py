# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One object for an operation, whatever answer is lost, and whoever runs it at the same time.

Objects without a name carry the tag `sp-op=<operation>`. An operation makes one volume, one snapshot of a volume, or
one group of snapshots: what else has its tag is taken for a second one, and deleted.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from storpool_agent import retry
from storpool_agent.deadline import Deadline
from storpool_agent.errors import SnapshotNotFound, StorPoolTimeout, StorPoolUnavailable, VolumeNotFound
from storpool_agent.storpool import lookups
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.model import Volume
from storpool_commands.references import Reference

T = TypeVar("T")


class Unclear(Exception):
    """What was sent may have been done, and looking does not tell. To look again would not either."""


def once(
    api: Api, make: Callable[[], T], look: Callable[[], T | None], deadline: Deadline, *, what: str, look_first: bool
) -> T:
    """Make it, unless an earlier try or run has made it already.

    `look` returns what is there, None when there is nothing. When several are there it deletes all but the oldest.
    Two agents that run one operation at the same time both look before and after: the later of them sees both
    objects, and either way both return the older one, which nobody deletes. Raises StorPoolTimeout when it is not
    known whether it was made.
    """
    may_exist = look_first

    def attempt() -> T:
        nonlocal may_exist
        looks, may_exist = may_exist, True
        earlier = look_surely() if looks else None
        if earlier is not None:
            return earlier
        try:
            made = make()
        except Unclear:
            # Gone again: the other agent has seen both, and deleted the younger one.
            older = look_surely()
            if older is None:
                raise
            return older
        return look_surely() or made if looks else made

    def look_surely() -> T | None:
        with unless_known(what):
            return look()

    try:
        answer: T = retry.while_answer_is_lost(api.stopping, deadline)(attempt)
    except Unclear as error:
        raise StorPoolTimeout(f"whether {what} is not known: {error}") from error
    return answer


@contextmanager
def unless_known(what: str) -> Generator[None]:
    """For a look after a call that may have been done: that it fails does not mean that nothing was done."""
    try:
        yield
    except StorPoolUnavailable as error:
        raise StorPoolTimeout(f"whether {what} is not known: {error}", **error.facts) from error


def read_back(api: Api, reference: Reference, deadline: Deadline, *, snapshot: bool, what: str) -> Volume:
    """What StorPool has just said that it made."""
    try:
        with unless_known(what):
            return lookups.find(api, reference, deadline, snapshot=snapshot)
    except (VolumeNotFound, SnapshotNotFound) as error:
        raise Unclear(f"StorPool said that it made {reference}, and does not know it now") from error
