# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The running development StorPool: one cluster behind one HTTP server."""

import logging

from storpool_devcluster import cluster as clusters
from storpool_devcluster import sim
from storpool_devcluster.api import Api
from storpool_devcluster.cluster import Options
from storpool_devcluster.faults import Faults
from storpool_devcluster.request_log import RequestLog
from storpool_devcluster.server import Reply, Request, Server

log = logging.getLogger(__name__)


class Service:
    """Listens and has its devices when it is made; answers from `start` on."""

    def __init__(self, options: Options, address: tuple[str, int], token: str, *, keep_alive: bool = False) -> None:
        self._server = Server(address, self._answer, keep_alive=keep_alive)
        self._cluster = clusters.start(options)
        faults, requests = Faults(), RequestLog()
        self._api = Api(self._cluster, token, faults, requests)
        self._sim = sim.Sim(self._cluster, self._api, faults, requests, self._server.refuse)

    @property
    def address(self) -> str:
        return self._server.address

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Answer what is under way, then take all devices down. The state stays."""
        self._api.stop()
        self._cluster.clients.stop()
        self._server.stop()
        self._cluster.stop()

    def _answer(self, request: Request) -> Reply:
        if request.target.startswith(sim.PREFIX):
            return self._sim.answer(request)
        reply, actions = self._api.answer(request)
        for action in actions:
            self._sim.begin(action)
        return reply
