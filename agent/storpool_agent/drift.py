# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where StorPool, the kernel and libvirt do not agree. Pure: from one picture of them to what is wrong in it."""

from collections.abc import Iterator, Sequence
from typing import Literal

from storpool_agent.picture import Link, Picture, UsedDisk
from storpool_agent.storpool.model import Attachment
from storpool_commands.control import Drift


def drifts(picture: Picture) -> list[Drift]:
    """Every difference, the worst kinds first."""
    return [
        *_two_writers(picture),
        *_not_attached(picture),
        *_no_device(picture),
        *_wrong_mode(picture),
        *_unplug_pending(picture),
        *_not_used(picture),
    ]


def lasting(earlier: Sequence[Drift], later: Sequence[Drift]) -> list[Drift]:
    """Those of the later look that were there in the earlier one: what was just under way has moved on."""
    seen = {_identity(one) for one in earlier}
    return [one for one in later if _identity(one) in seen]


def _identity(drift: Drift) -> tuple[str, str | None, str | None, str | None]:
    return drift.kind, drift.global_id, drift.path, drift.vm


def _two_writers(picture: Picture) -> Iterator[Drift]:
    for ours in picture.here:
        others = sorted(one.client for one in picture.attachments if _writes_elsewhere(one, ours, picture.our_id))
        if ours.mode == "rw" and others:
            clients = ", ".join(map(str, others))
            yield Drift(
                kind="two-writers",
                global_id=ours.global_id,
                path=picture.path(ours.global_id),
                vm=_only(picture.machines(ours.global_id)),
                detail=f"attached rw to this host and to client {clients}: right only while a machine migrates",
            )


def _not_attached(picture: Picture) -> Iterator[Drift]:
    """A disk of a machine that does not run needs no attachment."""
    attached = {one.global_id for one in picture.here}
    for used in picture.disks:
        if used.disk.live and used.global_id not in attached:
            what = "its path is a name that StorPool does not know" if used.global_id is None else "not attached here"
            yield _of_disk("not-attached", used, f"disk {used.disk.target} of {used.disk.domain.name}: {what}")
    for global_id, link in picture.links.items():
        if link.there and global_id not in attached:
            yield _of_link("not-attached", global_id, link, "a link is there, and StorPool lists no attachment here")


def _no_device(picture: Picture) -> Iterator[Drift]:
    for ours in picture.here:
        link = picture.links.get(ours.global_id)
        if link is None or not link.there:
            yield Drift(
                kind="no-device",
                global_id=ours.global_id,
                path=link.path if link else None,
                vm=None,
                detail="attached here, and there is no link",
            )
        elif link.device is None:
            yield _of_link("no-device", ours.global_id, link, "attached here, and the link leads to no device")


def _wrong_mode(picture: Picture) -> Iterator[Drift]:
    modes = {one.global_id: one.mode for one in picture.here}
    for global_id, mode in modes.items():
        link = picture.links.get(global_id)
        if link and link.device and link.device.mode != mode:
            yield _of_link("wrong-mode", global_id, link, f"attached {mode}, its device is {link.device.mode}")
    for used in picture.disks:
        wanted = modes.get(used.global_id or "")
        if wanted is not None and used.disk.mode != wanted:
            detail = f"attached {wanted}, disk {used.disk.target} of {used.disk.domain.name} is {used.disk.mode}"
            yield _of_disk("wrong-mode", used, detail)


def _unplug_pending(picture: Picture) -> Iterator[Drift]:
    for pending in picture.unplugs:
        yield Drift(
            kind="unplug-pending",
            global_id=pending.global_id,
            path=picture.path(pending.global_id),
            vm=pending.vm,
            detail=f"request {pending.command} has asked the guest to let go, and it has not",
        )


def _not_used(picture: Picture) -> Iterator[Drift]:
    """A volume whose guest was asked to let go is told as that, whether the guest has by now or not."""
    explained = {one.global_id for one in picture.unplugs} | picture.used_by_jobs
    for ours in picture.here:
        if ours.global_id not in explained and not picture.machines(ours.global_id):
            yield Drift(
                kind="not-used",
                global_id=ours.global_id,
                path=picture.path(ours.global_id),
                vm=None,
                detail=f"attached {ours.mode}, and neither a machine nor a copy job of this host has it",
            )


def _writes_elsewhere(one: Attachment, ours: Attachment, our_id: int) -> bool:
    return one.global_id == ours.global_id and one.client != our_id and one.mode == "rw"


def _only(machines: Sequence[str]) -> str | None:
    return machines[0] if len(machines) == 1 else None


def _of_disk(kind: Literal["not-attached", "wrong-mode"], used: UsedDisk, detail: str) -> Drift:
    return Drift(kind=kind, global_id=used.global_id, path=used.disk.path, vm=used.disk.domain.uuid, detail=detail)


def _of_link(
    kind: Literal["not-attached", "no-device", "wrong-mode"], global_id: str, link: Link, detail: str
) -> Drift:
    return Drift(kind=kind, global_id=global_id, path=link.path, vm=None, detail=detail)
