# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A volume gets the data of a snapshot."""

from storpool_agent import retry
from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolBadAnswer, StorPoolTimeout, StorPoolUnavailable, VolumeBusy
from storpool_agent.storpool import lookups, queries, refusals
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.attachments import Attachments
from storpool_agent.storpool.model import Volume
from storpool_agent.storpool.refusals import NO_SUCH_OBJECT, Refusal


class Revert:
    """Sent to a volume that is attached nowhere, and again only while that is so.

    Two reverts are as one unless somebody wrote in between, and nobody can write to a volume that is attached
    nowhere. So one whose answer was lost is sent again when the list of attachments, made after that, does not have
    the volume; when it does, what was written stays, and the outcome is not known. Who attaches, writes and detaches
    between two sendings is not noticed: that takes the seconds of a retry, and a sender that uses a volume which it
    has ordered to be reverted.
    """

    def __init__(self, api: Api, attachments: Attachments, volume: Volume, snapshot: Volume) -> None:
        self._api = api
        self._attachments = attachments
        self._volume = volume
        self._snapshot = snapshot
        self._may_be_done = False

    def run(self, deadline: Deadline, *, revert_size: bool) -> None:
        try:
            retry.while_answer_is_lost(self._api.stopping, deadline)(self._send, deadline, revert_size)
        except (VolumeBusy, StorPoolUnavailable) as error:
            if not self._may_be_done:
                raise
            raise StorPoolTimeout(
                f"whether volume {self._volume.reference} was reverted to {self._snapshot.reference} is not known, "
                f"and it is not reverted again: {error}",
                **error.facts,
            ) from error

    def _send(self, deadline: Deadline, revert_size: bool) -> None:
        self._require_attached_nowhere(deadline)
        try:
            self._api.call(queries.revert(self._volume, self._snapshot, revert_size=revert_size), deadline)
        except (StorPoolTimeout, StorPoolBadAnswer):
            self._may_be_done = True
            raise
        except Refusal as refusal:
            if refusal.name == NO_SUCH_OBJECT:  # StorPool does not say which of the two is missing
                for each in (self._volume, self._snapshot):
                    lookups.find(self._api, each.reference, deadline, snapshot=each.snapshot)
            raise refusals.of_revert(refusal, self._volume, self._snapshot) from refusal

    def _require_attached_nowhere(self, deadline: Deadline) -> None:
        """Whether StorPool itself refuses to revert an attached volume is not known of every version."""
        clients = self._attachments.clients_of([self._volume], deadline)
        if clients:
            raise VolumeBusy(
                f"volume {self._volume.reference} is attached at client {clients[0]}: detach it everywhere first",
                volume=self._volume.global_id,
                client=clients[0],
            )
