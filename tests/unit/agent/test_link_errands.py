# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What other threads have the link's thread do, while there is no broker."""

import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from storpool_agent.bus.link import Broker, Link

NOWHERE = Broker("127.0.0.1", 1, "/", "guest", SecretStr("guest"), None)
WAIT_S = 20.0


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """Every try to connect has just failed."""
    monkeypatch.setattr(Link, "_connect_once", lambda _link, _loop: None)
    link = Link("in", NOWHERE, lambda _channel: None, lambda: None)
    yield link
    link.stop(WAIT_S)


def test_why_there_is_no_connection_can_be_asked() -> None:
    tried = threading.Event()
    link = Link("in", NOWHERE, lambda _channel: None, tried.set)
    link.start()
    try:
        assert tried.wait(WAIT_S)
        assert link.trouble == "nothing listens at 127.0.0.1:1"
    finally:
        link.stop(WAIT_S)


def test_an_errand_is_run_while_the_broker_is_away(link: Link) -> None:
    link.start()
    for _ in range(3):
        done = threading.Event()
        names: list[str] = []

        def errand(done: threading.Event = done, names: list[str] = names) -> None:
            names.append(threading.current_thread().name)
            done.set()

        link.run(errand)
        assert done.wait(WAIT_S)
        assert names == ["bus/in"]


def test_an_errand_of_before_the_start_is_run_in_its_turn(link: Link) -> None:
    order: list[int] = []
    done = threading.Event()
    for number in range(3):
        link.run(lambda number=number: order.append(number))  # type: ignore[misc]
    link.run(done.set)
    link.start()
    assert done.wait(WAIT_S)
    assert order == [0, 1, 2]
