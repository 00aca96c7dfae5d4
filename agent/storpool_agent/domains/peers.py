# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Other hosts' libvirt, asked over a connection of its own for each question.

A host that is switched off answers nothing, and the connection to it hangs for as long as the kernel tries: minutes.
So each question has a thread of its own, and who asked leaves at its deadline. Where the hosts are is a setting of this
one, never part of a message.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains import lines
from storpool_agent.domains.link import KEEPALIVE_COUNT, KEEPALIVE_S
from storpool_agent.domains.model import Routes
from storpool_agent.domains.refusals import text_of
from storpool_agent.migration_errors import DestinationUnreachable

T = TypeVar("T")

ASK_TIMEOUT_S = 15.0  # a TLS handshake with a busy host takes a second or two
MOST_WAITING = 8  # threads that hang in one host's libvirt, before it is not asked any more


class Peers:
    """May be used from any thread."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._guard = threading.Lock()
        self._waiting: dict[str, int] = {}

    def uri(self, host: str) -> str:
        """Of the host's libvirt. Raises DestinationUnreachable when the settings do not name it."""
        found = self._routes.uris.get(host) or self._routes.uri.replace("{host}", host)
        if not found:
            raise DestinationUnreachable(
                f"the settings of this host do not say where the libvirt of {host} is ([migration] uris)", host=host
            )
        return found

    def address(self, host: str) -> str | None:
        """Where the memory of a machine is sent to, as libvirt wants it; None: the other libvirt says."""
        found = self._routes.addresses.get(host) or self._routes.address.replace("{host}", host)
        if not found:
            return None
        return f"tcp://[{found}]" if ":" in found and not found.startswith("[") else f"tcp://{found}"

    def certified_name(self, host: str) -> str | None:
        """With TLS: the name in the other host's certificate, where its address is given by a setting."""
        return urlsplit(self.uri(host)).hostname if self._routes.tls and self.address(host) is not None else None

    @property
    def tls(self) -> bool:
        return self._routes.tls

    def ask(self, host: str, question: Callable[[libvirt.virConnect], T], deadline: Deadline) -> T:
        """What it answers. Raises DestinationUnreachable: it was not asked, or its answer did not come, or it refused.

        The answer must hold no object of libvirt: those end with their connection.
        """
        uri = self.uri(host)
        self._enter(host)
        outcome: Future[T] = Future()
        work = threading.Thread(
            target=self._run, args=(host, uri, question, outcome), name=f"libvirt@{host}"[:15], daemon=True
        )
        work.start()
        try:
            return outcome.result(deadline.within(ASK_TIMEOUT_S).remaining_s)
        except TimeoutError as late:
            raise DestinationUnreachable(
                f"the libvirt of {host} ({uri}) has not answered in time", host=host, uri=uri
            ) from late
        except libvirt.libvirtError as error:
            raise DestinationUnreachable(
                f"the libvirt of {host} ({uri}): {text_of(error)}", host=host, uri=uri, number=error.get_error_code()
            ) from error

    def _run(self, host: str, uri: str, question: Callable[[libvirt.virConnect], T], outcome: "Future[T]") -> None:
        try:
            answer = _asked(uri, question)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that asked, if it is still there
            with suppress(InvalidStateError):
                outcome.set_exception(error)
        else:
            with suppress(InvalidStateError):
                outcome.set_result(answer)
        finally:
            self._leave(host)

    def _enter(self, host: str) -> None:
        with self._guard:
            waiting = self._waiting.get(host, 0)
            if waiting >= MOST_WAITING:
                raise DestinationUnreachable(f"the libvirt of {host} answers nobody", host=host)
            self._waiting[host] = waiting + 1

    def _leave(self, host: str) -> None:
        with self._guard:
            self._waiting[host] -= 1


def _asked(uri: str, question: Callable[[libvirt.virConnect], T]) -> T:
    connection = libvirt.open(uri)
    try:
        connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        return question(connection)
    finally:
        lines.close(connection)
