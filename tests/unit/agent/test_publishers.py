# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who may send what."""

from typing import Any

import pytest

from storpool_agent.publishers import Publishers
from storpool_commands.control import Drain, Ping
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk
from storpool_commands.volumes import DeleteVolume

CONNECT, DISCONNECT = ConnectPhysicalDisk(volume="~a.b.c"), DisconnectPhysicalDisk(volume="~a.b.c")
ALL = (Ping(), CONNECT, DISCONNECT, DeleteVolume(volume="~a.b.c"), Drain(on=True))


def may_send(publishers: Publishers, publisher: str | None) -> list[Any]:
    return [command for command in ALL if publishers.refuse(publisher, command) is None]


@pytest.mark.parametrize("publisher", [None, "cloud"])
def test_without_a_list_everyone_may_send_everything(publisher: str | None) -> None:
    assert may_send(Publishers(None), publisher) == list(ALL)


@pytest.mark.parametrize(
    ("grants", "allowed"),
    [
        (["all"], list(ALL)),
        (["attach"], [CONNECT, DISCONNECT]),
        (["read", "disconnectPhysicalDisk"], [Ping(), DISCONNECT]),
        (["control"], [Drain(on=True)]),
    ],
)
def test_what_is_granted_may_be_sent_and_nothing_else(grants: list[str], allowed: list[Any]) -> None:
    publishers = Publishers({"cloud": grants, "other": ["all"]})
    assert may_send(publishers, "cloud") == allowed


@pytest.mark.parametrize("publisher", [None, "", "all", "mallory", "Cloud"])
def test_who_is_not_listed_may_send_nothing(publisher: str | None) -> None:
    publishers = Publishers({"cloud": ["all"]})
    assert may_send(publishers, publisher) == []
    assert publishers.refuse_stranger(publisher)


def test_the_refusal_says_what_may_be_sent() -> None:
    publishers = Publishers({"cloud": ["read", "attach"]})
    assert publishers.refuse_stranger("cloud") is None
    assert publishers.refuse("cloud", Drain(on=True)) == (
        "cloud may not send drain to this host; allowed_publishers has what it may: attach, read"
    )
    assert publishers.refuse(None, Ping()) == (
        "somebody who set no user_id may not command this host; allowed_publishers has who may"
    )
