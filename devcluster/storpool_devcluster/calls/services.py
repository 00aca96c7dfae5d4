# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The cluster's services: one management service, one server, and the clients."""

from importlib.metadata import version

from storpool_devcluster.answers import Json
from storpool_devcluster.calls.call import Call, Nothing, Query

# The level of the API that is served, and who serves it.
_VERSION = f"21.0.0-devcluster-{version('storpool-agent')}"
_NODE_ID_LIMIT = 63


def list_all(call: Call[Nothing]) -> Json:
    clients = call.cluster.clients
    started = call.cluster.started_s
    service = {"nodeId": 1, "version": _VERSION, "startTime": started, "status": "running"}
    return {
        "clusterStatus": "running",
        "mgmt": {"1": {**service, "id": 1, "active": True, "prio": 0}},
        "clients": {
            str(client): {
                **service,
                "id": client,
                "nodeId": min(client, _NODE_ID_LIMIT),
                "status": "running" if clients.is_up(client) else "down",
            }
            for client in sorted(clients.ids)
        },
        "servers": {"1": {**service, "id": 1, "missingDisks": [], "pendingDisks": []}},
        "bridges": {},
        "iscsiTargets": {},
    }


QUERIES = (Query("ServicesList", "GET", list_all),)
