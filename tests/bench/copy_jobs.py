# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whole copy jobs, from the command that is published to the reply that arrives, on the same devices as their peers.

The peers are given a device that is attached, and are qemu-img with the best flags; and that followed by what the agent
does as well: reading both sides again and comparing them (`qemu-img compare`, past the page cache).
"""

import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from agent_process import Stack, running_stack
from bench.copy_stage import Stage, drop_caches, tool
from bench.figures import Figure, Goal, compared
from bench.process import cpu_s
from bench.rounds import interleaved
from storpool_commands.copies import BackupSnapshot, DownloadVolume
from storpool_commands.images import ImageFormat, ImageSource, StoredImage
from storpool_commands.snapshots import TakeSnapshot
from storpool_commands.volumes import DeleteVolume

CALL_TIMEOUT_S = 600.0
VERIFIED = Goal("<=", 1.0)
DIRECT = ("-T", "none", "-t", "none")


@dataclass(frozen=True)
class Scene:
    """An agent, its StorPool, the sources, and a directory for what comes out."""

    stack: Stack
    stage: Stage
    directory: Path
    snapshot: str

    @property
    def store(self) -> str:
        return f"file://{self.directory}"

    @property
    def target(self) -> Path:
        return self.directory / "target"


def figures(rounds: int, size_bytes: int) -> list[Figure]:
    with _scene(size_bytes) as scene:
        return [
            *_compared("raw file to volume", scene, rounds, partial(_Download, scene, "raw")),
            *_compared("qcow2 file to volume", scene, rounds, partial(_Download, scene, "qcow2")),
            *_compared("snapshot to qcow2 file", scene, rounds, partial(_Backup, scene, "qcow2")),
            *_compared("snapshot to raw file", scene, rounds, partial(_Backup, scene, "raw")),
        ]


def _compared(name: str, scene: Scene, rounds: int, job: Callable[[], "_Download | _Backup"]) -> list[Figure]:
    contenders: dict[str, Callable[[], tuple[float, float]]] = {
        "job": lambda: _timed(job().by_agent, scene),
        "copy": lambda: _timed(partial(job().by_qemu_img, verify=False), scene),
        "verified": lambda: _timed(partial(job().by_qemu_img, verify=True), scene),
    }
    costs = interleaved(contenders, rounds, warm_up=False)
    wall = {contender: [cost[0] for cost in each] for contender, each in costs.items()}
    cpu = {contender: [cost[1] for cost in each] for contender, each in costs.items()}
    part = f"job: {name}"
    return [
        compared(part, "time, verified", "s", wall["job"], wall["verified"], "qemu-img, then compare", VERIFIED),
        compared(part, "time, verified", "s", wall["job"], wall["copy"], "qemu-img, not verified"),
        compared(part, "CPU of agent and children", "s", cpu["job"], cpu["verified"], "qemu-img, then compare"),
    ]


Measured = Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True)
class _Download:
    scene: Scene
    format: ImageFormat

    def by_agent(self, measured: Measured) -> None:
        source = self.scene.stage.sources["file" if self.format == "raw" else "qcow2"]
        image = ImageSource(store=self.scene.store, path=Path(source.path).name, format=self.format)
        command = DownloadVolume(source=image, template="dev", io_priority="normal")
        made = measured(lambda: self.scene.stack.call(command, timeout_s=CALL_TIMEOUT_S))
        self.scene.stack.call(DeleteVolume(volume=f"~{made.global_id}"))

    def by_qemu_img(self, measured: Measured, *, verify: bool) -> None:
        source = self.scene.stage.sources["file" if self.format == "raw" else "qcow2"]
        storpool = self.scene.stack.storpool
        volume = storpool.create(self.scene.stage.size_bytes, template="dev")
        storpool.attach(volume)
        node = str(self.scene.stack.link(volume).resolve())
        flags = ("-n", "-W", *DIRECT, "--target-is-zero")
        copy = ("qemu-img", "convert", *flags, "-f", source.format, "-O", "raw", source.path, node)
        measured(lambda: _run(copy, (source.path, source.format), (node, "raw"), verify=verify))
        storpool.detach(volume)
        storpool.call("POST", f"VolumeDelete/~{volume}")


@dataclass(frozen=True)
class _Backup:
    scene: Scene
    format: ImageFormat

    def by_agent(self, measured: Measured) -> None:
        target = StoredImage(store=self.scene.store, path=self.scene.target.name)
        command = BackupSnapshot(snapshot=self.scene.snapshot, target=target, format=self.format, io_priority="normal")
        measured(lambda: self.scene.stack.call(command, timeout_s=CALL_TIMEOUT_S))
        self.scene.target.unlink()

    def by_qemu_img(self, measured: Measured, *, verify: bool) -> None:
        storpool, target = self.scene.stack.storpool, str(self.scene.target)
        storpool.reassign({"snapshot": self.scene.snapshot, "ro": [1]})
        node = str(self.scene.stack.link(self.scene.snapshot).resolve())
        order = ("-W",) if self.format == "raw" else ()
        copy = ("qemu-img", "convert", *order, *DIRECT, "-f", "raw", "-O", self.format, node, target)
        measured(lambda: _run(copy, (node, "raw"), (target, self.format), verify=verify))
        storpool.reassign({"snapshot": self.scene.snapshot, "detach": [1]})
        self.scene.target.unlink()


def _run(copy: tuple[str, ...], source: tuple[str, str], target: tuple[str, str], *, verify: bool) -> None:
    tool(*copy)
    if verify:
        tool("qemu-img", "compare", "-T", "none", "-f", source[1], "-F", target[1], source[0], target[0])


def _timed(run: Callable[[Measured], None], scene: Scene) -> tuple[float, float]:
    """Wall and CPU seconds of what is measured: of this process's children, and of the agent with its own."""
    cost = (0.0, 0.0)

    def measured(work: Callable[[], Any]) -> Any:
        nonlocal cost
        drop_caches()
        cpu, started = _cpu_s(scene), perf_counter()
        result = work()
        cost = (perf_counter() - started, _cpu_s(scene) - cpu)
        return result

    run(measured)
    return cost


def _cpu_s(scene: Scene) -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime + cpu_s(scene.stack.agent.pid, children=True)


@contextmanager
def _scene(size_bytes: int) -> Generator[Scene]:
    with TemporaryDirectory(prefix="spagent-bench-") as name:
        directory = Path(name)
        stage = Stage(directory, size_bytes)
        secondary = {"directories": [name], "mount_dir": str(directory / "mounts")}
        with running_stack(secondary=secondary, log={"level": "info"}) as stack:
            source = ImageSource(store=f"file://{directory}", path="source.raw", format="raw")
            made = stack.call(DownloadVolume(source=source, template="dev"), timeout_s=CALL_TIMEOUT_S)
            taken = stack.call(TakeSnapshot(volume=f"~{made.global_id}"))
            yield Scene(stack, stage, directory, f"~{taken.global_id}")
