# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From an HTTP request to a call and back: paths, token, JSON, error envelopes, fault rules.

[X] An unknown call is 404 `unknownQuery`, a wrong method 405 `wrongMethod`, a wrong token 401 `unauthorized`: what
StorPool answers is not known.
"""

import json
import logging
import time
from dataclasses import dataclass
from hmac import compare_digest
from threading import Event
from typing import Any
from urllib.parse import parse_qs, unquote

from storpool_devcluster import fault_actions as act
from storpool_devcluster import fault_effects
from storpool_devcluster.answers import ApiFailure, Json, missing, open_at
from storpool_devcluster.calls import QUERIES
from storpool_devcluster.calls.call import Served
from storpool_devcluster.cluster import Cluster
from storpool_devcluster.faults import Facts, Faults, named_clients, reassign_items
from storpool_devcluster.gids import cluster_of
from storpool_devcluster.request_log import RequestLog
from storpool_devcluster.server import Lost, Reply, Request

log = logging.getLogger(__name__)

PREFIX = "/ctrl/1.0/"


@dataclass(frozen=True, slots=True)
class Route:
    query: str
    arg: str
    home: str = ""
    """The id of the cluster that it is for."""
    multi_cluster: bool = False
    all_clusters: bool = False


class Api:
    """Answers `/ctrl/1.0/`. Safe to use from many threads."""

    def __init__(self, cluster: Cluster, token: str, faults: Faults, requests: RequestLog) -> None:
        self._cluster = cluster
        self._authorization = f"Storpool v1:{token}"
        self._faults = faults
        self._requests = requests
        self._transient_until = 0.0
        self._stopping = Event()

    def is_authorized(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        return compare_digest(given.encode(), self._authorization.encode())

    def fail_over(self, until: float) -> None:
        """Calls fail as transient until then."""
        self._transient_until = until

    def stop(self) -> None:
        self._stopping.set()

    def answer(self, request: Request) -> tuple[Reply, list[act.Action]]:
        """The reply, and the actions that are left to whoever owns the listening socket."""
        began = time.monotonic()
        path, _, parameters = request.target.partition("?")
        body = _json_text(request, parameters)
        route, actions = Route("", ""), list[act.Action]()
        try:
            route = self._route(path)
            actions = self._faults.fire(Facts(request.method, route.query, route.arg, body))
            reply = self._reply(request, route, body, actions)
        except ApiFailure as failure:
            reply = self._failure(failure)
        except Exception:
            log.exception("%s %s crashed", request.method, path)
            reply = self._failure(ApiFailure("internal", "see the log of storpool-devcluster"))
        reply = fault_effects.on_answer(actions, reply)
        self._requests.add(
            request.method,
            path,
            route.query,
            route.arg,
            body,
            status=reply.status,
            generation=self._cluster.state.generation,
            began=began,
            faults=tuple(action.kind for action in actions),
            traceparent=request.headers.get("traceparent"),
        )
        return reply, actions

    def _reply(self, request: Request, route: Route, body: bytes, actions: list[act.Action]) -> Reply:
        if not self.is_authorized(request):
            raise ApiFailure("unauthorized", "Invalid authorization token", status=401)
        for action in actions:
            match action:
                case act.Delay(seconds=seconds):
                    self._stopping.wait(seconds)
                case act.ResetBefore() | act.Refuse() | act.FailOver():
                    return Reply(503, b"", Lost(reset=True))
                case act.Error():
                    raise ApiFailure(action.name, action.descr, transient=action.transient, status=action.status)
                case act.Busy():
                    raise self._busy(action, Facts(request.method, route.query, route.arg, body))
                case _:
                    pass
        if any(fault_effects.is_unprocessed(action) for action in actions):
            return Reply(200, b"")
        if time.monotonic() < self._transient_until:
            raise ApiFailure("mgmtNotActive", "The management service is not active yet", transient=True)
        data = self._call(request.method, route, body, actions)
        return self._success(route, data, request.method)

    def _call(self, method: str, route: Route, body: bytes, actions: list[act.Action]) -> Json:
        query = QUERIES.get(route.query)
        if query is None:
            raise ApiFailure("unknownQuery", f"Unknown query '{route.query}'", status=404)
        if query.method != method:
            raise ApiFailure("wrongMethod", f"{route.query} is {query.method}", status=405)
        try:
            arguments: object = json.loads(body) if body else {}
        except ValueError:
            raise ApiFailure("invalidParam", "The body is not JSON") from None
        effects = fault_effects.on_devices(actions)
        if route.all_clusters and method == "GET":
            each_alone = (Served(home, multi_cluster=True, only_home=True) for home in self._cluster.options.clusters)
            every = [query.answer(self._cluster, route.arg, arguments, effects, served) for served in each_alone]
            return {"clusters": [{"response": {"data": data}} for data in every]}
        served = Served(route.home, route.multi_cluster, only_home=not route.multi_cluster)
        return query.answer(self._cluster, route.arg, arguments, effects, served)

    def _success(self, route: Route, data: Json, method: str) -> Reply:
        answer: dict[str, Any] = {"generation": self._cluster.state.generation, "data": data}
        if route.multi_cluster and method == "POST":
            answer["clusterId"] = self._home(route, data)
        return Reply(200, json.dumps(answer, separators=(",", ":")).encode())

    def _home(self, route: Route, data: Json) -> str:
        """The cluster of what the call was about."""
        made = data.get("globalId") if isinstance(data, dict) else None
        found = self._cluster.state.find(f"~{made}" if made else route.arg)
        return cluster_of(found.gid) if found else route.home

    def _failure(self, failure: ApiFailure) -> Reply:
        status = failure.status or self._cluster.options.error_status
        return Reply(status, json.dumps(failure.envelope(self._cluster.state.generation)).encode())

    def _busy(self, action: act.Busy, facts: Facts) -> ApiFailure:
        client = action.client or min(named_clients(facts), default=1)
        descr = open_at(action.volume or self._first_volume(facts), client).descr
        return ApiFailure(action.name, descr)

    def _first_volume(self, facts: Facts) -> str:
        """The name of what the request is about, as the real message would show it."""
        named = [facts.arg, *(item.volume or item.snapshot for item in reassign_items(facts.body))]
        reference = next(filter(None, named), "?")
        found = self._cluster.state.find(reference)
        return found.label if found else reference

    def _route(self, path: str) -> Route:
        parts = [unquote(part) for part in path.removeprefix(PREFIX).split("/")]
        home = self._cluster.options.cluster_id
        if parts[0] == "RemoteCommand" and len(parts) > 2:
            home = self._cluster_named(parts[1])
            parts = parts[2:]
        multi_cluster = parts[0] == "MultiCluster"
        parts = parts[multi_cluster:]
        all_clusters = multi_cluster and parts[:1] == ["AllClusters"]
        parts = parts[all_clusters:]
        return Route(parts[0] if parts else "", "/".join(parts[1:]), home, multi_cluster, all_clusters)

    def _cluster_named(self, reference: str) -> str:
        for home, name in self._cluster.options.clusters.items():
            if reference in (name, f"~{home}"):
                return home
        raise missing("Cluster", reference)


def _json_text(request: Request, parameters: str) -> bytes:
    """The body, or what a GET carries as ?json=."""
    if request.body or not parameters:
        return request.body
    return parse_qs(parameters).get("json", [""])[0].encode()
