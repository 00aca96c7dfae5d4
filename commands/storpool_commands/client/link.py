# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One connection to the broker, kept up in a thread of its own."""

# pyright: reportUnknownMemberType=false
# Reason: the decorated methods of pika have no types.

import itertools
import logging
import random
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread, current_thread
from typing import Protocol

from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.connection import Connection
from pika.exceptions import ConnectionClosedByClient

from storpool_commands.client import reasons
from storpool_commands.client.endpoint import Endpoint

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
CLOSE_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)


class Tenant(Protocol):
    """Who lives on the connection. Called in the I/O thread only."""

    def connected(self, connection: Connection) -> None: ...
    def disconnected(self) -> None: ...


class Link:
    """Connects, and connects again with jitter whenever the connection is lost.

    pika is not thread-safe: what touches the connection runs in the I/O thread, through `submit`. There is at most
    one connection at a time, so no callback of an old one comes after the tenants know a new one.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = itertools.cycle(endpoints)
        self._login = endpoints[0].account
        self._tenants: list[Tenant] = []
        self._connection: SelectConnection | None = None
        self._retry_s = FIRST_RETRY_S
        self._stopping = False
        self._lock = Lock()
        self._ioloop = IOLoop()
        # A program that forgets to close the client must still be able to end.
        self._thread = Thread(target=self._run, name="storpool-client", daemon=True)
        self.ready = Event()
        """Set while requests can be sent."""
        self.tried = Event()
        """Set once there was a connection, or the reason why there will be none."""
        self.trouble = "not connected yet"
        """Why the last connection, or attempt at one, ended."""

    def start(self) -> None:
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Run it soon in the I/O thread. From any thread."""
        with self._lock:
            if not self._stopping:
                self._ioloop.add_callback_threadsafe(work)

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Run it later. In the I/O thread only."""
        self._ioloop.call_later(delay_s, work)

    def admit(self, tenant: Tenant) -> None:
        """In the I/O thread only."""
        self._tenants.append(tenant)
        if self._connection is not None and self._connection.is_open:
            tenant.connected(self._connection)

    def dismiss(self, tenant: Tenant) -> None:
        """In the I/O thread only."""
        self._tenants.remove(tenant)

    def why(self, error: BaseException) -> str:
        """What an error of this connection means."""
        return reasons.reason(error, self._login)

    def works(self) -> None:
        """A tenant says that the connection is of use: the next retry may be quick again."""
        self._retry_s = FIRST_RETRY_S
        self.ready.set()
        self.tried.set()

    def drop(self, why: str, *, hopeless: bool = False) -> None:
        """Give this connection up, another one follows. In the I/O thread only."""
        self.ready.clear()
        self.trouble = why
        if hopeless:
            self.tried.set()
        if self._connection is not None and self._connection.is_open:
            log.warning("giving the connection up: %s", why)
            self._connection.close(reply_text="recovering")

    def stop(self) -> None:
        """Close, and wait until the thread has ended, but not longer than CLOSE_TIMEOUT_S."""
        self.submit(self._stop)
        if self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._connect()
                self._ioloop.start()
            except Exception:
                # pika or a tenant is in a state that nobody foresaw: start from nothing.
                log.exception("the I/O thread met a bug; connecting anew")
                self._start_over()
        with self._lock:
            self._ioloop.close()

    def _start_over(self) -> None:
        self._depart("bug in the client, see its log")
        with self._lock:
            self._ioloop.close()
            self._ioloop = IOLoop()
        Event().wait(self._pause())

    def _connect(self) -> None:
        if self._stopping:
            return
        endpoint = next(self._endpoints)
        self._login = endpoint.account
        log.debug("connecting to %s", endpoint)
        self._connection = SelectConnection(
            endpoint.parameters(),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
            custom_ioloop=self._ioloop,
        )

    def _on_open(self, connection: Connection) -> None:
        for tenant in self._tenants:
            tenant.connected(connection)

    def _on_lost(self, _: Connection, error: BaseException) -> None:
        self._depart(self.trouble if isinstance(error, ConnectionClosedByClient) else self.why(error))
        if self._stopping:
            self._ioloop.stop()
            return
        log.warning("no connection to the broker: %s", self.trouble)
        if reasons.hopeless(error):
            self.tried.set()
        self._ioloop.call_later(self._pause(), self._connect)

    def _depart(self, why: str) -> None:
        self.ready.clear()
        self.trouble = why
        self._connection = None
        for tenant in self._tenants:
            tenant.disconnected()

    def _pause(self) -> float:
        """Full jitter, so that a thousand clients do not come back in step."""
        self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)
        return random.uniform(0.05, self._retry_s)  # noqa: S311

    def _stop(self) -> None:
        self._stopping = True
        self.ready.clear()
        if self._connection is None or self._connection.is_closed:
            self._ioloop.stop()
        elif not self._connection.is_closing:
            self._connection.close()
