# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is sent to StorPool. Strict: a field that StorPool does not know must not leave this host."""

from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from storpool_commands.disks import Mode, OnRemoteAttached

Limit = int | Literal["-"]
"""`-` is no limit."""


class RequestModel(BaseModel):
    """camelCase on the wire; what is None is not sent (StorPool's own clients never send null)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)

    def as_json(self) -> bytes:
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Reassigned(RequestModel):
    """One object in a VolumesReassignWait: exactly one of volume and snapshot."""

    volume: str | None = None
    snapshot: str | None = None
    rw: tuple[int, ...] | None = None
    ro: tuple[int, ...] | None = None
    detach: tuple[int, ...] | Literal["all"] | None = None
    force: bool | None = None
    on_remote_attached: OnRemoteAttached | None = None

    @classmethod
    def attach(
        cls, reference: str, client: int, mode: Mode, on_remote_attached: OnRemoteAttached, *, snapshot: bool
    ) -> "Reassigned":
        return cls(
            volume=None if snapshot else reference,
            snapshot=reference if snapshot else None,
            rw=(client,) if mode == "rw" else None,
            ro=(client,) if mode == "ro" else None,
            on_remote_attached=on_remote_attached,
        )

    @classmethod
    def release(
        cls, reference: str, clients: tuple[int, ...] | Literal["all"], *, snapshot: bool, force: bool
    ) -> "Reassigned":
        return cls(
            volume=None if snapshot else reference,
            snapshot=reference if snapshot else None,
            detach=clients,
            force=force,
        )

    @property
    def target(self) -> str:
        return self.volume or self.snapshot or ""


class ReassignWait(RequestModel):
    reassign: tuple[Reassigned, ...]
    attach_timeout: int
    """Seconds that StorPool waits for a client; always sent, because without it StorPool waits for ever."""


class VolumeCreate(RequestModel):
    size: int
    template: str | None = None
    name: str | None = None
    parent: str | None = None
    base_on: str | None = None
    tags: dict[str, str]
    iops: Limit | None = None
    bw: Limit | None = None


class VolumeUpdate(RequestModel):
    """Absolute values only: sizeAdd would make a second sending of it another change."""

    size: int | None = None
    shrink_ok: bool | None = None
    iops: Limit | None = None
    bw: Limit | None = None
    template: str | None = None
    tags: dict[str, str] | None = None


class VolumeSnapshot(RequestModel):
    name: str | None = None
    delete_after: int | None = None
    """Seconds."""
    tags: dict[str, str]


class OfGroup(RequestModel):
    volume: str
    tags: dict[str, str] | None = None
    """Of this one's snapshot, besides those of all."""


class VolumesGroupSnapshot(RequestModel):
    volumes: tuple[OfGroup, ...]
    tags: dict[str, str]


class VolumeRevert(RequestModel):
    to_snapshot: str
    revert_size: bool | None = None


def limit(value: int | None) -> Limit | None:
    """A rate limit as StorPool writes it."""
    return "-" if value == 0 else value
