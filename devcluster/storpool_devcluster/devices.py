# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The devices of all attachments: which node and links each has on its client.

What a call returns has happened: after an attach the link exists, after a detach the link and the node are gone
([I] for StorPool; the loop device itself follows some milliseconds later).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from storpool_devcluster import answers, roots
from storpool_devcluster.exports import Export, ExportMaker
from storpool_devcluster.records import Attachment, Rights, Volume
from storpool_devcluster.roots import DeviceRoot

POSITIONS = 1024  # attachments a client can have


@dataclass
class Placed:
    """The device of one attachment. Touched only by the one change that runs."""

    export: Export
    node: Path
    links: set[Path] = field(default_factory=set[Path])
    decoy: Path | None = None
    """What the links lead to while a fault rule has them lead to the wrong device."""


class Devices:
    """Without a root a client has no devices: its attachments are bookkeeping."""

    def __init__(self, client_roots: dict[int, DeviceRoot], maker: ExportMaker | None) -> None:
        self._roots = client_roots if maker is not None else {}
        self._maker = maker
        self._placed: dict[tuple[str, int], Placed] = {}

    def attach(
        self,
        volume: Volume,
        client: int,
        rights: Rights,
        used: set[int],
        *,
        prefer: int = 0,
        linked: bool = True,
        absent: bool = False,
    ) -> int:
        """Make device, node and links; answers the position.

        `linked=False` leaves the links to `link`; an absent client gets a position only.
        """
        root = None if absent else self._roots.get(client)
        free = _free_positions(used, prefer)
        if root is None or self._maker is None:
            return _first(free, client)
        with ExitStack() as undo:
            export = self._maker.make(volume, read_only=rights == "ro")
            undo.callback(_drop, export)
            position = _make_node(root, export, free, client)
            placed = Placed(export, root.node(position))
            undo.callback(placed.node.unlink)
            self._placed[volume.gid, client] = placed
            if linked:
                self.link(volume, client)
            undo.pop_all()
        return position

    def link(self, volume: Volume, client: int) -> None:
        """Make the links be those of the volume's present name."""
        placed = self._placed.get((volume.gid, client))
        if placed is None:
            return
        wanted = self._roots[client].links(volume.label, volume.gid)
        for path in wanted:
            roots.point(path, placed.node)
        for path in placed.links - wanted:
            roots.unlink(path, placed.node)
        placed.links = wanted
        _drop_decoy(placed)

    def link_wrongly(self, volume: Volume, client: int) -> None:
        """Let the links lead to a device without capacity, until they are made again."""
        placed = self._placed.get((volume.gid, client))
        if placed is not None and self._maker is not None:
            empty = self._maker.empty_node(placed.node.with_name(f"{placed.node.name}.empty"))
            placed.decoy = empty
            placed.links = self._roots[client].links(volume.label, volume.gid)
            for path in placed.links:
                roots.point(path, empty)

    def unlink(self, gid: str, client: int) -> None:
        placed = self._placed.get((gid, client))
        if placed is not None:
            _unlink(placed)

    def claim(self, attachment: Attachment, label: str, undo: ExitStack, *, force: bool) -> Callable[[], None]:
        """Begin to detach, or raise `busy`. The answer finishes it; `undo` takes it back."""
        key = (attachment.gid, attachment.client)
        placed = self._placed.get(key)
        if placed is None:
            return lambda: None
        if not placed.export.claim(force=force):
            raise answers.open_at(label, attachment.client)
        undo.callback(placed.export.restore)

        def finish() -> None:
            _unlink(placed)
            placed.node.unlink(missing_ok=True)
            del self._placed[key]
            placed.export.release()

        return finish

    def discard(self, gid: str, client: int) -> None:
        """Undo an attach that no client has heard of."""
        placed = self._placed.pop((gid, client), None)
        if placed is not None:
            _take_down(placed)

    def set_rights(self, attachment: Attachment, rights: Rights) -> None:
        placed = self._placed.get((attachment.gid, attachment.client))
        if placed is not None:
            placed.export.set_read_only(rights == "ro")

    def take_capacity(self, gid: str) -> None:
        for (placed_gid, _), placed in list(self._placed.items()):
            if placed_gid == gid:
                placed.export.take_capacity()

    def starve(self, gid: str, client: int) -> None:
        placed = self._placed.get((gid, client))
        if placed is not None:
            placed.export.starve()

    def placed(self, gid: str, client: int) -> Placed | None:
        return self._placed.get((gid, client))

    def describe(self, gid: str, client: int) -> dict[str, object]:
        placed = self._placed.get((gid, client))
        if placed is None:
            return {}
        links = sorted(str(path) for path in placed.links)
        return {"device": placed.export.describe(), "node": str(placed.node), "links": links}

    @property
    def removals(self) -> int:
        """How many devices are still on their way out."""
        return self._maker.removals if self._maker is not None else 0

    def remove_all(self) -> None:
        """Leave no node, link or device behind; those that are still open fail from now on."""
        for gid, client in list(self._placed):
            self.discard(gid, client)


def _unlink(placed: Placed) -> None:
    for path in placed.links:
        roots.unlink(path, placed.decoy or placed.node)
    _drop_decoy(placed)


def _drop_decoy(placed: Placed) -> None:
    if placed.decoy is not None:
        placed.decoy.unlink(missing_ok=True)
        placed.decoy = None


def _take_down(placed: Placed) -> None:
    _unlink(placed)
    placed.node.unlink(missing_ok=True)
    _drop(placed.export)


def _drop(export: Export) -> None:
    export.claim(force=True)
    export.release()


def _free_positions(used: set[int], prefer: int) -> Iterator[int]:
    if prefer not in used:
        yield prefer
    yield from (position for position in range(POSITIONS) if position not in used and position != prefer)


def _make_node(root: DeviceRoot, export: Export, positions: Iterator[int], client: int) -> int:
    """At the first free position whose name nobody else uses in this directory."""
    for position in positions:
        with suppress(FileExistsError):
            export.make_node(root.node(position))
            return position
    raise _no_position(client)


def _first(positions: Iterator[int], client: int) -> int:
    for position in positions:
        return position
    raise _no_position(client)


def _no_position(client: int) -> answers.ApiFailure:
    return answers.invalid(f"No free attachment slot at client {client}")
