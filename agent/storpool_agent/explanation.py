# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""All that is known of one volume on this host. Who does not answer is named, and the others are asked all the same."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from storpool_agent import advice
from storpool_agent.deadline import Deadline
from storpool_agent.devices.model import Device
from storpool_agent.domains.model import DiskInDomain
from storpool_agent.errors import AgentError, SnapshotNotFound, VolumeNotFound
from storpool_agent.host import Host
from storpool_agent.job import JobView
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.overview import Entry, Overview
from storpool_agent.locks import volume_key
from storpool_agent.storpool.model import Volume
from storpool_commands.control import Kept
from storpool_commands.disks import AttachedTo
from storpool_commands.explaining import (
    ExplainedVolume,
    SeenDevice,
    SeenDisk,
    SeenJob,
    SeenUnplug,
    SeenVolume,
)
from storpool_commands.labels import OPERATION, WRITING
from storpool_commands.migration import SeenMigration
from storpool_commands.references import Reference, parse

RECENT = 3
"""So many finished requests are told."""

STORPOOL_S = 5.0
"""A StorPool that has not answered by then is told to be silent, and the host is looked at."""

T = TypeVar("T")


class Explanation:
    """One look. Raises nothing but what is a defect."""

    def __init__(
        self, host: Host, journal: Journal, overview: Overview, jobs: Sequence[JobView], deadline: Deadline
    ) -> None:
        """`jobs`: what is under way; none when no agent runs."""
        self._host = host
        self._journal = journal
        self._overview = overview
        self._jobs = {one.id: one for one in jobs}
        self._deadline = deadline
        self._not_known: list[str] = []

    def of(self, text: str) -> ExplainedVolume:
        """Of a volume or snapshot, in any spelling."""
        reference = parse(text)
        volume = self._tried("StorPool", lambda: self._find(reference), None)
        silent = bool(self._not_known)
        global_id = self._global_id(reference, volume)
        words = _words(reference, volume, global_id)
        device = self._tried("the device", lambda: self._device(global_id), None)
        tags: Mapping[str, str] = volume.tags if volume else {}
        seen = ExplainedVolume(
            global_id=global_id,
            volume=_seen(volume) if volume else None,
            client=self._host.storpool.our_id,
            attachments=[] if silent else self._tried("StorPool", lambda: self._attachments(global_id), []),
            device=_seen_device(device) if device else None,
            link=self._link(global_id),
            holders=list(self._host.devices.holders(device)) if device else [],
            disks=self._tried("libvirt", lambda: self._disks(reference, volume, global_id), []),
            jobs=self._tried("the journal", lambda: self._under_way(words, global_id), []),
            recent=self._tried("the journal", lambda: self._recent(words), []),
            pending_unplug=self._tried("the journal", lambda: self._unplug(global_id), None),
            migration=self._tried("the journal", lambda: self._migration(global_id), None),
            generation=self._tried("the journal", lambda: self._journal.fence(global_id or ""), 0),
            writing=tags.get(WRITING),
            operation=tags.get(OPERATION),
            temporaries=self._tried("the journal", lambda: self._temporaries(global_id), []),
            not_known=[],
            summary="",
            advice=[],
        )
        return self._advised(seen, text)

    def _advised(self, seen: ExplainedVolume, text: str) -> ExplainedVolume:
        complete = seen.model_copy(update={"not_known": list(dict.fromkeys(self._not_known))})
        update = {
            "summary": advice.summary(complete, text),
            "advice": advice.what_to_do(complete, self._host.name),
        }
        return complete.model_copy(update=update)

    def _tried(self, who: str, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return ask()
        except AgentError as error:
            self._not_known.append(f"{who}: {error}")
            return otherwise

    def _find(self, reference: Reference) -> Volume | None:
        for look in (self._host.storpool.volume, self._host.storpool.snapshot):
            with suppress(VolumeNotFound, SnapshotNotFound):
                return look(reference, self._deadline.within(STORPOOL_S))
        return None

    def _global_id(self, reference: Reference, volume: Volume | None) -> str | None:
        if volume is not None:
            return volume.global_id
        return reference.value if reference.kind == "id" else self._host.devices.linked_as(reference.value)

    def _attachments(self, global_id: str | None) -> list[AttachedTo]:
        listed = self._host.storpool.attachments(self._deadline.within(STORPOOL_S)) if global_id else ()
        return [AttachedTo(client=one.client, mode=one.mode) for one in listed if one.global_id == global_id]

    def _device(self, global_id: str | None) -> Device | None:
        return self._host.devices.look(global_id) if global_id else None

    def _link(self, global_id: str | None) -> str | None:
        if global_id is None or global_id not in self._host.devices.linked():
            return None
        return self._host.devices.link(global_id)

    def _disks(self, reference: Reference, volume: Volume | None, global_id: str | None) -> list[SeenDisk]:
        name = volume.name if volume else reference.value if reference.kind == "name" else f"~{global_id}"
        paths = self._host.devices.links(global_id or name, name)
        return [_disk(one) for one in self._host.domains.having(paths, self._deadline)]

    def _under_way(self, words: frozenset[str], global_id: str | None) -> list[SeenJob]:
        keys = {*(f"name:{word}" for word in words), *([volume_key(global_id)] if global_id else [])}
        found: list[SeenJob] = []
        for entry in self._overview.unfinished():
            view = self._jobs.get(entry.id)
            named = (view.named & words or view.keys & keys) if view else mentioned(entry.request) & words
            if named:
                found.append(_job(entry, view))
        return found

    def _recent(self, words: frozenset[str]) -> list[SeenJob]:
        texts = sorted({f'{mark}{word.removeprefix("~")}"' for word in words for mark in ('"', "~", "/")})
        found = self._overview.about(texts, 2 * RECENT)
        return [_job(entry, None) for entry in found if mentioned(entry.request) & words][:RECENT]

    def _unplug(self, global_id: str | None) -> SeenUnplug | None:
        found = self._overview.unplug(global_id or "")
        return SeenUnplug(vm=found.vm, request=found.command, since=_time(found.since)) if found else None

    def _migration(self, global_id: str | None) -> SeenMigration | None:
        ticket = self._journal.tickets.with_volume(global_id or "")
        return ticket.seen if ticket else None

    def _temporaries(self, global_id: str | None) -> list[Kept]:
        found = self._overview.temporaries([global_id]) if global_id else []
        return [Kept(kind=kind, target=request) for kind, request in found]


def mentioned(request: Mapping[str, Any] | None) -> frozenset[str]:
    """The volumes and snapshots that a stored request names, as `~<global id>` or `<name>`."""
    body: Mapping[str, Any] = (request or {}).get("body") or {}
    texts = [body.get("volume"), body.get("path"), body.get("snapshot")]
    texts += [*(body.get("volumes") or ()), *(body.get("snapshots") or ())]
    for disk in body.get("disks") or ():
        texts += [disk] if isinstance(disk, str) else [disk.get("volume"), disk.get("snapshot")]
    return frozenset(_canonical(text) for text in texts if text)


def _canonical(text: str) -> str:
    try:
        return str(parse(text))
    except ValueError:  # a `path` that is no volume's
        return text


def _words(reference: Reference, volume: Volume | None, global_id: str | None) -> frozenset[str]:
    """Every spelling by which requests name it."""
    named = {volume.name} if volume and volume.name else set[str]()
    return frozenset({str(reference), *named, *({f"~{global_id}"} if global_id else ())})


def _seen(volume: Volume) -> SeenVolume:
    return SeenVolume(
        global_id=volume.global_id,
        name=volume.name,
        snapshot=volume.snapshot,
        size_bytes=volume.size_bytes,
        template=volume.template,
        tags=dict(volume.tags),
    )


def _seen_device(device: Device) -> SeenDevice:
    return SeenDevice(link=device.link, node=device.node, size_bytes=device.size_bytes, mode=device.mode)


def _disk(one: DiskInDomain) -> SeenDisk:
    return SeenDisk(
        vm=one.domain.uuid,
        name=one.domain.name,
        running=one.domain.running,
        target=one.target,
        live=one.live,
        config=one.config,
        mode=one.mode,
    )


def _job(entry: Entry, view: JobView | None) -> SeenJob:
    finished = entry.state == "finished"
    reply: Mapping[str, Any] = entry.reply or {}
    return SeenJob(
        id=UUID(entry.id),
        body_command=entry.command,
        state="finished" if finished else "running" if view and view.running else "queued",
        received_at=_time(entry.received_at),
        step=view.step if view else None,
        outcome=reply.get("status"),
        code=reply.get("code"),
        finished_at=_time(entry.finished_at) if entry.finished_at else None,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
