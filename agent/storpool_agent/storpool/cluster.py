# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The StorPool cluster, seen from this host's client id. Any thread may call it."""

from collections.abc import Sequence
from threading import Event

from pydantic import SecretStr

from storpool_agent import retry
from storpool_agent.deadline import Deadline
from storpool_agent.errors import (
    StorPoolBadAnswer,
    StorPoolClientDown,
    StorPoolTimeout,
    StorPoolUnavailable,
    VolumeNotFound,
)
from storpool_agent.storpool import queries, refusals
from storpool_agent.storpool.address import Address
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.model import Attachment, NewVolume, Volume, VolumeChange
from storpool_agent.storpool.refusals import NO_SUCH_OBJECT, OBJECT_EXISTS, Refusal
from storpool_agent.storpool.requests import Reassigned
from storpool_agent.storpool.together import Together
from storpool_commands.disks import Mode, OnRemoteAttached
from storpool_commands.references import Reference

OPERATION_TAG = "sp-op"
"""Its value is the id of the request that made the object."""


class _OneOfSeveral(Exception):
    """A request for several volumes failed as a whole: each has to be tried alone to know whose fault it was."""


class Cluster:
    """Queries are made in MultiCluster form where StorPool knows it: it finds the volume in any sub-cluster."""

    def __init__(self, api: str, token: SecretStr, our_id: int, stopping: Event) -> None:
        """Connects to nothing. Raises ValueError for an address that is none."""
        self.our_id = our_id
        self._api = Api(Address.parse(api), token, stopping)
        self._stopping = stopping
        self._attaches = Together[Reassigned, None]("attach", self._attach_all)
        self._lists = Together[None, Sequence[Attachment]]("list attachments", self._list_attachments)

    def __repr__(self) -> str:
        return f"Cluster({self._api.address}, client {self.our_id})"

    def volume(self, reference: Reference, deadline: Deadline) -> Volume:
        return self._look_up(reference, deadline, snapshot=False)

    def snapshot(self, reference: Reference, deadline: Deadline) -> Volume:
        return self._look_up(reference, deadline, snapshot=True)

    def _look_up(self, reference: Reference, deadline: Deadline, *, snapshot: bool) -> Volume:
        query = queries.lookup(reference, snapshot=snapshot)
        try:
            found = self._api.call(query, deadline)
        except Refusal as refusal:
            raise refusals.of_lookup(refusal, reference, snapshot=snapshot) from refusal
        if len(found) != 1:
            raise StorPoolBadAnswer(
                f"StorPool answered {len(found)} objects for {reference} instead of one",
                api=str(self._api.address),
                query=query.name,
            )
        return found[0].as_volume(snapshot=snapshot)

    def attachments(self, deadline: Deadline) -> Sequence[Attachment]:
        return self._lists.submit(None, deadline)

    def _list_attachments(self, _callers: Sequence[None], deadline: Deadline) -> Sequence[Attachment]:
        try:
            listed = self._api.call(queries.attachments(), deadline)
        except Refusal as refusal:
            raise refusals.other(refusal, "list the attachments") from refusal
        return tuple(each.as_attachment() for each in listed)

    def attach(self, volume: Volume, mode: Mode, on_remote_attached: OnRemoteAttached, deadline: Deadline) -> None:
        item = Reassigned.attach(str(volume.reference), self.our_id, mode, on_remote_attached, snapshot=volume.snapshot)
        try:
            try:
                self._attaches.submit(item, deadline)
            except _OneOfSeveral:
                self._reassign((item,), deadline)
        except Refusal as refusal:
            raise refusals.of_attach(refusal, volume, self.our_id) from refusal

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

    def detach(self, volume: Volume, deadline: Deadline, *, force: bool = False) -> None:
        retry.while_busy(self._stopping, deadline)(self._detach_once, volume, deadline, force=force)

    def _detach_once(self, volume: Volume, deadline: Deadline, *, force: bool) -> None:
        item = Reassigned.release(str(volume.reference), self.our_id, snapshot=volume.snapshot, force=force)
        try:
            self._reassign((item,), deadline)
        except Refusal as refusal:
            if refusal.name != NO_SUCH_OBJECT:
                raise refusals.of_detach(refusal, volume, self.our_id) from refusal

    def _reassign(self, items: Sequence[Reassigned], deadline: Deadline) -> None:
        self._api.call(queries.reassign(items, deadline), deadline)

    def create_volume(
        self, wanted: NewVolume, request_id: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        may_exist = look_first

        def attempt() -> Volume:
            nonlocal may_exist
            found = self._made_by(request_id, deadline) if may_exist else None
            may_exist = True
            return found or self._create(wanted, request_id, deadline)

        return retry.while_answer_is_lost(self._stopping, deadline)(attempt)

    def _create(self, wanted: NewVolume, request_id: str, deadline: Deadline) -> Volume:
        tags = {**wanted.tags, OPERATION_TAG: request_id}
        try:
            created = self._api.call(queries.create(wanted, tags), deadline)
        except Refusal as refusal:
            ours = self._named_by_us(wanted.name, request_id, deadline) if refusal.name == OBJECT_EXISTS else None
            if ours is None:
                raise refusals.of_create(refusal, wanted) from refusal
            return ours
        return Volume(
            global_id=created.global_id,
            name=created.name or wanted.name or f"~{created.global_id}",
            size_bytes=wanted.size_bytes,
            snapshot=False,
            template=wanted.template,
            tags=tags,
            iops=wanted.iops or None,
        )

    def _made_by(self, request_id: str, deadline: Deadline) -> Volume | None:
        """The volume that an earlier sending of this request made. Lists the whole cluster."""
        try:
            listed = self._api.call(queries.volumes(), deadline)
        except Refusal as refusal:
            raise refusals.other(refusal, "list the volumes") from refusal
        except StorPoolUnavailable as error:
            raise StorPoolTimeout(
                f"whether request {request_id} has made its volume is not known: {error}", **error.facts
            ) from error
        made = [each for each in listed if each.tags.get(OPERATION_TAG) == request_id]
        return made[0].as_volume() if made else None

    def _named_by_us(self, name: str | None, request_id: str, deadline: Deadline) -> Volume | None:
        """The volume of that name, if this request made it."""
        if name is None:
            return None
        try:
            found = self.volume(Reference("name", name), deadline)
        except VolumeNotFound:  # a snapshot has the name
            return None
        return found if found.tags.get(OPERATION_TAG) == request_id else None

    def update_volume(self, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
        try:
            self._api.call(queries.update(volume, change), deadline)
        except Refusal as refusal:
            template = change.template
            if refusal.name == NO_SUCH_OBJECT and template is not None:
                self.volume(volume.reference, deadline)  # StorPool does not say which of the two is missing
            raise refusals.of_update(refusal, volume, template) from refusal

    def delete_volume(self, volume: Volume, deadline: Deadline) -> None:
        try:
            self._api.call(queries.delete(volume), deadline)
        except Refusal as refusal:
            if refusal.name != NO_SUCH_OBJECT:
                raise refusals.of_delete(refusal, volume) from refusal

    def wait_for_client(self, deadline: Deadline) -> None:
        try:
            answer = self._api.call(queries.client_config_wait(self.our_id), deadline)
        except Refusal as refusal:
            raise refusals.of_client(refusal, self.our_id) from refusal
        clients = answer if isinstance(answer, list) else [answer]
        if any(client.id == self.our_id and client.config_status == "down" for client in clients):
            raise StorPoolClientDown(
                f"StorPool's client {self.our_id} is down: check that storpool_block runs on this host",
                client=self.our_id,
            )
