# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`/sim/`: fault rules, the log of requests, clients that go down. Needs the same token as the API.

POST   /sim/faults            a rule, or a list of rules; answers their ids
GET    /sim/faults            all rules and how often each fired
DELETE /sim/faults
GET    /sim/state             configuration, devices, and how many loop devices are still being removed
GET    /sim/requests          the API requests since the last reset
POST   /sim/reset             drops rules and log, ends lags
POST   /sim/client/<id>/down  and /up
"""

import json
import re
import time
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from storpool_devcluster import aftermath
from storpool_devcluster import fault_actions as act
from storpool_devcluster.api import Api
from storpool_devcluster.calls import shapes
from storpool_devcluster.cluster import Cluster
from storpool_devcluster.faults import Faults, Rule
from storpool_devcluster.request_log import RequestLog
from storpool_devcluster.server import Reply, Request

PREFIX = "/sim/"
_CLIENT = re.compile(r"client/(?P<id>\d+)/(?P<state>up|down)")
_RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


class Sim:
    def __init__(
        self,
        cluster: Cluster,
        api: Api,
        faults: Faults,
        requests: RequestLog,
        refuse: Callable[[float], None],
    ) -> None:
        self._cluster = cluster
        self._api = api
        self._faults = faults
        self._requests = requests
        self._refuse = refuse

    def answer(self, request: Request) -> Reply:
        if not self._api.is_authorized(request):
            return _reply({"error": "unauthorized"}, 401)
        path = request.target.partition("?")[0].removeprefix(PREFIX)
        routes: dict[tuple[str, str], Callable[[bytes], Reply]] = {
            ("POST", "faults"): self._add_rules,
            ("GET", "faults"): lambda _: _reply(self._faults.describe()),
            ("DELETE", "faults"): self._clear_rules,
            ("GET", "state"): lambda _: _reply(self._state()),
            ("GET", "requests"): lambda _: _reply([entry.describe() for entry in self._requests.entries()]),
            ("POST", "reset"): self._reset,
        }
        if route := routes.get((request.method, path)):
            return route(request.body)
        if request.method == "POST" and (client := _CLIENT.fullmatch(path)):
            return self._set_client(int(client["id"]), up=client["state"] == "up")
        return _reply({"error": "not found"}, 404)

    def begin(self, action: act.Action) -> None:
        """What concerns the whole cluster: connections that are refused, a management service that moves."""
        if isinstance(action, act.Refuse):
            self._refuse(action.seconds)
        elif isinstance(action, act.FailOver):
            self._api.fail_over(time.monotonic() + action.refuse_s + action.transient_s)
            if action.refuse_s:
                self._refuse(action.refuse_s)

    def _add_rules(self, body: bytes) -> Reply:
        try:
            given = json.loads(body)
            rules = _RULES.validate_python(given if isinstance(given, list) else [given])
        except ValidationError as error:
            return _reply({"error": json.loads(error.json(include_url=False))}, 400)
        except ValueError as error:
            return _reply({"error": str(error)}, 400)
        return _reply({"ids": [self._add_rule(rule) for rule in rules]})

    def _add_rule(self, rule: Rule) -> int:
        action = rule.action
        if rule.match is None and isinstance(action, act.Refuse | act.FailOver):
            # The answer to this very request has to get out first.
            self._cluster.later.after(0.05, lambda: self.begin(action))
            return 0
        if isinstance(action, act.LostLink | act.DeviceErrors) and action.volume is not None:
            self._cluster.later.after(action.after_s, lambda: self._spoil(action))
            return 0
        return self._faults.add(rule)

    def _spoil(self, action: act.LostLink | act.DeviceErrors) -> None:
        volume = self._cluster.state.find(action.volume or "")
        if volume is None:
            return
        spoil = aftermath.lose_link if isinstance(action, act.LostLink) else aftermath.fail_device
        for client in self._cluster.state.attachments_of(volume.gid):
            if action.client in (None, client):
                spoil(self._cluster, volume.gid, client)

    def _clear_rules(self, _body: bytes) -> Reply:
        self._faults.clear()
        return _reply({})

    def _reset(self, _body: bytes) -> Reply:
        self._faults.clear()
        self._requests.clear()
        self._api.fail_over(0.0)
        self._cluster.clients.lag(self._cluster.clients.ids, 0.0)
        return _reply({})

    def _set_client(self, client: int, *, up: bool) -> Reply:
        if client not in self._cluster.clients.ids:
            return _reply({"error": "no such client"}, 404)
        if up:
            self._cluster.place(client)
        self._cluster.clients.set_up(client, up)
        return _reply({})

    def _state(self) -> dict[str, Any]:
        cluster = self._cluster
        return {
            "generation": cluster.state.generation,
            "volumes": [shapes.volume(cluster, item) for item in cluster.state.volumes.all()],
            "attachments": [
                shapes.attachment(cluster, item) | cluster.devices.describe(item.gid, item.client)
                for item in cluster.state.attachments.all()
            ],
            "clients": {str(client): cluster.clients.is_up(client) for client in sorted(cluster.clients.ids)},
            "removals": cluster.devices.removals,
        }


def _reply(content: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(content).encode())
