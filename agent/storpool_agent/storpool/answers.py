# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What StorPool answers. Lenient: only what is used is required, and what is new is passed over."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from storpool_agent.storpool.model import Attachment, ClientService, Services, TemplateSpace, Volume
from storpool_commands.disks import Mode

T = TypeVar("T")


class AnswerModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, hide_input_in_errors=True)


class ErrorAnswer(AnswerModel):
    name: str
    descr: str = ""
    transient: bool = False


class Envelope(AnswerModel, Generic[T]):
    """One of the two. An error comes with HTTP status 500 or with 200."""

    data: T | None = None
    error: ErrorAnswer | None = None


class Done(AnswerModel):
    """The least that a change answers."""

    ok: Literal[True]


class VolumeAnswer(AnswerModel):
    """A volume or snapshot as it is listed."""

    name: str
    global_id: str
    size: int
    template_name: str = ""
    tags: dict[str, str] = {}
    iops: int | Literal["-"] = "-"
    bw: int | Literal["-"] = "-"
    parent_name: str = ""
    creation_timestamp: int = 0
    on_volume: str = ""
    created_from_global_id: str = ""
    """Of a snapshot; servers that do not know it leave it out."""
    deleted: bool = False
    """A snapshot that stays for the sake of what was made from it."""
    transient: bool = False
    """A snapshot that StorPool made for itself."""

    @property
    def age(self) -> tuple[int, int, str]:
        """Sorts older before younger: within a second by the counter in the global id, which is in base 36."""
        counter = self.global_id.rpartition(".")[2]
        return self.creation_timestamp, len(counter), counter

    def as_volume(self, *, snapshot: bool = False) -> Volume:
        return Volume(
            global_id=self.global_id,
            name=self.name,
            size_bytes=self.size,
            snapshot=snapshot,
            template=self.template_name,
            tags=self.tags,
            iops=None if self.iops == "-" else self.iops or None,
            bandwidth_kib_sec=None if self.bw == "-" else self.bw or None,
            parent=self.parent_name,
            on_volume="" if self.on_volume == "-" else self.on_volume,
        )


class CreatedAnswer(AnswerModel):
    global_id: str


class TakenAnswer(AnswerModel):
    snapshot_global_id: str


class TakenOfGroup(AnswerModel):
    """One snapshot of a group, and by name or global id the volume that it is of."""

    volume: str = ""
    volume_global_id: str = ""
    snapshot: str = ""
    snapshot_global_id: str


class GroupTakenAnswer(AnswerModel):
    snapshots: list[TakenOfGroup]


class TemplateAnswer(AnswerModel):
    name: str


class Stored(AnswerModel):
    free: int
    capacity: int


class TemplateStatusAnswer(AnswerModel):
    name: str
    volumes_count: int = 0
    snapshots_count: int = 0
    stored: Stored

    def as_space(self) -> TemplateSpace:
        return TemplateSpace(
            self.name, self.stored.capacity, self.stored.free, self.volumes_count, self.snapshots_count
        )


class ClientServiceAnswer(AnswerModel):
    id: int
    status: str
    version: str | None = None


class ServicesAnswer(AnswerModel):
    cluster_status: str
    clients: dict[str, ClientServiceAnswer] = {}

    def as_services(self) -> Services:
        clients = sorted(self.clients.values(), key=lambda client: client.id)
        return Services(self.cluster_status, tuple(ClientService(one.id, one.status, one.version) for one in clients))


class AttachmentAnswer(AnswerModel):
    global_id: str
    client: int
    rights: Mode
    snapshot: bool = False

    def as_attachment(self) -> Attachment:
        return Attachment(self.global_id, self.client, self.rights, self.snapshot)


class ClientAnswer(AnswerModel):
    """How far a client is with the configuration of the cluster."""

    id: int
    config_status: str = "ok"
