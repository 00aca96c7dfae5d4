# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The StorPool cluster, seen from this host's client id. Any thread may call it."""

from collections.abc import Sequence
from threading import Event

from pydantic import SecretStr

from storpool_agent.deadline import Deadline
from storpool_agent.errors import StorPoolClientDown
from storpool_agent.storpool import groups, lookups, queries, refusals, snapshots, volumes
from storpool_agent.storpool.address import Address
from storpool_agent.storpool.api import Api
from storpool_agent.storpool.attachments import Attachments
from storpool_agent.storpool.model import (
    Attachment,
    NewSnapshot,
    NewVolume,
    Services,
    TemplateSpace,
    Volume,
    VolumeChange,
)
from storpool_agent.storpool.refusals import Refusal
from storpool_agent.storpool.reverting import Revert
from storpool_commands.disks import Mode, OnRemoteAttached
from storpool_commands.references import Reference


class Cluster:
    """Queries are made in MultiCluster form where StorPool knows it: it finds the volume in any sub-cluster."""

    def __init__(self, api: str, token: SecretStr, our_id: int, stopping: Event) -> None:
        """Connects to nothing. Raises ValueError for an address that is none."""
        self.our_id = our_id
        self._api = Api(Address.parse(api), token, stopping)
        self._attachments = Attachments(self._api, our_id)

    def __repr__(self) -> str:
        return f"Cluster({self._api.address}, client {self.our_id})"

    @property
    def trouble(self) -> str | None:
        """What keeps the API from being called, as the last call has shown; None: nothing that is known."""
        return self._api.last.trouble

    def volume(self, reference: Reference, deadline: Deadline) -> Volume:
        return lookups.find(self._api, reference, deadline, snapshot=False)

    def snapshot(self, reference: Reference, deadline: Deadline) -> Volume:
        return lookups.find(self._api, reference, deadline, snapshot=True)

    def attachments(self, deadline: Deadline) -> Sequence[Attachment]:
        return self._attachments.all(deadline)

    def attach(self, volume: Volume, mode: Mode, on_remote_attached: OnRemoteAttached, deadline: Deadline) -> None:
        self._attachments.attach(volume, mode, on_remote_attached, deadline)

    def detach(self, volume: Volume, deadline: Deadline, *, force: bool = False) -> None:
        self._attachments.detach(volume, deadline, force=force)

    def release(self, volumes: Sequence[Volume], deadline: Deadline, *, force: bool = False) -> None:
        self._attachments.release(volumes, deadline, force=force)

    def create_volume(
        self, wanted: NewVolume, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        return volumes.create(self._api, wanted, operation, deadline, look_first=look_first)

    def update_volume(self, volume: Volume, change: VolumeChange, deadline: Deadline) -> None:
        volumes.update(self._api, volume, change, deadline)

    def delete_volume(self, volume: Volume, deadline: Deadline) -> None:
        volumes.delete(self._api, volume, deadline)

    def take_snapshot(
        self, volume: Volume, wanted: NewSnapshot, operation: str, deadline: Deadline, *, look_first: bool = False
    ) -> Volume:
        return snapshots.take(self._api, volume, wanted, operation, deadline, look_first=look_first)

    def take_group_snapshot(
        self,
        volumes: Sequence[Volume],
        wanted: NewSnapshot,
        operation: str,
        deadline: Deadline,
        *,
        look_first: bool = False,
    ) -> Sequence[Volume]:
        return groups.take(self._api, volumes, wanted, operation, deadline, look_first=look_first)

    def volumes_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        return tuple(each.as_volume() for each in lookups.volumes_made_by(self._api, operation, None, deadline))

    def snapshots_made_by(self, operation: str, deadline: Deadline) -> Sequence[Volume]:
        made = lookups.snapshots_made_by(self._api, operation, deadline)
        return tuple(each.as_volume(snapshot=True) for each in made)

    def revert_volume(self, volume: Volume, snapshot: Volume, deadline: Deadline, *, revert_size: bool = False) -> None:
        Revert(self._api, self._attachments, volume, snapshot).run(deadline, revert_size=revert_size)

    def templates(self, deadline: Deadline) -> Sequence[TemplateSpace]:
        try:
            return tuple(each.as_space() for each in self._api.call(queries.templates_status(), deadline))
        except Refusal as refusal:
            raise refusals.other(refusal, "show the room of its templates") from refusal

    def services(self, deadline: Deadline) -> Services:
        try:
            return self._api.call(queries.services(), deadline).as_services()
        except Refusal as refusal:
            raise refusals.other(refusal, "list its services") from refusal

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
