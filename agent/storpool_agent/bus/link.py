# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A connection that is kept up, in a thread of its own."""

import random
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import time

import pika
import structlog
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.credentials import ExternalCredentials, PlainCredentials
from pika.exceptions import ConnectionClosedByClient
from pydantic import SecretStr

from storpool_agent import liveness, metrics
from storpool_agent.bus.reasons import reason
from storpool_agent.deadline import Deadline
from storpool_agent.settings import SettingsInvalid
from storpool_commands.client.reasons import Login

log = structlog.get_logger()

HEARTBEAT_S = 10
"""A silent partition is noticed after two missed ones, some 30 s (measured with pika 1.4.4)."""
SOCKET_TIMEOUT_S = 5
STACK_TIMEOUT_S = 15
BLOCKED_TIMEOUT_S = 300
"""How long the broker may refuse to read from us because of its resource alarm before we connect anew."""
SETUP_TIMEOUT_S = 20
"""A quorum queue without a leader answers `basic.consume` after 65 s, or never (RabbitMQ 3.10.8)."""
MAX_BACKOFF_S = 10
"""A broker that is back is found within this, by hosts that do not all come at once."""


@dataclass(frozen=True)
class Broker:
    """Where the broker is and who we are there."""

    host: str
    port: int
    vhost: str
    username: str | None
    """What we publish is marked with it, and the broker verifies that."""
    password: SecretStr | None
    """None: the broker takes the user from the client certificate (SASL EXTERNAL)."""
    tls: Callable[[], ssl.SSLContext | None] | None
    """Asked for each connection, so that a certificate that is renewed counts from the next one on. None: no TLS."""

    @property
    def account(self) -> Login:
        """For messages."""
        return Login(f"{self.host}:{self.port}", self.vhost, self.username if self.password else None)

    def parameters(self, name: str) -> pika.ConnectionParameters:
        """For one connection; the name is what `rabbitmqctl list_connections` shows. Raises SettingsInvalid."""
        if self.password is None:
            credentials: PlainCredentials | ExternalCredentials = ExternalCredentials()
        else:
            credentials = PlainCredentials(self.username or "", self.password.get_secret_value())
        tls = self.tls() if self.tls else None
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=credentials,
            heartbeat=HEARTBEAT_S,
            socket_timeout=SOCKET_TIMEOUT_S,
            stack_timeout=STACK_TIMEOUT_S,
            blocked_connection_timeout=BLOCKED_TIMEOUT_S,
            connection_attempts=1,
            ssl_options=pika.SSLOptions(tls, self.host) if tls else None,
            client_properties={"connection_name": name, "product": "storpool-agent"},
            tcp_options={"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 15000},
        )


