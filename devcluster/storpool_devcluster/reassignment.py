# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Attaching and detaching, several at once and all or nothing.

[I] Items are checked together and nothing is done when one of them is wrong or busy. [I] Detaching a client that is
not attached is a success. [U] With `detach: "all"` the clients named in rw and ro stay attached.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from storpool_devcluster import expiry
from storpool_devcluster.cluster import Cluster
from storpool_devcluster.effects import Effects
from storpool_devcluster.records import Attachment, Rights, Volume


@dataclass(frozen=True, slots=True)
class Wish:
    """How one client is to have one volume; rights None: not at all."""

    volume: Volume
    client: int
    rights: Rights | None
    force: bool = False


@dataclass
class Outcome:
    """`attached` are new; `receivers` are the clients that are to have something, `clients` all that are named."""

    attached: list[tuple[Volume, int]] = field(default_factory=list[tuple[Volume, int]])
    receivers: set[int] = field(default_factory=set[int])
    clients: set[int] = field(default_factory=set[int])


def apply(cluster: Cluster, wishes: Iterable[Wish], effects: Effects | None = None) -> Outcome:
    """Inside a change: detaches are claimed first, because they are what can be refused."""
    run = _Run(cluster, effects or Effects())
    wanted = list({(wish.volume.gid, wish.client): wish for wish in wishes}.values())
    with ExitStack() as undo:
        for wish in wanted:
            if wish.rights is None:
                run.claim(wish, undo)
        for wish in wanted:
            if wish.rights is not None:
                run.give(wish, wish.rights, undo)
        undo.pop_all()
    run.finish()
    return run.outcome


def detach_everywhere(cluster: Cluster, volume: Volume, *, force: bool) -> None:
    attached = cluster.state.attachments_of(volume.gid)
    apply(cluster, [Wish(volume, client, None, force) for client in attached])


class _Run:
    def __init__(self, cluster: Cluster, effects: Effects) -> None:
        self.outcome = Outcome()
        self._cluster = cluster
        self._effects = effects
        self._finishing: list[Callable[[], None]] = []
        self._detached: list[Volume] = []

    def claim(self, wish: Wish, undo: ExitStack) -> None:
        attachment = self._cluster.state.attachments_of(wish.volume.gid).get(wish.client)
        self.outcome.clients.add(wish.client)
        if attachment is None:
            return
        finish = self._cluster.devices.claim(attachment, wish.volume.label, undo, force=wish.force)
        self._finishing.append(finish)
        self._detached.append(wish.volume)
        self._cluster.state.detach(attachment)

    def give(self, wish: Wish, rights: Rights, undo: ExitStack) -> None:
        attachment = self._cluster.state.attachments_of(wish.volume.gid).get(wish.client)
        self.outcome.clients.add(wish.client)
        self.outcome.receivers.add(wish.client)
        if attachment is None:
            self._attach(wish.volume, wish.client, rights, undo)
        elif attachment.rights != rights:
            self._cluster.devices.set_rights(attachment, rights)
            undo.callback(self._cluster.devices.set_rights, attachment, attachment.rights)
            self._cluster.state.attach(replace(attachment, rights=rights))

    def finish(self) -> None:
        for finish in self._finishing:
            finish()
        for volume in self._detached:
            expiry.collect(self._cluster, volume)

    def _attach(self, volume: Volume, client: int, rights: Rights, undo: ExitStack) -> None:
        devices, state = self._cluster.devices, self._cluster.state
        effects, is_up = self._effects, self._cluster.clients.is_up(client)
        used = state.positions(client)
        seen: Rights = "ro" if effects.read_only else rights
        linked = effects.link_delay_s == 0 and not effects.wrong_link_s
        position = devices.attach(volume, client, seen, used, linked=linked, absent=not is_up)
        undo.callback(devices.discard, volume.gid, client)
        state.attach(Attachment(volume.gid, client, rights, position))
        self.outcome.attached.append((volume, client))
