# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host of fakes for copy jobs, its state told without ids, and a life that can end at each of its changes."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from fake_host import FakeHost
from fakes_domains import FakeMachine
from storpool_agent import dispatch
from storpool_agent.attempt import Attempt
from storpool_agent.domains.model import Disk, DiskInDomain, MirrorTarget
from storpool_agent.dry_run.attempt import DryAttempt
from storpool_agent.dry_run.host import dry
from storpool_agent.errors import (
    AgentError,
    JournalUnavailable,
    LibvirtTimeout,
    LibvirtUnavailable,
    SecondaryUnavailable,
    StorPoolTimeout,
    StorPoolUnavailable,
)
from storpool_agent.handlers import temporaries
from storpool_agent.host import Host
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.locks import HeldTurns, Locks
from storpool_agent.storpool.model import Volume
from storpool_agent.task import Task
from storpool_commands.catalogue import Command
from storpool_commands.copies import MigrateVolume
from storpool_commands.disks import AttachDisk
from storpool_commands.envelope import Failure, Request, Success
from storpool_commands.errors import ErrorCode
from storpool_commands.images import ImageSource, StoredImage
from storpool_commands.labels import OPERATION, WRITING

CONTENTS = b"customer's data " * 192
SIZE = len(CONTENTS)
STORE = "file:///srv/secondary"
TARGET = StoredImage(store=STORE, path="deep/er/disk.img")
FILE = StoredImage(store=STORE, path="images/there.img")
SOURCE = ImageSource(store=STORE, path=FILE.path, format="raw")
URL = "https://example.net/image.raw"
ID = re.compile(r"d\.n\.a\d+")


class Killed(BaseException):
    """The agent died here."""


How = Literal["killed", "refused", "lost"]

_CHANGES: Mapping[str, tuple[type[AgentError], type[AgentError]]] = {
    **dict.fromkeys(
        ("attach", "detach", "create_volume", "update_volume", "delete_volume", "take_snapshot"),
        (StorPoolUnavailable, StorPoolTimeout),
    ),
    **dict.fromkeys(
        ("acquire", "create_part", "publish", "discard_part", "write_text", "remove"),
        (SecondaryUnavailable, SecondaryUnavailable),
    ),
    **dict.fromkeys(("copying", "pivot", "end_mirror"), (LibvirtUnavailable, LibvirtTimeout)),
    **dict.fromkeys(("add", "strike", "change", "give_away", "note"), (JournalUnavailable, JournalUnavailable)),
}
"""What changes anything, and what it raises when it is refused, and when only its answer is lost."""


@dataclass
class Life:
    """Of one run of the agent: with the `at`th change something happens to it."""

    at: int = 0
    how: How = "killed"
    changes: int = 0
    over: bool = False
    where: str = ""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        """A dead agent changes nothing, and sees nothing."""
        if self.over:
            raise Killed(self.where)
        if name not in _CHANGES:
            return function(*args, **settings)
        self.changes += 1
        if self.changes != self.at:
            return function(*args, **settings)
        self.where = name
        refused, lost = _CHANGES[name]
        if self.how == "refused":
            raise refused(name)
        function(*args, **settings)
        if self.how == "lost":
            raise lost(name)
        self.over = True
        raise Killed(name)


class Mortal:
    """Another object, as long as it lives."""

    def __init__(self, real: object, life: Life) -> None:
        self._real, self._life = real, life

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if name == "temporaries":
            return Mortal(value, self._life)
        return partial(self._life.call, name, value) if callable(value) else value