class Link:
    """One connection and its channels; all are made anew whenever any is lost.

    pika 1.4.4 tells nobody who does not ask that the broker has closed a channel or cancelled a consumer (pika
    issue 1472): any of these ends the connection here, and the next one starts clean. The first new try is made
    at once, the later ones with growing, jittered pauses.
    """

    def __init__(self, name: str, broker: Broker, opened: Callable[[Channel], None], lost: Callable[[], None]) -> None:
        """`opened` and `lost` are called in the link's own thread; `opened` must lead to `ready` in time."""
        self.name = name
        self._broker = broker
        self._opened = opened
        self._lost = lost
        self._connection: SelectConnection | None = None
        self._mutex = threading.Lock()
        """Nobody calls into a loop whose descriptors are closed."""
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._errands: deque[Callable[[], None]] = deque()
        self._woken = threading.Event()
        self._failures = 0
        self.since = time()
        """Since when it is ready, or is not: seconds since the epoch."""
        self.trouble: str | None = None
        """Why it is not, as the log has it; None while it is, and before the first try has ended."""
        self._thread = threading.Thread(target=self._run, name=f"bus/{name}")

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Close the connection and end the thread. Any thread but the link's own may call this."""
        self._stopping.set()
        self._woken.set()
        self.call(self._close)
        self._thread.join(timeout_s)

    def wait_ready(self, timeout_s: float) -> bool:
        return self._ready.wait(timeout_s)

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    def ready(self) -> None:
        """The channel is set up. Called in the link's thread."""
        self._failures = 0
        self.trouble = None
        self._ready.set()
        self.since = time()
        metrics.broker_connected(self.name)
        log.info("broker connected", link=self.name, broker=f"{self._broker.host}:{self._broker.port}")

    def call(self, callback: Callable[[], None]) -> None:
        """Have something called in the link's thread, if there is a connection."""
        with self._mutex:
            if self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(callback)

    def run(self, errand: Callable[[], None]) -> None:
        """Have something called in the link's thread once, whether there is a connection or not.

        Any thread may call this. It is never called when the thread has ended.
        """
        with self._mutex:
            self._errands.append(errand)
            if self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(self._run_errands)
        self._woken.set()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """As `call`, but from the link's own thread."""
        if self._connection is not None:
            self._connection.ioloop.call_later(seconds, callback)

    def open_channel(self, opened: Callable[[Channel], None]) -> None:
        """One more channel, on the same connection: it lives and dies with the first. In the link's own thread."""
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=partial(self._on_channel, opened))

    def fail(self, reason: str) -> None:
        """Give this connection up and make a new one. Called in the link's thread."""
        log.warning("broker lost", link=self.name, reason=self._noted(reason))
        self._close()

    def _run(self) -> None:
        with liveness.registry.loop(f"bus/{self.name}") as loop:
            while not self._stopping.is_set():
                loop.turns()
                self._connect_once(loop)
                loop.waits()
                self._rest(Deadline.after(self._pause_s()))

    def _rest(self, over: Deadline) -> None:
        self._run_errands()
        while not (over.passed or self._stopping.is_set()):
            self._woken.wait(over.remaining_s)
            self._woken.clear()
            self._run_errands()

    def _run_errands(self) -> None:
        while self._errands:
            self._errands.popleft()()

    def _pause_s(self) -> float:
        self._failures += 1
        if self._failures == 1:
            return 0
        return random.uniform(0.1, min(MAX_BACKOFF_S, 0.5 * 2 ** min(self._failures, 10)))  # noqa: S311 - jitter

    def _connect_once(self, loop: liveness.Loop) -> None:
        try:
            parameters = self._broker.parameters(f"storpool-agent/{self.name}")
        except SettingsInvalid as error:  # a certificate that was renewed, and not as a whole
            log.warning("broker unreachable", link=self.name, reason=self._noted(str(error)))
            return
        connection = SelectConnection(
            parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_close,
        )
        self._connection = connection
        self._show_life(connection, loop)
        connection.ioloop.add_callback_threadsafe(self._run_errands)  # of before, when nobody could be called
        try:
            connection.ioloop.start()
        except Exception:
            log.exception("broker link crashed", link=self.name)
        finally:
            with self._mutex:
                self._connection = None
            connection.ioloop.close()
            if self._ready.is_set():
                self._ready.clear()
                self.since = time()
            self._lost()

    def _show_life(self, connection: SelectConnection, loop: liveness.Loop) -> None:
        """By the loop itself, also while it waits for a broker that does not answer."""
        loop.turns()
        connection.ioloop.call_later(liveness.BEAT_S, partial(self._show_life, connection, loop))

    def _on_open(self, connection: SelectConnection) -> None:
        self.open_channel(self._opened)
        connection.ioloop.call_later(SETUP_TIMEOUT_S, self._check_setup)
        if self._stopping.is_set():
            self._close()

    def _check_setup(self) -> None:
        if not self._ready.is_set():
            self.fail(f"the broker did not finish the set-up within {SETUP_TIMEOUT_S} s")

    def _on_channel(self, opened: Callable[[Channel], None], channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(lambda _frame: self.fail("the broker cancelled the consumer"))
        opened(channel)

    def _on_channel_closed(self, _channel: Channel, error: BaseException) -> None:
        if not self._stopping.is_set():
            self.fail(f"the channel was closed: {self._meaning(error)}")

    def _on_open_error(self, connection: SelectConnection, error: BaseException) -> None:
        if not self._stopping.is_set():
            log.warning("broker unreachable", link=self.name, reason=self._noted(self._meaning(error)))
        connection.ioloop.stop()

    def _on_close(self, connection: SelectConnection, error: BaseException) -> None:
        if not self._stopping.is_set():
            log.warning("broker connection closed", link=self.name, reason=self._closed_because(error))
        connection.ioloop.stop()

    def _meaning(self, error: BaseException) -> str:
        return reason(error, self._broker.account)

    def _closed_because(self, error: BaseException) -> str:
        """One that was closed from here has its reason already."""
        said = self._meaning(error)
        return said if isinstance(error, ConnectionClosedByClient) else self._noted(said)

    def _noted(self, why: str) -> str:
        self.trouble = why
        return why

    def _close(self) -> None:
        """Also one that is being opened: pika gives up its socket then, which it would not if its loop just ended."""
        connection = self._connection
        if connection is None or connection.is_closing:
            return
        if connection.is_closed:
            connection.ioloop.stop()
        else:
            connection.close()
            connection.ioloop.call_later(SOCKET_TIMEOUT_S, connection.ioloop.stop)
