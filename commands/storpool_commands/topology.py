# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The names on the broker. Senders and hosts agree on these and on nothing else."""

from collections.abc import Mapping
from typing import NamedTuple

Arguments = Mapping[str, str | int | bool]

COMMANDS = "storpool.commands"
CONTROL = "storpool.control"
REPLIES = "storpool.replies"
EVENTS = "storpool.events"
DEAD = "storpool.dead"
DEAD_LETTERS = "storpool.dead-letters"

ANY_HOST = "any"
"""What a sender says in place of a host for work that every host can do. No host is called so."""
ANY_QUEUE = "storpool.any"

EXCHANGES = {COMMANDS: "direct", CONTROL: "direct", REPLIES: "topic", EVENTS: "topic", DEAD: "fanout"}
"""Exchange -> its type. All are durable."""

DELIVERY_LIMIT = 10
"""After so many deliveries without an ack the broker dead-letters a message."""


def host_queue(host: str) -> str:
    """The queue of a host's commands."""
    return f"storpool.host.{host}"


def control_queue(host: str) -> str:
    """The queue of a host's control commands."""
    return f"storpool.control.{host}"


def host_key(host: str) -> str:
    """The routing key of a host, on both exchanges."""
    return f"host.{host}"


def any_key() -> str:
    """The routing key of work that every host can do, on the exchange of commands."""
    return ANY_HOST


def command_key(host: str) -> str:
    """The routing key of a host, or of any."""
    return any_key() if host == ANY_HOST else host_key(host)


def host_queue_arguments() -> Arguments:
    """How the queue of a host is declared. Declaring it otherwise is refused by the broker."""
    return {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD,
    }


def any_queue_arguments() -> Arguments:
    """How the queue of all hosts is declared: they compete for what is in it."""
    return {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT, "x-dead-letter-exchange": DEAD}


def control_queue_arguments() -> Arguments:
    """A question about the present that was not answered within a minute is not worth an answer."""
    return {"x-message-ttl": 60_000}


def dead_letters_arguments() -> Arguments:
    """What no host could take stays until somebody has looked at it."""
    return {"x-queue-type": "quorum"}


class Queue(NamedTuple):
    """A durable queue, and the one binding that fills it."""

    name: str
    arguments: Arguments
    exchange: str
    key: str


def queues_of_host(host: str) -> list[Queue]:
    """Those of one host alone."""
    return [
        Queue(host_queue(host), host_queue_arguments(), COMMANDS, host_key(host)),
        Queue(control_queue(host), control_queue_arguments(), CONTROL, host_key(host)),
    ]


def queues_of_all(*, shared: bool = True) -> list[Queue]:
    """Those that are there once; `shared`: that of all hosts, too."""
    dead = Queue(DEAD_LETTERS, dead_letters_arguments(), DEAD, "")
    return [dead, Queue(ANY_QUEUE, any_queue_arguments(), COMMANDS, any_key())] if shared else [dead]


def reply_key(host: str, reply_to: str) -> str:
    """Where a host publishes a reply."""
    return f"{host}.{reply_to}"


def reply_binding(reply_to: str) -> str:
    """What a sender binds its reply queue to."""
    return f"*.{reply_to}"


def event_key(host: str, event: str) -> str:
    """Where a host publishes an event such as `attachment.detached`."""
    return f"{host}.{event}"


def event_type(event: str) -> str:
    """What kind of CloudEvent it is."""
    return f"com.storpool.agent.{event}"


def progress_event(command: str) -> str:
    """The event that says how far a command is, by its name on the wire: one word of a routing key.

    Its subject is the request's id, its data are the fields of JobProgress.
    """
    return f"progress.{command}"
