# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Alive and serving: small checks, asked anew each time."""

import pytest

from storpool_agent.health import Health


@pytest.fixture
def health() -> Health:
    return Health()


def test_without_trouble_it_lives_and_serves(health: Health) -> None:
    health.vital("loops", lambda: None)
    health.needed("journal", lambda: None)
    assert (health.dead(), health.missing()) == ({}, {})
    assert health.checks() == {"loops": None, "journal": None}


def test_what_is_missing_is_told_by_name_until_it_is_there(health: Health) -> None:
    told: list[str | None] = ["the disk is full"]
    health.needed("journal", lambda: told[0])
    health.needed("drain", lambda: None)
    assert health.missing() == {"journal": "the disk is full"}
    assert health.dead() == {}
    told[0] = None
    assert health.missing() == {}


def test_an_agent_that_is_dead_does_not_serve(health: Health) -> None:
    health.vital("loops", lambda: "ended")
    assert health.dead() == health.missing() == {"loops": "ended"}


def test_a_check_that_crashes_has_failed_and_the_others_are_asked(health: Health) -> None:
    def crash() -> str | None:
        raise RuntimeError("a defect")

    health.vital("first", crash)
    health.needed("second", lambda: "as well")
    assert list(health.dead()) == ["first"]
    assert set(health.missing()) == {"first", "second"}


def test_an_agent_that_stops_serves_nothing_and_is_not_dead(health: Health) -> None:
    health.vital("loops", lambda: "ended")
    health.end()
    assert (health.dead(), health.missing()) == ({}, {"agent": "it is stopping"})


def test_a_check_of_the_same_name_takes_the_place_of_the_first(health: Health) -> None:
    health.needed("start", lambda: "it is starting")
    health.needed("start", lambda: None)
    assert health.missing() == {}
