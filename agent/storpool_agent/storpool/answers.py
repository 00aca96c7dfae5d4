# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What StorPool answers. Lenient: only what is used is required, and what is new is passed over."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from storpool_agent.storpool.model import Attachment, Volume
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

    def as_volume(self, *, snapshot: bool = False) -> Volume:
        return Volume(
            global_id=self.global_id,
            name=self.name,
            size_bytes=self.size,
            snapshot=snapshot,
            template=self.template_name,
            tags=self.tags,
            iops=None if self.iops == "-" else self.iops or None,
        )


class CreatedAnswer(AnswerModel):
    global_id: str
    name: str = ""


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
