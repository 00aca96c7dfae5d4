# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Connections to libvirt for one call each at a time. A few are kept: opening one costs as much as a small call."""

import threading

import libvirt
import structlog

from storpool_agent.domains.link import KEEPALIVE_COUNT, KEEPALIVE_S
from storpool_agent.domains.refusals import connection_lost

KEPT = 4  # as many calls as usually run at once
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Lines:
    """May be used from any thread."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._guard = threading.Lock()
        self._idle: list[libvirt.virConnect] = []
        self._closed = False

    def take(self, uuid: str) -> tuple[libvirt.virConnect, libvirt.virDomain]:
        """A connection and, by it, the machine: so that a line that broke while it was idle is found out now."""
        while (kept := self._kept()) is not None:
            try:
                return kept, kept.lookupByUUIDString(uuid)
            except libvirt.libvirtError as error:
                if not connection_lost(error):
                    self.put_back(kept)
                    raise
                close(kept)
        fresh = libvirt.open(self._uri)
        try:
            fresh.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
            return fresh, fresh.lookupByUUIDString(uuid)
        except libvirt.libvirtError:
            close(fresh)
            raise

    def put_back(self, connection: libvirt.virConnect) -> None:
        with self._guard:
            if not self._closed and len(self._idle) < KEPT and connection.isAlive() == 1:
                self._idle.append(connection)
                return
        close(connection)

    def close(self) -> None:
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            close(connection)

    def _kept(self) -> libvirt.virConnect | None:
        with self._guard:
            return self._idle.pop() if self._idle else None


def close(connection: libvirt.virConnect) -> None:
    """Of one that may be lost already."""
    try:
        connection.close()
    except libvirt.libvirtError as error:
        log.debug("libvirt close", reason=str(error))
