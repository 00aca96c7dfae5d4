# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls that may have to wait for QEMU, and whose turn it is on each machine.

libvirtd works on five calls of a connection at a time and reads nothing more from it meanwhile, not even the
answers to its keepalive; a QEMU that hangs keeps a call for ever. So each of these calls has a connection and a
thread of its own, and the caller leaves at its deadline.
"""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import TypeVar
from weakref import WeakValueDictionary

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains.lines import Lines
from storpool_agent.domains.refusals import connection_lost, translated
from storpool_agent.errors import LibvirtTimeout, LibvirtUnavailable, VmBusy

T = TypeVar("T")
Call = Callable[[libvirt.virDomain], T]

CALL_TIMEOUT_S = 18.0  # above the keepalive (16 s), which ends the call itself when libvirtd hangs


class DomainCalls:
    """May be used from any thread. A call that is given up leaves its thread behind until libvirt returns: at
    most one for each machine, which takes no other call meanwhile."""

    def __init__(self, uri: str) -> None:
        self._lines = Lines(uri)
        self._guard = threading.Lock()
        self._turns: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()
        self._under_way: set[str] = set()

    def close(self) -> None:
        self._lines.close()

    @contextmanager
    def turn(self, of: str, deadline: Deadline) -> Generator[None]:
        """One operation at a time on each machine (a UUID), and one plug of each device (a path)."""
        with self._guard:
            turn = self._turns.setdefault(of, threading.RLock())
        if not turn.acquire(timeout=deadline.remaining_s):
            raise VmBusy(f"another operation of the agent on {of} takes too long", of=of)
        try:
            yield
        finally:
            turn.release()

    def make(self, uuid: str, call: Call[T], deadline: Deadline) -> T:
        """What the call returns; its libvirtError comes through. Make it in one's turn only.

        LibvirtTimeout also when the connection broke: the call was sent, and may have been carried out or not.
        """
        if deadline.passed:
            raise LibvirtUnavailable("no time was left to call libvirt; it was not called", vm=uuid)
        self._enter(uuid)
        outcome: Future[T] = Future()
        name = f"libvirt/{uuid[:8]}"
        threading.Thread(target=self._run, args=(uuid, call, outcome), name=name, daemon=True).start()
        try:
            return outcome.result(deadline.within(CALL_TIMEOUT_S).remaining_s)
        except TimeoutError as late:
            sent = "was sent, and may be carried out yet" if not outcome.cancel() else "was not sent"
            raise LibvirtTimeout(f"libvirt has not answered in time; the call {sent}", vm=uuid) from late

    def _run(self, uuid: str, call: Call[T], outcome: "Future[T]") -> None:
        try:
            result = self._called(uuid, call, outcome)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread, if it is still there
            self._leave(uuid)
            with suppress(InvalidStateError):
                outcome.set_exception(error)
        else:
            self._leave(uuid)
            outcome.set_result(result)

    def _called(self, uuid: str, call: Call[T], outcome: "Future[T]") -> T:
        try:
            connection, machine = self._lines.take(uuid)
        except libvirt.libvirtError as error:
            raise translated(error, vm=uuid) from error
        try:
            if not outcome.set_running_or_notify_cancel():
                raise CancelledError
            return call(machine)
        except libvirt.libvirtError as error:
            if connection_lost(error):
                raise LibvirtTimeout(f"the call was sent and its answer is lost: {error}", vm=uuid) from error
            raise
        finally:
            self._lines.put_back(connection)

    def _enter(self, uuid: str) -> None:
        with self._guard:
            if uuid in self._under_way:
                raise VmBusy("libvirt has not come back yet from an earlier call on this machine", vm=uuid)
            self._under_way.add(uuid)

    def _leave(self, uuid: str) -> None:
        with self._guard:
            self._under_way.discard(uuid)
