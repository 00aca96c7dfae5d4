# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Somebody who begins a copy and looks at it, so that who waits for it can leave at any time.

A call of libvirt may hang as long as QEMU does. Here it hangs in a thread of its own.
"""

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from storpool_agent.domains.copy_job import Look
from storpool_agent.domains.mirror_xml import Stage
from storpool_agent.domains.news import Waiter
from storpool_agent.errors import AgentError, LibvirtTimeout, LibvirtUnavailable, VmBusy

LOOK_AGAIN_S = 1.0  # for progress, and for events that came while libvirtd was down
READY_LOOK_AGAIN_S = 0.1  # a guest that writes has the two differ at some moments, and be the same at others
LEAVE_S = 0.1  # a look takes some 5 ms
_OUT_OF_SIGHT = (LibvirtUnavailable, LibvirtTimeout, VmBusy)


class Lookout:
    """Runs as long as its `with` block, or until the call that it hangs in comes back."""

    def __init__(self, begin: Callable[["Lookout"], None], look: Callable[[], Look], waiter: Waiter) -> None:
        self._begin = begin
        self._look = look
        self._waiter = waiter
        self._guard = threading.Lock()
        self._ended = False
        self._begun = False
        self._failure: Exception | None = None
        self._latest: tuple[float, Look | AgentError] | None = None
        self._thread = threading.Thread(target=self._run, name=f"copy/{waiter.uuid[:8]}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        self._thread.join(LEAVE_S)

    def commit(self) -> None:
        """To be called by `begin` before it begins for good. Raises when nobody waits for it any more."""
        with self._guard:
            if self._ended:
                raise VmBusy("nobody waits for this copy any more; it was not begun", vm=self._waiter.uuid)
            self._begun = True

    def leave(self) -> bool:
        """Wait no longer. Whether it was begun, or is being begun: if not, it never will be."""
        with self._guard:
            self._ended = True
            self._waiter.wake()
            return self._begun

    def latest(self) -> tuple[float, Look | AgentError] | None:
        """When it was last looked, on the monotonic clock, and what was seen, or why nothing was. None until then.

        Raises what the beginning raised, and what a look raised unless libvirt may tell later.
        """
        if self._failure is not None:
            raise self._failure
        return self._latest

    def _run(self) -> None:
        try:
            self._begin(self)
            while not self._ended:
                seen = self._seen()
                self._latest = monotonic(), seen
                soon = isinstance(seen, Look) and seen.stage in (Stage.READY, Stage.SETTLING)
                self._waiter.wait(READY_LOOK_AGAIN_S if soon else LOOK_AGAIN_S)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error

    def _seen(self) -> Look | AgentError:
        try:
            return self._look()
        except _OUT_OF_SIGHT as error:
            return error
