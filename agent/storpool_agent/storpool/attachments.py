# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where volumes are attached."""

from collections.abc import Sequence

from storpool_agent import retry
from storpool_agent.deadline import Deadline
from storpool_agent.storpool import lookups, queries, refusals
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.model import Attachment, Volume
from storpool_agent.storpool.refusals import CLIENT_TIMEOUT, NO_SUCH_OBJECT, Refusal
from storpool_agent.storpool.requests import Reassigned
from storpool_agent.storpool.together import Together
from storpool_commands.disks import Mode, OnRemoteAttached


class _OneOfSeveral(Exception):
    """A request for several volumes failed as a whole: each has to be tried alone to know whose fault it was."""


class Attachments:
    """Calls that overlap are sent as one. Any thread may call it."""

    def __init__(self, api: Api, our_id: int) -> None:
        self._api = api
        self._our_id = our_id
        self._attaches = Together[Reassigned, None]("attach", self._attach_all)
        self._lists = Together[None, Sequence[Attachment]]("list attachments", self._list)

    def all(self, deadline: Deadline) -> Sequence[Attachment]:
        return self._lists.submit(None, deadline)

    def clients_of(self, volumes: Sequence[Volume], deadline: Deadline) -> Sequence[int]:
        """The clients that have one of them."""
        wanted = {each.global_id for each in volumes}
        return sorted({each.client for each in self.all(deadline) if each.global_id in wanted})

    def attach(self, volume: Volume, mode: Mode, on_remote_attached: OnRemoteAttached, deadline: Deadline) -> None:
        item = Reassigned.attach(
            str(volume.reference), self._our_id, mode, on_remote_attached, snapshot=volume.snapshot
        )
        try:
            try:
                self._attaches.submit(item, deadline)
            except _OneOfSeveral:
                self._reassign((item,), deadline)
        except Refusal as refusal:
            raise refusals.of_attach(refusal, volume, self._our_id) from refusal

    def detach(self, volume: Volume, deadline: Deadline, *, force: bool) -> None:
        """From this host alone."""
        retry.while_busy(self._api.stopping, deadline)(self._detach_once, volume, deadline, force=force)

    def release(self, volumes: Sequence[Volume], deadline: Deadline, *, force: bool) -> None:
        """From all clients; all of them, or none."""
        if volumes:
            retry.while_busy(self._api.stopping, deadline)(self._release_once, volumes, deadline, force=force)

    def _list(self, _callers: Sequence[None], deadline: Deadline) -> Sequence[Attachment]:
        try:
            listed = self._api.call(queries.attachments(), deadline)
        except Refusal as refusal:
            raise refusals.other(refusal, "list the attachments") from refusal
        return tuple(each.as_attachment() for each in listed)

    def _attach_all(self, items: Sequence[Reassigned], deadline: Deadline) -> None:
        """StorPool takes the list as a whole or not at all."""
        distinct = tuple(dict.fromkeys(items))
        if len({item.target for item in distinct}) < len(distinct):
            raise _OneOfSeveral("one volume is wanted in two ways")
        try:
            self._reassign(distinct, deadline)
        except Refusal as refusal:
            if len(items) == 1:
                raise
            raise _OneOfSeveral(str(refusal)) from refusal

    def _detach_once(self, volume: Volume, deadline: Deadline, *, force: bool) -> None:
        item = Reassigned.release(str(volume.reference), (self._our_id,), snapshot=volume.snapshot, force=force)
        try:
            self._reassign((item,), deadline)
        except Refusal as refusal:
            if refusal.name != NO_SUCH_OBJECT:
                raise refusals.of_detach(refusal, volume, self._our_id) from refusal

    def _release_once(self, volumes: Sequence[Volume], deadline: Deadline, *, force: bool) -> None:
        items = [
            Reassigned.release(str(each.reference), "all", snapshot=each.snapshot, force=force) for each in volumes
        ]
        try:
            self._reassign(items, deadline)
        except Refusal as refusal:
            if refusal.name == NO_SUCH_OBJECT:  # StorPool does not say which of them
                for each in volumes:
                    lookups.find(self._api, each.reference, deadline, snapshot=each.snapshot)
            # A host that is gone never says that it has let go: whether it is cut off is what the list tells.
            if force and refusal.name == CLIENT_TIMEOUT and not self.clients_of(volumes, deadline):
                return
            raise refusals.of_release(refusal, volumes) from refusal

    def _reassign(self, items: Sequence[Reassigned], deadline: Deadline) -> None:
        self._api.call(queries.reassign(items, deadline), deadline)
