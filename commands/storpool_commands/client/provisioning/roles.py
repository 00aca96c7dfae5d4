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
    """A management plane: it commands, and hears the replies to its own words and all events."""
    return _listener(words, EVERYTHING, topology.COMMANDS, topology.CONTROL)


def reader(words: Sequence[str], hosts: Sequence[str]) -> Role:
    """Somebody who hears events, of all hosts or of these.

    Replies to its own words as well: the SDK listens for them, and there are none, since it can ask for nothing.
    """
    return _listener(words, rf"^({'|'.join(hosts)})\." if hosts else EVERYTHING)


def _listener(words: Sequence[str], events: str, *written: str) -> Role:
    """Beside each word those that the SDK makes of it: the word, a dash, and 32 hexadecimal digits."""
    asked = rf"({'|'.join(words)})(-{HEX_32})?"
    queues = (rf"{_quoted(topology.REPLIES)}\.{asked}(\.[0-9a-f]{{8}})?", rf"{_quoted(topology.EVENTS)}\.{HEX_32}")
    return Role(
        configure=_either(patterns=queues),
        write=_either(*written, patterns=queues),
        read=_either(topology.REPLIES, topology.EVENTS, patterns=queues),
        topics=(
            TopicPermission(topology.REPLIES, write=NOTHING, read=rf"^\*\.{asked}$"),
            TopicPermission(topology.EVENTS, write=NOTHING, read=events),
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
