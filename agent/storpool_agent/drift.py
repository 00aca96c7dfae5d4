# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where StorPool, the kernel and libvirt do not agree. Pure: from one picture of them to what is wrong in it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from storpool_agent import repairs
from storpool_agent.picture import Link, Picture, UsedDisk
from storpool_agent.storpool.model import Attachment
from storpool_commands.control import Drift, DriftKind


def drifts(picture: Picture, seen_at: datetime) -> list[Drift]:
    """Every difference, the worst kinds first."""
    found = [
        *_two_writers(picture),
        *_not_attached(picture),
        *_no_device(picture),
        *_wrong_mode(picture),
        *_unplug_pending(picture),
        *_not_used(picture),
        *_migration_expired(picture),
    ]
    return [one.model_copy(update={"first_seen": seen_at}) for one in found]


def lasting(earlier: Sequence[Drift], later: Sequence[Drift]) -> list[Drift]:
    """Those of the later look that were there in the earlier one, and since when: what was under way has moved on."""
    seen = {identity(one): one.first_seen for one in earlier}
    return [one.model_copy(update={"first_seen": seen[identity(one)]}) for one in later if identity(one) in seen]


def identity(drift: Drift) -> tuple[str, str | None, str | None, str | None]:
    """What makes two of them the same."""
    return drift.kind, drift.global_id, drift.path, drift.vm


def _two_writers(picture: Picture) -> Iterator[Drift]:
    for ours in picture.here:
        others = sorted(one.client for one in picture.attachments if _writes_elsewhere(one, ours, picture.our_id))
        if ours.mode == "rw" and others and ours.global_id not in picture.migrating:
            global_id, clients = ours.global_id, ", ".join(map(str, others))
            detail = f"attached rw to this host and to client {clients}: right only while a machine migrates"
            repair = repairs.one_writer(picture, ours, others)
            vm = _only(picture.machines(global_id))
            yield _drift(picture, "two-writers", global_id, picture.path(global_id), vm, detail, repair)


def _not_attached(picture: Picture) -> Iterator[Drift]:
    """A disk of a machine that does not run needs no attachment."""
    attached = {one.global_id for one in picture.here}
    for used in picture.disks:
        if used.disk.live and used.global_id not in attached:
            what = "its path is a name that StorPool does not know" if used.global_id is None else "not attached here"
            detail = f"disk {used.disk.target} of {used.disk.domain.name}: {what}"
            repair = repairs.attach_disk(picture, used)
            path, vm = used.disk.path, used.disk.domain.uuid
            yield _drift(picture, "not-attached", used.global_id, path, vm, detail, repair)
    for global_id, link in picture.links.items():
        if link.there and global_id not in attached:
            detail = "a link is there, and StorPool lists no attachment here"
            repair = repairs.disconnect(picture, global_id)
            yield _drift(picture, "not-attached", global_id, link.path, None, detail, repair)


def _no_device(picture: Picture) -> Iterator[Drift]:
    for ours in picture.here:
        link, repair = picture.links.get(ours.global_id), repairs.connect(picture, ours)
        if link is None or not link.there:
            path, detail = link.path if link else None, "attached here, and there is no link"
            yield _drift(picture, "no-device", ours.global_id, path, None, detail, repair)
        elif link.device is None:
            detail = "attached here, and the link leads to no device"
            yield _drift(picture, "no-device", ours.global_id, link.path, None, detail, repair)


def _wrong_mode(picture: Picture) -> Iterator[Drift]:
    here = {one.global_id: one for one in picture.here}
    for global_id, ours in here.items():
        link = picture.links.get(global_id)
        if link and link.device and link.device.mode != ours.mode:
            detail = f"attached {ours.mode}, its device is {link.device.mode}"
            yield _drift(picture, "wrong-mode", global_id, link.path, None, detail, repairs.reconnect(picture, ours))
    for used in picture.disks:
        found = here.get(used.global_id or "")
        if found is not None and used.disk.mode != found.mode:
            machine = used.disk.domain
            detail = f"attached {found.mode}, disk {used.disk.target} of {machine.name} is {used.disk.mode}"
            repair = repairs.replug(picture, used, found)
            yield _drift(picture, "wrong-mode", used.global_id, used.disk.path, machine.uuid, detail, repair)


