# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""libvirt's event loop: events, keepalive and close callbacks of every connection come from its thread.

libvirt has one loop for the whole process and must be told of it before the first connection is opened.
"""

import threading
from typing import Any

import libvirt
import structlog

from storpool_agent import liveness

JOIN_TIMEOUT_S = 5.0  # a callback that is running only enqueues
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_guard = threading.Lock()
_users = 0
_registered = False
_turning: "_Turning | None" = None


def use() -> None:
    """Have the loop run until `release`. The first user starts the thread."""
    global _users, _registered, _turning  # noqa: PLW0603 - libvirt's loop is global itself
    with _guard:
        if not _registered:
            libvirt.registerErrorHandler(_silent, None)
            libvirt.virEventRegisterDefaultImpl()
            _registered = True
        _users += 1
        if _turning is None:
            _turning = _Turning()
            _turning.start()


def release() -> None:
    """The last user ends the thread."""
    global _users, _turning  # noqa: PLW0603
    with _guard:
        _users -= 1
        if _users or _turning is None:
            return
        ended, _turning = _turning, None
    ended.end()


class _Turning(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="libvirt/events", daemon=True)
        self._ending = False

    def run(self) -> None:
        with liveness.registry.loop(self.name) as loop:

            def show_life(_timer: int, _opaque: Any) -> None:
                loop.turns()

            timer = libvirt.virEventAddTimeout(int(liveness.BEAT_S * 1000), show_life, None)
            while not self._ending:
                libvirt.virEventRunDefaultImpl()
            libvirt.virEventRemoveTimeout(timer)

    def end(self) -> None:
        """A timeout that is due at once is what makes the loop look at anything."""
        timer: list[int] = []

        def leave(number: int, _opaque: Any) -> None:
            libvirt.virEventRemoveTimeout(number)
            self._ending = True

        timer.append(libvirt.virEventAddTimeout(0, leave, None))
        self.join(JOIN_TIMEOUT_S)
        if self.is_alive():
            log.error("libvirt event loop stuck", waited_s=JOIN_TIMEOUT_S)


def _silent(_context: Any, _error: Any) -> None:
    """libvirt prints each error to stderr unless somebody takes it; here they all come back as exceptions."""
