# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which loops of the agent still turn. Each shows it in its own thread: a timer would go on while they hang.

A loop that waits is alive, however long it waits: for work, for the broker, for libvirt, for StorPool. Stuck is one
that has something to do and does not come round, and one whose thread has ended without having been asked to.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from storpool_agent.crash import hang_point

BEAT_S = 1.0
"""How often a loop shows that it turns which others drive (pika's, libvirt's): 0.1 % of a core for all of them."""
STUCK_S = 20.0
"""A turn that takes longer is no turn any more: the longest that is right is a commit to a slow disk, of seconds."""


@dataclass(frozen=True)
class Stuck:
    """A loop that should turn, and does not."""

    loop: str
    for_s: float
    reason: str


class Loop:
    """One loop's sign of life. For the loop's own thread, but for what the registry reads."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.thread = threading.current_thread()
        self._clock = clock
        self.seen_at = clock()
        self.is_turning = True
        self.working_since: float | None = None

    def turns(self) -> None:
        """It has something to do now, which takes moments."""
        self._sign(turning=True)
        hang_point(self.name)

    def waits(self) -> None:
        """Whatever is next may take as long as it likes: work to come, or an answer from outside."""
        self._sign(turning=False)

    def works(self) -> None:
        """As `waits`, for work that somebody else has asked for; it is told how long it takes."""
        self._sign(turning=False)
        self.working_since = self.seen_at

    def _sign(self, *, turning: bool) -> None:
        self.seen_at = self._clock()
        self.is_turning = turning
        self.working_since = None


class Registry:
    """All loops that run. Any thread may call any method."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._loops: list[Loop] = []
        self._probes: dict[str, Callable[[], float]] = {}
        self._resumed_at = float("-inf")

    @contextmanager
    def loop(self, name: str) -> Generator[Loop]:
        """Around the loop, in its thread. One that is left by an exception has ended without having been asked to."""
        loop = Loop(name, self._clock)
        with self._mutex:
            self._loops.append(loop)
        yield loop
        with self._mutex:
            self._loops.remove(loop)

    def watch(self, name: str, under_way_s: Callable[[], float]) -> None:
        """Of something that has no thread of its own: for how long it has been at what takes moments, 0 for not."""
        with self._mutex:
            self._probes[name] = under_way_s

    def resume(self) -> None:
        """The whole process stood still (SIGSTOP, a host that slept), and no loop could turn: all begin anew now."""
        self._resumed_at = self._clock()

    def stuck(self, limit_s: float = STUCK_S) -> list[Stuck]:
        """Empty is good."""
        now = self._clock()
        found: list[Stuck] = []
        for loop in self._all():
            for_s = now - max(loop.seen_at, self._resumed_at)
            if not loop.thread.is_alive():
                found.append(Stuck(loop.name, for_s, "its thread has ended"))
            elif loop.is_turning and for_s > limit_s:
                found.append(Stuck(loop.name, for_s, "it does not come round"))
        for name, for_s in self._under_way().items():
            if min(for_s, now - self._resumed_at) > limit_s:
                found.append(Stuck(name, for_s, "it does not come to an end"))
        return found

    def busy(self, limit_s: float) -> dict[str, float]:
        """Workers whose present work has taken longer than that, and how long. They are alive all the same."""
        now = self._clock()
        since = {loop.name: loop.working_since for loop in self._all()}
        return {name: now - at for name, at in since.items() if at is not None and now - at > limit_s}

    def names(self) -> list[str]:
        """All that is watched."""
        return sorted({*(loop.name for loop in self._all()), *self._under_way()})

    def _all(self) -> list[Loop]:
        with self._mutex:
            return list(self._loops)

    def _under_way(self) -> dict[str, float]:
        with self._mutex:
            probes = dict(self._probes)
        return {name: probe() for name, probe in probes.items()}


registry = Registry()
"""Of this process: its threads are the process's, too."""