class Scene:
    """A host with something to copy, and what is to become of it."""

    def __init__(self, journal: Journal, directory: Path) -> None:
        self.fakes = FakeHost(journal, directory)
        self.journal = journal
        self.life = Life()
        self.request = Request(id=uuid4(), protocol=1, body=self._command())
        self.before: list[Any] = []

    storpool = property(lambda self: self.fakes.storpool)

    def prepare(self, make: Callable[["Scene"], Command]) -> "Scene":
        command = make(self)
        self.request = Request(id=uuid4(), protocol=1, body=command)
        self.journal.accept([Arrival(str(self.request.id), command.command, b"", None, None)])
        self.before = self.state()
        return self

    def _command(self) -> Command:
        return MigrateVolume(volume="~a.b.c", template="dev")

    # what there is

    def volume(self, *, snapshot: bool = False) -> Volume:
        made = self.fakes.storpool.add(SIZE, snapshot=snapshot)
        self.write(made.global_id, CONTENTS)
        return made

    def write(self, global_id: str, contents: bytes) -> None:
        Path(f"/proc/self/fd/{self.fakes.storpool.disk(global_id)}").write_bytes(contents)

    def file(self, contents: bytes = CONTENTS, place: StoredImage = FILE) -> Path:
        file = self.fakes.secondary.files(place.store) / place.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents)
        return file

    def machine(self, path: str | None = None, volume: Volume | None = None) -> FakeMachine:
        """A running machine with one disk."""
        machine = self.fakes.machine(persistent=True)
        if volume is not None:
            self.fakes.succeed(AttachDisk(vm=machine.uuid, volume=str(volume.reference)))
        if path is not None:
            disk = Disk(path, "s", "ua-s", "virtio", "rw", "none", "native", "unmap", live=True, config=True)
            machine.live["vda"] = machine.config["vda"] = disk
        machine.sizes["vda"] = SIZE
        self.fakes.domains.on_copy = self._mirrored
        return machine

    def at(self, place: StoredImage = TARGET) -> Path:
        """Where a file of a store is."""
        return self.fakes.secondary.files(place.store) / place.path

    def meanwhile(self, call: str, do: Callable[[], object]) -> None:
        """Have something happen when this tool for images is called for the first time."""
        real = getattr(self.fakes.images, call)

        def called(*args: Any, **settings: Any) -> Any:
            setattr(self.fakes.images, call, real)
            do()
            return real(*args, **settings)

        setattr(self.fakes.images, call, called)

    # what is done

    def run(self, life: Life | None = None, attempt: int = 1) -> Success | Failure:
        """As the agent would, in a life of its own."""
        return dispatch.execute(self.request, *self._alive(life or Life(), attempt))

    def clean_up(self, attempt: int = 2) -> None:
        """As the agent would for a request that is not run again."""
        dispatch.clean_up(self.request, *self._alive(Life(), attempt))

    def cancel(self) -> None:
        """The run that is under way."""
        self.attempt.cancel()

    def plan(self) -> Success | Failure:
        """As a dry run."""
        request = self.request.model_copy(update={"dry_run": True})
        return dispatch.execute(request, dry(self.fakes.host), DryAttempt(request, self.journal, 1))

    def fail(self, code: ErrorCode, side_effects: str = "none") -> Failure:
        """Run it; when it says that it has left nothing, nothing is left."""
        reply = self.run()
        assert isinstance(reply, Failure), reply
        assert (reply.code, reply.side_effects) == (code, side_effects), reply
        if side_effects == "none":
            assert self.state() == self.before
        return reply

    def succeed(self) -> Any:
        """Run it; nothing temporary is left."""
        reply = self.run()
        assert isinstance(reply, Success), reply
        assert self.journal.temporaries.of(str(self.request.id)) == []
        assert self.fakes.secondary.acquired == {}
        assert not any(WRITING in each.tags for each in self.fakes.storpool.volumes.values())
        return reply.result

    def sweep(self) -> None:
        """What is left when the request has its reply is taken away."""
        self.journal.finish(str(self.request.id), b"")
        for one in self.journal.temporaries.left():
            temporaries.take_away(one, self.fakes.host, self.journal.temporaries, HeldTurns(Locks(), []))

    def die(self) -> None:
        """What the kernel and a new start do to what a dead agent had."""
        for key in list(self.fakes.secondary._begun):
            self.fakes.secondary._close(*key)
        self.fakes.secondary.acquired.clear()
        self.fakes.pools.own = self.fakes.storpool

    def _alive(self, life: Life, attempt: int) -> tuple[Host, Attempt]:
        self.life = life
        fakes = self.fakes
        storpool: Any = Mortal(fakes.storpool, life)
        fakes.pools.own = storpool
        parts: Any = (Mortal(each, life) for each in (fakes.devices, fakes.domains, fakes.images, fakes.secondary))
        devices, domains, images, secondary = parts
        journal: Any = Mortal(self.journal, life)
        host = Host("kvm1", storpool, devices, domains, fakes.pools, images, secondary, fakes.keys)
        self.attempt = Attempt(self.request, journal, attempt, HeldTurns(Locks(), []))
        return host, self.attempt

    def _mirrored(self, disk: DiskInDomain, target: MirrorTarget, task: Task) -> None:
        self.life.call("copying", task.interrupt.check)
        self._at(target.path).write_bytes(self._at(disk.path).read_bytes())

    def _at(self, path: str) -> Path:
        """The file behind a path that a machine uses."""
        if ID.search(path):
            return Path(f"/proc/self/fd/{self.fakes.storpool.disk(path.rpartition('/')[2])}")
        return Path(path)

    # what has become of it

    def state(self) -> list[Any]:
        """All that anybody can see, without ids."""
        own = {rows.target for rows in self.journal.temporaries.of(str(self.request.id))}
        return [
            sorted(self._described(each) for each in self.fakes.storpool.volumes.values()),
            sorted((self._contents(one.global_id), one.mode) for one in self.fakes.storpool.attached.values()),
            sorted((self._use(machine.live), self._use(machine.config)) for machine in self._machines()),
            [sorted(machine.mirrors) for machine in self._machines()],
            self._files(),
            sorted(own),
            dict(self.fakes.secondary.acquired),
        ]

    def _machines(self) -> list[FakeMachine]:
        return list(self.fakes.domains.machines.values())

    def _described(self, volume: Volume) -> tuple[Any, ...]:
        tags = {name: value for name, value in volume.tags.items() if name not in (OPERATION, WRITING)}
        name = "" if volume.name.startswith("~") else volume.name
        settings = (volume.snapshot, volume.size_bytes, volume.template, name, WRITING in volume.tags)
        machine = {machine.uuid: machine.name for machine in self._machines()}
        told = sorted((name, machine.get(value, value)) for name, value in tags.items())
        return (*settings, str(told), self._contents(volume.global_id))

    def contents(self, global_id: str) -> bytes:
        return self.fakes.storpool.disks[global_id].read()

    def _contents(self, global_id: str) -> str:
        return hashlib.sha256(self.contents(global_id)).hexdigest()[:8]

    def _use(self, disks: Mapping[str, Disk]) -> list[tuple[str, str, str]]:
        """Where each disk is, and that what it is on is there."""
        root = str(self.fakes.directory)
        return [
            (
                target,
                ID.sub("", disk.path.replace(root, "")),
                hashlib.sha256(self._at(disk.path).read_bytes()).hexdigest(),
            )
            for target, disk in disks.items()
        ]

    def _files(self) -> dict[str, str]:
        root = self.fakes.secondary.files(STORE)
        files = (each for each in root.rglob("*") if each.is_file())
        return {str(each.relative_to(root)): hashlib.sha256(each.read_bytes()).hexdigest()[:8] for each in files}


def result(reply: Success | Failure, scene: Scene) -> str:
    """Without ids and directories, and without how often it was tried."""
    assert isinstance(reply, Success), reply
    text = reply.result.model_dump_json()
    for own in (str(reply.id), str(scene.fakes.directory), *scene.fakes.domains.machines):
        text = text.replace(own, "its")
    return re.sub(r'"copies":\d+', "", ID.sub("ID", text))