def _unplug_pending(picture: Picture) -> Iterator[Drift]:
    for pending in picture.unplugs:
        detail = f"request {pending.command} has asked the guest to let go, and it has not"
        path, repair = picture.path(pending.global_id), repairs.unplug(picture, pending)
        yield _drift(picture, "unplug-pending", pending.global_id, path, pending.vm, detail, repair)


def _not_used(picture: Picture) -> Iterator[Drift]:
    """A volume whose guest was asked to let go is told as that, whether the guest has by now or not."""
    explained = {one.global_id for one in picture.unplugs} | picture.used_by_jobs | picture.migrating
    for ours in picture.here:
        global_id = ours.global_id
        if global_id not in explained and not picture.machines(global_id):
            detail = f"attached {ours.mode}, and neither a machine nor a copy job of this host has it"
            repair = repairs.disconnect(picture, global_id)
            yield _drift(picture, "not-used", global_id, picture.path(global_id), None, detail, repair)


def _migration_expired(picture: Picture) -> Iterator[Drift]:
    """What became of it only both hosts together can tell."""
    for ticket in picture.tickets:
        if ticket.expired:
            way = f"to {ticket.peer}" if ticket.role == "source" else f"from {ticket.peer}"
            detail = (
                f"migration {ticket.migration} of machine {ticket.name} {way} was neither finished nor rolled back "
                f"in time; its volumes: {', '.join(disk.global_id for disk in ticket.disks) or 'none'}"
            )
            repair = repairs.end_migration(picture, ticket)
            yield _drift(picture, "migration-expired", None, None, ticket.vm, detail, repair)


def _writes_elsewhere(one: Attachment, ours: Attachment, our_id: int) -> bool:
    return one.global_id == ours.global_id and one.client != our_id and one.mode == "rw"


def _only(machines: Sequence[str]) -> str | None:
    return machines[0] if len(machines) == 1 else None


def _drift(
    picture: Picture, kind: DriftKind, global_id: str | None, path: str | None, vm: str | None, detail: str, repair: str
) -> Drift:
    return Drift(
        kind=kind,
        global_id=global_id,
        path=path,
        vm=vm,
        detail=detail,
        first_seen=_NOT_YET,
        evidence=_evidence(picture, global_id, path),
        repair=repair,
    )


_NOT_YET = datetime.min.replace(tzinfo=UTC)


def _evidence(picture: Picture, global_id: str | None, path: str | None) -> list[str]:
    """What each side says of the object."""
    attached = [one for one in picture.attachments if one.global_id == global_id]
    link = picture.links.get(global_id or "")
    disks = [one for one in picture.disks if (one.global_id == global_id if global_id else one.disk.path == path)]
    return [
        *(f"StorPool: attached {one.mode} to client {one.client}{_ours(picture, one)}" for one in attached),
        *(["StorPool: attached to no client"] if global_id and not attached else []),
        *([f"kernel: {_said(link)}"] if link else []),
        *(f"libvirt: {_disk(one)}" for one in disks),
        *(["libvirt: no machine has it"] if not disks else []),
    ]


def _ours(picture: Picture, one: Attachment) -> str:
    return ", this host" if one.client == picture.our_id else ""


def _said(link: Link) -> str:
    if not link.there:
        return f"no link {link.path}"
    if link.device is None:
        return f"{link.path} leads to no device"
    return f"{link.path} leads to {link.device.node}, {link.device.mode}"


def _disk(used: UsedDisk) -> str:
    state = "running" if used.disk.live else "in its configuration"
    return f"disk {used.disk.target} of {used.disk.domain.name} ({state}), {used.disk.mode}, {used.disk.path}"
