# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What each kind of user may on the broker: as little as its work needs.

RabbitMQ matches names with these expressions wherever they fit, so each has both ends. A topic exchange for which a
user has no topic permission at all is open to it, so there is one for each exchange that a user may use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from storpool_commands import topology

NOTHING = "^$"
EVERYTHING = ".*"
HEX_32 = "[0-9a-f]{32}"


@dataclass(frozen=True)
class TopicPermission:
    """Which routing keys a user may publish with (`write`) and bind a queue to (`read`) on one exchange."""

    exchange: str
    write: str
    read: str


@dataclass(frozen=True)
class Role:
    """Expressions for the names of exchanges and queues."""

    configure: str
    write: str
    read: str
    topics: tuple[TopicPermission, ...]


def host(name: str) -> Role:
    """The agent of one host: it takes from its own queues, and speaks for itself alone. It makes nothing.

    Also that of a host which leaves the queue of all hosts alone: it may be let at it later.
    """
    own = rf"^{name}\."
    return Role(
        configure=NOTHING,
        write=_either(topology.REPLIES, topology.EVENTS, topology.DEAD),
        read=_either(topology.ANY_QUEUE, topology.host_queue(name), topology.control_queue(name)),
        topics=(
            TopicPermission(topology.REPLIES, write=own, read=NOTHING),
            TopicPermission(topology.EVENTS, write=own, read=NOTHING),
        ),
    )


def publisher(words: Sequence[str]) -> Role:
    """A management plane: it commands, and hears the replies to its own words and all events.

    Beside each word those that the SDK makes of it: the word, a dash, and 32 hexadecimal digits.
    """
    asked = rf"({'|'.join(words)})(-{HEX_32})?"
    queues = (rf"{_quoted(topology.REPLIES)}\.{asked}(\.[0-9a-f]{{8}})?", rf"{_quoted(topology.EVENTS)}\.{HEX_32}")
    exchanges = (topology.REPLIES, topology.EVENTS)
    return Role(
        configure=_either(patterns=queues),
        write=_either(topology.COMMANDS, topology.CONTROL, patterns=queues),
        read=_either(*exchanges, patterns=queues),
        topics=(
            TopicPermission(topology.REPLIES, write=NOTHING, read=rf"^\*\.{asked}$"),
            TopicPermission(topology.EVENTS, write=NOTHING, read=EVERYTHING),
        ),
    )


def reader(hosts: Sequence[str]) -> Role:
    """Somebody who hears events, of all hosts or of these, and can do nothing else."""
    queue = rf"{_quoted(topology.EVENTS)}\.{HEX_32}"
    keys = rf"^({'|'.join(hosts)})\." if hosts else EVERYTHING
    return Role(
        configure=_either(patterns=[queue]),
        write=_either(patterns=[queue]),
        read=_either(topology.EVENTS, patterns=[queue]),
        topics=(
            TopicPermission(topology.REPLIES, write=NOTHING, read=NOTHING),
            TopicPermission(topology.EVENTS, write=NOTHING, read=keys),
        ),
    )


def administrator() -> Role:
    """Who provisions, and looks at dead letters: all that is of this project, and no more than that."""
    own = r"^storpool\."
    return Role(
        configure=own,
        write=own,
        read=own,
        topics=tuple(TopicPermission(name, NOTHING, EVERYTHING) for name in (topology.REPLIES, topology.EVENTS)),
    )


def _either(*names: str, patterns: Sequence[str] = ()) -> str:
    return f"^({'|'.join([*map(_quoted, names), *patterns])})$"


def _quoted(name: str) -> str:
    return name.replace(".", r"\.")
