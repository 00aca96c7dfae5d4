# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of several volumes at one moment, of which a request leaves one group or none."""

from collections.abc import Sequence
from dataclasses import dataclass

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolTimeout
from storpool_agent.host import StorPool
from storpool_agent.storpool.model import NewSnapshot, Volume

DISCARD_TIMEOUT_S = 30.0
"""For taking back what was taken too late, when the time for taking it is over."""
NOTE = "group"


@dataclass(frozen=True)
class Group:
    """Each attempt that freezes the guest has an operation of its own: what was taken while another had frozen it,
    or nobody, is told apart by it."""

    storpool: StorPool
    volumes: Sequence[Volume]
    wanted: NewSnapshot
    attempt: Attempt

    @property
    def earlier(self) -> list[str]:
        """The operations of earlier attempts that may have taken a group, the first first."""
        return sorted(self.attempt.notes(NOTE), key=len)

    def take_once(self, deadline: Deadline) -> Sequence[Volume]:
        """At any moment: a group that an earlier attempt took is as good."""
        operation = next(iter(self.earlier), self.attempt.request_id)
        return self._take(operation, deadline, look_first=self.attempt.may_have_run)

    def announce(self) -> None:
        """Write down that this attempt is going to take one: before the guest is frozen, so that it need not wait."""
        self.attempt.note(NOTE, self.operation)

    def take_now(self, deadline: Deadline) -> Sequence[Volume]:
        return self._take(self.operation, deadline, look_first=False)

    def take_after_all(self, deadline: Deadline) -> Sequence[Volume]:
        """Once more: whether `take_now` has done it is not known."""
        return self._take(self.operation, deadline, look_first=True)

    def discard_earlier(self, deadline: Deadline) -> None:
        """Delete what attempts that the agent did not survive have taken: in which state of the guest is not known."""
        for operation in self.earlier:
            with self.attempt.step("discard", changes=True) as step:
                made = self._delete(operation, deadline)
                if not made:
                    step.already()
            self.attempt.over("discard")

    def discard(self) -> None:
        """Delete what this attempt has taken, or may have. What may come later is an effect, as is what stays."""
        with self.attempt.undo("snapshot"):
            if not self._delete(self.operation, Deadline.after(DISCARD_TIMEOUT_S)):
                raise StorPoolTimeout(
                    f"StorPool has taken no snapshots with the tag sp-op={self.operation} yet, but was told to; "
                    "delete them if they come"
                )

    @property
    def operation(self) -> str:
        """The tag `sp-op` of what this attempt takes."""
        number = self.attempt.number
        return self.attempt.request_id if number == 1 else f"{self.attempt.request_id}.{number}"

    def _take(self, operation: str, deadline: Deadline, *, look_first: bool) -> Sequence[Volume]:
        with self.attempt.step("snapshot", changes=True):
            return self.storpool.take_group_snapshot(
                self.volumes, self.wanted, operation, deadline, look_first=look_first
            )

    def _delete(self, operation: str, deadline: Deadline) -> int:
        made = self.storpool.snapshots_made_by(operation, deadline)
        for snapshot in made:
            self.storpool.delete_volume(snapshot, deadline)
        return len(made)
