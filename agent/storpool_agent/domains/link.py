# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The connection that is kept: for events, and for questions that libvirtd answers without asking a machine."""

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeVar

import libvirt
import structlog

from storpool_agent import liveness, metrics
from storpool_agent.deadline import Deadline
from storpool_agent.domains import event_loop
from storpool_agent.domains.news import JobEnd
from storpool_agent.domains.refusals import connection_lost, translated
from storpool_agent.errors import LibvirtTimeout, LibvirtUnavailable

T = TypeVar("T")

# A libvirtd that is silent this long is given up: 4 s x (3 + 1) = 16 s (libvirt's own default is 5 x 5 s).
KEEPALIVE_S = 4
KEEPALIVE_COUNT = 3
REOPEN_S = 0.25  # a refused open costs 0.2 ms; events are to be live soon after libvirtd is back
RESTART_PATIENCE_S = 2.0  # a restart of libvirtd takes about a second
ALIVE_CHECK_S = 5.0  # besides the close callback, which is what is relied on
JOIN_TIMEOUT_S = 5.0
_JOB_ENDS: dict[int, JobEnd] = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED: "failed",
    libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED: "cancelled",
}
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class News(Protocol):
    """Whom events are told. Called in libvirt's thread, so all of it must only enqueue."""

    def device_removed(self, uuid: str, alias: str) -> None: ...
    def removal_failed(self, uuid: str, alias: str) -> None: ...
    def block_job(self, uuid: str, target: str, end: JobEnd | None) -> None: ...
    def stopped(self, uuid: str) -> None: ...
    def connected(self) -> None: ...


class Link:
    """One thread opens it, waits until it is lost, and opens it again.

    `open` of a libvirtd that hangs does so for ever: then this one thread hangs, and nobody else.
    """

    def __init__(self, uri: str, news: News) -> None:
        self._uri = uri
        self._news = news
        self._changed = threading.Condition()
        self._live: libvirt.virConnect | None = None
        self._opening_since: float | None = None
        self._last_error = "not connected yet"
        self._closing = False
        self._lost = threading.Event()
        self._subscribed: list[int] = []  # the keeper's own
        self._keeper = threading.Thread(target=self._keep, name="libvirt/link", daemon=True)

    def start(self) -> None:
        event_loop.use()
        self._keeper.start()

    def stop(self) -> None:
        with self._changed:
            self._closing = True
            self._lost.set()
            self._changed.notify_all()
        self._keeper.join(JOIN_TIMEOUT_S)
        event_loop.release()

    @property
    def is_live(self) -> bool:
        return self._live is not None

    def ask(self, question: Callable[[libvirt.virConnect], T], deadline: Deadline) -> T:
        """What the question answers. It is asked once more when libvirtd was restarted meanwhile.

        The answer must hold no object of libvirt: those end with their connection.
        """
        connection = self._connection(deadline)
        try:
            return question(connection)
        except libvirt.libvirtError as error:
            failure = translated(error)
            if not connection_lost(error) or isinstance(failure, LibvirtTimeout):
                raise failure from error
            self._drop(connection)
        try:
            return question(self._connection(deadline))
        except libvirt.libvirtError as error:
            raise translated(error) from error

    def _connection(self, deadline: Deadline) -> libvirt.virConnect:
        with self._changed:
            patience_s = deadline.within(RESTART_PATIENCE_S).remaining_s
            self._changed.wait_for(lambda: self._live is not None or self._closing, patience_s)
            if self._live is not None:
                return self._live
            if self._opening_since is not None and monotonic() - self._opening_since >= patience_s:
                raise LibvirtTimeout("libvirtd accepts connections and does not answer them", uri=self._uri)
            raise LibvirtUnavailable(
                f"libvirt cannot be reached at {self._uri}: {self._last_error}; is libvirtd running?", uri=self._uri
            )

    def _keep(self) -> None:
        """It waits for libvirtd all the time."""
        with liveness.registry.loop("libvirt/link") as loop:
            loop.waits()
            while not self._closing:
                self._hold_one()

    def _hold_one(self) -> None:
        try:
            connection = self._open()
        except libvirt.libvirtError as error:
            self._note_failed_open(error)
            self._lost.wait(REOPEN_S)
            return
        self._news.connected()
        self._wait_until_lost(connection)
        self._drop(connection)
        self._close(connection)

    def _open(self) -> libvirt.virConnect:
        with self._changed:
            self._opening_since = monotonic()
            if not self._closing:
                self._lost.clear()
        connection = libvirt.open(self._uri)
        try:
            self._subscribe(connection)
        except libvirt.libvirtError:
            self._close(connection)
            raise
        with self._changed:
            self._opening_since = None
            self._live = connection
            self._changed.notify_all()
        metrics.libvirt_connected()
        log.info("libvirt connected", uri=self._uri)
        return connection

    def _subscribe(self, connection: libvirt.virConnect) -> None:
        connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        connection.registerCloseCallback(self._on_close, None)
        subscriptions: tuple[tuple[int, Callable[..., None]], ...] = (
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._on_removal_failed),
            (libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, self._on_block_job),
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
        )
        for event, callback in subscriptions:
            self._subscribed.append(connection.domainEventRegisterAny(None, event, callback, None))

    def _close(self, connection: libvirt.virConnect) -> None:
        """libvirt frees a connection, and its descriptor, only when nothing is registered on it any more."""
        last_words: list[Callable[[], int]] = [
            *(partial(connection.domainEventDeregisterAny, number) for number in self._subscribed),
            connection.unregisterCloseCallback,
            connection.close,
        ]
        self._subscribed.clear()
        for last_word in last_words:
            try:
                last_word()
            except libvirt.libvirtError as error:  # a connection that was lost refuses all of these, and does them
                log.debug("libvirt close", reason=str(error))

    def _note_failed_open(self, error: libvirt.libvirtError) -> None:
        text = error.get_error_message() or str(error)
        if text != self._last_error:
            log.warning("libvirt unreachable", uri=self._uri, reason=text)
        with self._changed:
            self._opening_since = None
            self._last_error = text

    def _wait_until_lost(self, connection: libvirt.virConnect) -> None:
        while not self._lost.wait(ALIVE_CHECK_S):
            if connection.isAlive() != 1:
                return

    def _drop(self, connection: libvirt.virConnect) -> None:
        with self._changed:
            if self._live is not connection:
                return
            self._live = None
            self._last_error = "the connection was lost"
        self._lost.set()
        if not self._closing:
            log.warning("libvirt lost", uri=self._uri)

    def _on_close(self, connection: libvirt.virConnect, _reason: int, _opaque: Any) -> None:
        self._drop(connection)

    def _on_removed(self, _connection: libvirt.virConnect, domain: libvirt.virDomain, alias: str, _: Any) -> None:
        self._news.device_removed(domain.UUIDString(), alias)

    def _on_removal_failed(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, alias: str, _: Any
    ) -> None:
        self._news.removal_failed(domain.UUIDString(), alias)

    def _on_block_job(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, target: str, _type: int, status: int, _: Any
    ) -> None:
        self._news.block_job(domain.UUIDString(), target, _JOB_ENDS.get(status))

    def _on_lifecycle(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, event: int, _detail: int, _: Any
    ) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._news.stopped(domain.UUIDString())
