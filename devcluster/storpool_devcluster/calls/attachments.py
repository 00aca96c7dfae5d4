# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls that attach and detach.

[X] When clients are missing at the end of attachTimeout the call fails with `timeout`; the attachments stay
configured and take effect when the client is up.
"""

from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, model_validator

from storpool_devcluster import aftermath, answers, reassignment
from storpool_devcluster.answers import ApiFailure, Json
from storpool_devcluster.calls import shapes
from storpool_devcluster.calls.bodies import OnAttached
from storpool_devcluster.calls.call import Body, Call, Nothing, Query, ok
from storpool_devcluster.cluster import Cluster
from storpool_devcluster.names import ClientId, Reference, Seconds
from storpool_devcluster.reassignment import Outcome, Wish
from storpool_devcluster.records import Volume


class Item(Body):
    volume: Reference | None = None
    snapshot: Reference | None = None
    rw: list[ClientId] = []
    ro: list[ClientId] = []
    detach: list[ClientId] | Literal["all"] = []
    force: bool = False
    # There is one cluster here: what to do about others is accepted and does nothing.
    allow_remote_exported: bool = False
    on_remote_attached: OnAttached = "export"
    mc_mode: Literal["move", "export"] = "move"

    @model_validator(mode="after")
    def _check(self) -> "Item":
        if (self.volume is None) == (self.snapshot is None):
            raise ValueError("one of volume and snapshot is needed")
        if self.snapshot is not None and self.rw:
            raise ValueError("a snapshot cannot be attached rw")
        if set(self.rw) & set(self.ro):
            raise ValueError("a client is named in both rw and ro")
        return self


def _as_dict(value: object) -> object:
    """A bare list of items is as good."""
    return {"reassign": cast("list[object]", value)} if isinstance(value, list) else value


class ReassignWait(Body):
    reassign: list[Item]
    attach_timeout: Seconds | None = None


ReassignWaitBody = Annotated[ReassignWait, BeforeValidator(_as_dict)]


def list_all(call: Call[Nothing]) -> Json:
    cluster = call.cluster
    items = [item for item in cluster.state.attachments.all() if call.lists(item.gid)]
    return [shapes.attachment(cluster, item, multi_cluster=call.multi_cluster) for item in items]


def reassign(call: Call[list[Item]]) -> Json:
    _reassign(call.cluster, call.body, call)
    return ok(call.cluster)


def reassign_wait(call: Call[ReassignWait]) -> Json:
    outcome = _reassign(call.cluster, call.body.reassign, call)
    timeout_s, clients = call.body.attach_timeout, call.cluster.clients
    waited_for = outcome.receivers | {client for client in outcome.clients if clients.lags(client)}
    if timeout_s != 0 and not clients.wait_until_current(waited_for, timeout_s):
        raise ApiFailure("timeout", f"Timed out waiting for clients after {timeout_s} s")
    return ok(call.cluster)


def _reassign(cluster: Cluster, items: list[Item], call: Call[list[Item]] | Call[ReassignWait]) -> Outcome:
    with cluster.state.change():
        wishes = [wish for item in items for wish in _wishes(cluster, item)]
        outcome = reassignment.apply(cluster, wishes, call.effects)
    aftermath.begin(cluster, outcome, call.effects)
    return outcome


def _wishes(cluster: Cluster, item: Item) -> list[Wish]:
    volume = _target(cluster, item)
    named = [*item.rw, *item.ro, *([] if item.detach == "all" else item.detach)]
    for client in named:
        cluster.clients.require(client)
    kept = {*item.rw, *item.ro}
    leaving = cluster.state.attachments_of(volume.gid) if item.detach == "all" else item.detach
    return [
        *(Wish(volume, client, None, item.force) for client in leaving if client not in kept),
        *(Wish(volume, client, "rw") for client in item.rw),
        *(Wish(volume, client, "ro") for client in item.ro),
    ]


def _target(cluster: Cluster, item: Item) -> Volume:
    if item.volume is not None:
        return cluster.state.volume(item.volume)
    snapshot = cluster.state.snapshot(item.snapshot or "")
    if snapshot.transient:
        raise answers.invalid(f"Snapshot '{snapshot.label}' is transient and cannot be attached")
    return snapshot


QUERIES = (
    Query("AttachmentsList", "GET", list_all),
    Query("VolumesReassign", "POST", reassign, list[Item]),
    Query("VolumesReassignWait", "POST", reassign_wait, ReassignWaitBody),
)
