# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Sending a running machine to another host: libvirt's peer-to-peer migration, begun, watched, given up.

libvirtd does it by itself once it is told to, and goes on when this agent dies. What became of it is not read from
its answer, which may be lost, but from where the machine stands then: that is for the caller.

The machine arrives paused (`VIR_MIGRATE_PAUSED`), and whoever has seen that it is gone here resumes it. libvirt's own
way is to start it there and then to ask whether that went well; when that one answer is lost, libvirt starts it here
again (qemu_migration.c: "ddomain could in fact be running on the dest. The lock manager plugins should take care of
safety in this scenario"), and it runs on both hosts.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic

import libvirt
import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.domains import lines, qemu_process, whereabouts
from storpool_agent.domains.access import Access
from storpool_agent.domains.link import KEEPALIVE_COUNT, KEEPALIVE_S
from storpool_agent.domains.model import Passage, Presence
from storpool_agent.domains.peers import Peers
from storpool_agent.domains.qemu_process import QemuProcess
from storpool_agent.domains.refusals import connection_lost, text_of, translated
from storpool_agent.errors import AgentError, Cancelled, LibvirtTimeout, LibvirtUnavailable, VmBusy
from storpool_agent.migration_errors import DestinationUnreachable, MigrationFailed, MigrationUnsafe
from storpool_agent.task import Task

LOOK_S = 0.25
REACT_S = 0.02  # while a look is under way, which takes some 5 ms
CALL_S = 20.0  # above what a look takes at most
END_S = 30.0  # QEMU gives up a migration within moments; libvirtd may be on its way back
PATIENCE_S = 120.0  # an upgrade of libvirt takes its daemon away for some seconds, on a busy host for a minute
_OUT_OF_SIGHT = (LibvirtUnavailable, LibvirtTimeout, VmBusy)
_MIB = 1 << 20
_OF_THE_MACHINE = (
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
    libvirt.VIR_ERR_BLOCK_COPY_ACTIVE,
)
_ALWAYS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PAUSED
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
)
_PERSISTENT = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass
class Departing:
    """One machine to one host. Used once, by one thread."""

    uri: str
    """Of this host's libvirt."""
    access: Access
    peers: Peers
    passage: Passage
    begun: Callable[[], None]
    """Called once it is certainly under way."""
    _seen_at: float = field(default_factory=monotonic)
    _line_lost: bool = False
    """The call broke off: what became of it is to be seen."""
    _under_way: bool = False
    _far: tuple[int, int] = (0, 0)
    _told: bool = False
    _limited: bool = False

    def run(self, task: Task, deadline: Deadline) -> bool:
        """Until no migration of it is under way. `deadline` is for the beginning. Raises what made it fail.

        True: its QEMU has ended here, and libvirt may need a while to say so.
        """
        with qemu_process.of(self.passage.vm) as qemu:
            return self._run(task, qemu, deadline)

    def _run(self, task: Task, qemu: QemuProcess, deadline: Deadline) -> bool:
        under_way = self._look(deadline).standing == "leaving"
        if under_way:
            log.info("migration found", vm=self.passage.vm, destination=self.passage.peer)
        else:
            task.interrupt.check()
        call = None if under_way else self._begin()
        try:
            self._wait(call, task, qemu)
        except AgentError as error:
            if isinstance(error, _OUT_OF_SIGHT):
                raise
            self._give_up(call, error)
            raise
        except Exception as error:
            self._give_up(call, error)
            raise
        return qemu.has_ended

    # one look after the other

    def _wait(self, call: "Future[None] | None", task: Task, qemu: QemuProcess) -> None:
        """Until a look says that it is over, or its QEMU has ended: libvirt answers nothing while it cleans up."""
        looking: Future[bool] | None = None
        while not qemu.has_ended:
            if looking is None:
                looking = self._begin_to_look(call)
            if looking.done():
                self._pass_on(task)
                if looking.result():
                    return
                looking = None
            pause_s = LOOK_S if looking is None else REACT_S
            qemu.wait(task.interrupt.fileno(), task.interrupt.within(pause_s))
            task.interrupt.check()

    def _begin_to_look(self, call: "Future[None] | None") -> "Future[bool]":
        """In a thread of its own, which hangs as long as libvirt does."""
        looking: Future[bool] = Future()

        def look() -> None:
            try:
                looking.set_result(self._is_over(call))
            except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
                looking.set_exception(error)

        threading.Thread(target=look, name=f"look/{self.passage.vm[:8]}", daemon=True).start()
        return looking

    def _is_over(self, call: "Future[None] | None") -> bool:
        if call is not None and call.done() and not self._line_lost:
            self._raise_refusal(call)
            return True
        try:
            seen = self._look(Deadline.after(CALL_S))
            if seen.standing == "leaving":
                self._note()
        except _OUT_OF_SIGHT as error:
            return self._endure(error)
        self._seen_at = monotonic()
        if seen.standing == "leaving" or (call is not None and not call.done()):
            return False
        if call is not None:
            self._raise_refusal(call)
        return True

    def _note(self) -> None:
        self._under_way = True
        if not self._limited and self.passage.downtime_limit_ms is not None:
            self._limited = True
            limit = self.passage.downtime_limit_ms
            self._call(lambda vm: vm.migrateSetMaxDowntime(limit, 0))
        self._far = self._call(_progress)

    def _pass_on(self, task: Task) -> None:
        """What a look has seen, in the thread of who waits."""
        if self._under_way and not self._told:
            self._told = True
            self.begun()
        done, total = self._far
        if total:
            task.report(done, total)

    def _endure(self, error: AgentError) -> bool:
        """libvirtd is away, or works on something else of the machine: the next look will tell."""
        if monotonic() - self._seen_at >= PATIENCE_S:
            raise type(error)(
                f"{error}; the migration of {self.passage.name} may be under way, unwatched: libvirt has said nothing "
                f"of it for {PATIENCE_S:.0f} s",
                **error.facts,
            ) from error
        return False

    def _look(self, deadline: Deadline) -> Presence:
        return whereabouts.here(self.access, self.passage.vm, deadline)

    def _call(self, call: Callable[[libvirt.virDomain], "tuple[int, int] | int"]) -> tuple[int, int]:
        deadline = Deadline.after(CALL_S)
        with self.access.calls.turn(self.passage.vm, deadline):
            answer = self.access.call(self.passage.vm, call, deadline)
        return answer if isinstance(answer, tuple) else (0, 0)

    # its beginning

    def _begin(self) -> "Future[None]":
        """In a thread of its own, which is in the call for as long as the migration takes."""
        call: Future[None] = Future()
        host = self.passage.peer
        arguments = (self.peers.uri(host), self._parameters(host), self._flags())
        name = f"migrate/{self.passage.vm[:8]}"
        threading.Thread(target=self._move, args=(call, *arguments), name=name, daemon=True).start()
        return call

    def _move(self, call: "Future[None]", uri: str, parameters: dict[str, str | int], flags: int) -> None:
        try:
            connection = _opened(self.uri)
            try:
                connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
                connection.lookupByUUIDString(self.passage.vm).migrateToURI3(uri, parameters, flags)
            finally:
                self._line_lost = connection.isAlive() != 1
                lines.close(connection)
        except Exception as error:  # noqa: BLE001 - told by `_raise_refusal`
            call.set_exception(error)
        else:
            call.set_result(None)

    def _parameters(self, host: str) -> dict[str, str | int]:
        parameters: dict[str, str | int] = {}
        if (address := self.peers.address(host)) is not None:
            parameters[libvirt.VIR_MIGRATE_PARAM_URI] = address
        if (name := self.peers.certified_name(host)) is not None:
            parameters[libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION] = name
        if self.passage.bandwidth_bytes_s is not None:
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = max(1, self.passage.bandwidth_bytes_s // _MIB)
        return parameters

    def _flags(self) -> int:
        flags = _ALWAYS | (_PERSISTENT if self.passage.persistent else 0)
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE if self.passage.auto_converge else 0
        return flags | (libvirt.VIR_MIGRATE_TLS if self.peers.tls else 0)

    def _raise_refusal(self, call: "Future[None]") -> None:
        error = call.exception()
        if error is None:
            return
        if isinstance(error, libvirt.libvirtError):
            if self._line_lost:
                raise translated(error, vm=self.passage.vm) from error
            raise refusal_of(error, self.passage) from error
        raise error

    # its end before time

    def _give_up(self, call: "Future[None] | None", reason: Exception) -> None:
        """Have libvirt end it, and wait until it has: the machine is then here, or there."""
        deadline = Deadline.after(END_S)
        if call is not None and call.done() and not self._line_lost:
            return
        pause = threading.Event()
        while True:
            try:
                if self._look(deadline).standing == "leaving":
                    self._call(lambda vm: vm.abortJob())
                if self._is_over(call):
                    return
            except _OUT_OF_SIGHT as error:
                log.debug("migration still seen", vm=self.passage.vm, reason=str(error))
            except AgentError as error:  # there is nothing to end any more, or the call says why it ended
                log.debug("migration call ended", vm=self.passage.vm, reason=str(error))
                if call is None or call.done():
                    return
            if deadline.passed:
                raise LibvirtTimeout(
                    f"{reason}; and the migration of {self.passage.name} could not be ended, it may be under way",
                    vm=self.passage.vm,
                ) from reason
            pause.wait(LOOK_S)


def refusal_of(error: libvirt.libvirtError, passage: Passage) -> AgentError:
    """Why libvirt did not send it, or did not say that it has."""
    text, facts = text_of(error), {"vm": passage.vm, "destination": passage.peer}
    if error.get_error_code() == libvirt.VIR_ERR_MIGRATE_UNSAFE:
        return MigrationUnsafe(f"libvirt: {text}; a disk that several hosts see needs cache='none'", **facts)
    if error.get_error_code() == libvirt.VIR_ERR_OPERATION_ABORTED:
        return Cancelled(f"the migration of {passage.name} was ended: {text}", **facts)
    if error.get_error_code() in _OF_THE_MACHINE or "domain is not running" in text or "block job" in text:
        return translated(error, **facts)
    if connection_lost(error):  # not this agent's, but libvirtd's own to the other
        return DestinationUnreachable(f"libvirt: {text}", **facts)
    return MigrationFailed(
        f"libvirt did not move {passage.name} to {passage.peer}: {text}",
        **facts,
        number=error.get_error_code(),
    )


def _opened(uri: str) -> libvirt.virConnect:
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:  # nothing was asked of it
        raise translated(error) from error


def _progress(vm: libvirt.virDomain) -> tuple[int, int]:
    """Bytes sent, and in all: what the guest writes meanwhile comes to both."""
    stats = vm.jobStats()
    done = stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PROCESSED, 0)
    return done, done + stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_REMAINING, 0)
