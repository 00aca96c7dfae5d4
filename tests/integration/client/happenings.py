# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Events, published as an agent does."""

from datetime import UTC, datetime
from time import monotonic, sleep

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import UnroutableError

from storpool_commands import topology
from storpool_commands.envelope import Event

SUBSCRIBED_TIMEOUT_S = 20.0


def publish(channel: BlockingChannel, host: str, what: str, *, routable: bool = True) -> None:
    """Publish it once there is somebody who has subscribed to it. The channel has to be in confirm mode."""
    event = Event(id="1", source=f"/hosts/{host}", type=what, time=datetime.now(UTC), data={})
    body = event.model_dump_json(by_alias=True).encode()
    give_up_at = monotonic() + SUBSCRIBED_TIMEOUT_S
    while True:
        try:
            channel.basic_publish(topology.EVENTS, topology.event_key(host, what), body, mandatory=True)
        except UnroutableError:  # the subscription is not there yet
            if not routable:
                return
            assert monotonic() < give_up_at
            sleep(0.05)
        else:
            return
