# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls about clients and how far they have followed the configuration."""

import time

from storpool_devcluster import answers
from storpool_devcluster.answers import Json
from storpool_devcluster.calls.call import Call, Nothing, Query
from storpool_devcluster.calls.shapes import Shape


def config_wait(call: Call[Nothing]) -> Json:
    """Blocks until the client knows the configuration; as long as it takes when it is down."""
    if not call.arg.isdigit():
        raise answers.invalid(f"'{call.arg}' is not a client id")
    client = int(call.arg)
    call.cluster.clients.require(client)
    began = time.monotonic()
    if call.effects.config_lag_s:
        call.cluster.clients.lag([client], call.effects.config_lag_s)
    call.cluster.clients.wait_until_current([client], timeout_s=None)
    return [_shape(call, client, delay_ms=int((time.monotonic() - began) * 1000))]


def config_dump(call: Call[Nothing]) -> Json:
    return [_shape(call, client) for client in sorted(call.cluster.clients.ids)]


def _shape(call: Call[Nothing], client: int, delay_ms: int = 0) -> Shape:
    clients, generation = call.cluster.clients, call.cluster.state.generation
    is_up, lags = clients.is_up(client), clients.lags(client)
    return {
        "id": client,
        "generation": generation,
        "clientGeneration": generation - 1 if lags or not is_up else generation,
        "configStatus": "down" if not is_up else "updating" if lags else "ok",
        "delay": delay_ms,
    }


QUERIES = (
    Query("ClientConfigWait", "GET", config_wait, takes_arg=True),
    Query("ClientsConfigDump", "GET", config_dump),
)
