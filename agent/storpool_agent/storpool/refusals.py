# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""StorPool's errors, by name, as this agent's. Names and texts: the error catalogue of the API reference."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from storpool_agent.errors import (
    AgentError,
    ClientNotRegistered,
    InsufficientResources,
    NameTaken,
    NoAttachmentSlot,
    SnapshotNotFound,
    StillExported,
    StorPoolClientDown,
    StorPoolRefused,
    StorPoolUnauthorized,
    StorPoolUnavailable,
    TemplateNotFound,
    VolumeBusy,
    VolumeNotFound,
)
from storpool_agent.storpool.model import NewVolume, Volume
from storpool_commands.references import Reference
from storpool_commands.wire import Fact

NO_SUCH_OBJECT = "objectDoesNotExist"
OBJECT_EXISTS = "objectExists"
_UNAUTHORIZED = frozenset({"unauthorized", "forbidden", "accessDenied"})
CLIENT_TIMEOUT = "timeout"
_STILL_EXPORTED = "still exported"
_OPEN_AT = re.compile(r"is open at client (?P<client>\d+)")


@dataclass(frozen=True)
class Refused:
    """An error as StorPool gave it, and to what."""

    api: str
    query: str
    status: int
    name: str
    descr: str
    transient: bool


class Refusal(Exception):
    """StorPool said no. Stays inside this package: whoever made the call knows what it means for the caller."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused)
        self.refused = refused

    def __str__(self) -> str:
        return f"{self.name}: {self.refused.descr}"

    @property
    def name(self) -> str:
        return self.refused.name

    @property
    def facts(self) -> dict[str, Fact]:
        refused = self.refused
        return {"api": refused.api, "query": refused.query, "error": refused.name, "descr": refused.descr}

    @property
    def open_at(self) -> int | None:
        """The client that has the device open. Older servers say so as invalidParam."""
        found = _OPEN_AT.search(self.refused.descr)
        return int(found["client"]) if found and self.name in ("busy", "invalidParam") else None


def of_any_call(refusal: Refusal) -> AgentError | None:
    """What an error means whatever the call was; None when it depends on the call."""
    refused = refusal.refused
    if refused.transient:
        return StorPoolUnavailable(
            f"StorPool at {refused.api} cannot serve {refused.query} now ({refusal})", transient=True, **refusal.facts
        )
    if refused.status in (401, 403) or refused.name in _UNAUTHORIZED:
        return StorPoolUnauthorized(
            f"StorPool at {refused.api} does not accept this agent's token ({refusal}): check SP_AUTH_TOKEN",
            **refusal.facts,
        )
    return None


def of_lookup(refusal: Refusal, reference: Reference, *, snapshot: bool) -> AgentError:
    if refusal.name == NO_SUCH_OBJECT:
        return _not_found(refusal, str(reference), snapshot=snapshot)
    return other(refusal, f"look up {reference}")


def of_attach(refusal: Refusal, volume: Volume, client: int) -> AgentError:
    facts = {"volume": volume.global_id, "client": client, **refusal.facts}
    what = f"{_kind(volume.snapshot)} {volume.reference}"
    if refusal.name == NO_SUCH_OBJECT:
        return _not_found(refusal, str(volume.reference), snapshot=volume.snapshot)
    if refusal.name == "busy" or refusal.open_at is not None:
        return VolumeBusy(f"StorPool cannot attach {what} while it is used elsewhere ({refusal})", **facts)
    if (of_this_client := _of_our_client(refusal, client)) is not None:
        return of_this_client
    if refusal.name == "invalidParam":
        return NoAttachmentSlot(
            f"StorPool has no attachment slot for {what} at client {client} ({refusal}): "
            "a client has 1024; detach what is not used",
            **facts,
        )
    return other(refusal, f"attach {what}", volume=volume.global_id)


def of_client(refusal: Refusal, client: int) -> AgentError:
    return _of_our_client(refusal, client) or other(refusal, f"wait for client {client}", client=client)


def _of_our_client(refusal: Refusal, client: int) -> AgentError | None:
    facts = {"client": client, **refusal.facts}
    if refusal.name == CLIENT_TIMEOUT:
        return StorPoolClientDown(
            f"StorPool's client {client} did not take the change in time ({refusal}): "
            "check that storpool_block runs on this host",
            **facts,
        )
    if refusal.name == "invalidParam" and "No such client registered" in refusal.refused.descr:
        return ClientNotRegistered(
            f"StorPool knows no client {client} ({refusal}): check SP_OURID, and that storpool_block has run", **facts
        )
    return None


def of_detach(refusal: Refusal, volume: Volume, client: int) -> AgentError:
    what = f"{_kind(volume.snapshot)} {volume.reference}"
    if refusal.name == "busy" or refusal.open_at is not None:
        return VolumeBusy(
            f"{what} stays attached: its device is open at client {refusal.open_at or client} ({refusal}): "
            "close what has it open, then detach it again",
            **{"volume": volume.global_id, "client": refusal.open_at or client, **refusal.facts},
        )
    return other(refusal, f"detach {what}", volume=volume.global_id)


def of_release(refusal: Refusal, volumes: Sequence[Volume]) -> AgentError:
    what = " and ".join(f"{_kind(each.snapshot)} {each.reference}" for each in volumes)
    if refusal.name == "busy" or refusal.open_at is not None:
        text = refusal.refused.descr
        open_one = next((each for each in volumes if f"'{each.name}'" in text), volumes[0])
        return VolumeBusy(
            f"nothing was detached of {what}: a device is open ({refusal}): close what has it open, or force it",
            **{
                "volume": open_one.global_id,
                **({"client": refusal.open_at} if refusal.open_at else {}),
                **refusal.facts,
            },
        )
    if refusal.name == CLIENT_TIMEOUT:
        return StorPoolClientDown(
            f"a client did not let go of {what} in time ({refusal}): check that storpool_block runs where it is "
            "attached, or force it",
            **refusal.facts,
        )
    return other(refusal, f"detach {what} everywhere")


def of_create(refusal: Refusal, wanted: NewVolume) -> AgentError:
    aim = f"make a volume of {wanted.size_bytes} bytes"
    if wanted.template is not None:
        aim += f" by template {wanted.template}"
    if refusal.name == NO_SUCH_OBJECT and wanted.template is not None:
        return _no_template(refusal, wanted.template)
    return _of_new(refusal, wanted.name, aim)


def of_snapshot(refusal: Refusal, volume: Volume, name: str | None) -> AgentError:
    if refusal.name == NO_SUCH_OBJECT:
        return _not_found(refusal, str(volume.reference), snapshot=False)
    return _of_new(refusal, name, f"take a snapshot of volume {volume.reference}")


def of_group_snapshot(refusal: Refusal, volumes: Sequence[Volume]) -> AgentError:
    """Of volumes that are all known to exist."""
    every = ", ".join(str(each.reference) for each in volumes)
    return _of_new(refusal, None, f"take snapshots of volumes {every} at one moment")


def _of_new(refusal: Refusal, name: str | None, aim: str) -> AgentError:
    if refusal.name == OBJECT_EXISTS:
        return NameTaken(
            f"StorPool has another object named {name} ({refusal}): choose another name",
            **{"name": name, **refusal.facts},
        )
    if refusal.name == "insufficientResources":
        return _no_room(refusal, aim)
    return other(refusal, aim)


def of_update(refusal: Refusal, volume: Volume, template: str | None) -> AgentError:
    """`template` is the one that the update names, when the volume itself is known to exist."""
    if refusal.name == NO_SUCH_OBJECT and template is not None:
        return _no_template(refusal, template)
    if refusal.name == NO_SUCH_OBJECT:
        return _not_found(refusal, str(volume.reference), snapshot=False)
    if refusal.name == "insufficientResources":
        return _no_room(refusal, f"change volume {volume.reference}", volume=volume.global_id)
    return other(refusal, f"change volume {volume.reference}", volume=volume.global_id)


def of_revert(refusal: Refusal, volume: Volume, snapshot: Volume) -> AgentError:
    """Of a volume and a snapshot that are both known to exist."""
    if refusal.name == "busy" or refusal.open_at is not None:
        return VolumeBusy(
            f"StorPool does not revert volume {volume.reference}: it is attached ({refusal}): detach it everywhere",
            **{
                "volume": volume.global_id,
                **({"client": refusal.open_at} if refusal.open_at else {}),
                **refusal.facts,
            },
        )
    aim = f"revert volume {volume.reference} to snapshot {snapshot.reference}"
    return other(refusal, aim, volume=volume.global_id, snapshot=snapshot.global_id)


def of_delete(refusal: Refusal, volume: Volume) -> AgentError:
    what = f"{_kind(volume.snapshot)} {volume.reference}"
    if _STILL_EXPORTED in refusal.refused.descr:
        return StillExported(
            f"StorPool keeps {what}: another location has it ({refusal}): unexport it there, then delete it again",
            **{_kind(volume.snapshot): volume.global_id, **refusal.facts},
        )
    if refusal.name == "busy" or refusal.open_at is not None:
        return VolumeBusy(
            f"StorPool keeps {what}: it is attached ({refusal}): detach it everywhere, then delete it again",
            **{
                "volume": volume.global_id,
                **({"client": refusal.open_at} if refusal.open_at else {}),
                **refusal.facts,
            },
        )
    return other(refusal, f"delete {what}", volume=volume.global_id)


def other(refusal: Refusal, aim: str, **facts: Fact) -> AgentError:
    return StorPoolRefused(f"StorPool refused to {aim}: {refusal}", **facts, **refusal.facts)


def _not_found(refusal: Refusal, reference: str, *, snapshot: bool) -> AgentError:
    kind = SnapshotNotFound if snapshot else VolumeNotFound
    facts: dict[str, Fact] = {_kind(snapshot): reference, **refusal.facts}
    return kind(f"StorPool has no {_kind(snapshot)} {reference} ({refusal})", **facts)


def _no_template(refusal: Refusal, template: str) -> AgentError:
    return TemplateNotFound(
        f"StorPool has no template {template} ({refusal}): see `storpool template list`",
        **{"template": template, **refusal.facts},
    )


def _no_room(refusal: Refusal, aim: str, **facts: Fact) -> AgentError:
    return InsufficientResources(
        f"StorPool has no room to {aim} ({refusal}): see `storpool template status`", **facts, **refusal.facts
    )


def _kind(snapshot: bool) -> str:
    return "snapshot" if snapshot else "volume"
