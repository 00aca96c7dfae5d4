# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent finds by itself: only what lasts counts, and news of it are told once."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from fake_host import FakeHost
from storpool_agent.bus.publisher import Message
from storpool_agent.drift_watch import DriftWatch
from storpool_agent.errors import LibvirtUnavailable
from storpool_agent.journal.journal import Journal
from storpool_agent.storpool.model import Volume

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Scene:
    """A host of fakes, its watch, and who listens to events. Each scan is five minutes after the one before."""

    def __init__(self, journal: Journal) -> None:
        self.fakes = FakeHost(journal)
        self.now = NOON
        self.messages: list[Message] = []
        self.watch = DriftWatch(self.fakes.host, journal, self, 300, lambda: self.now)

    def publish(self, *messages: Message) -> None:
        self.messages += messages

    def scan(self) -> list[str]:
        with capture_logs() as said:
            self.watch.scan()
        self.now += timedelta(minutes=5)
        return [line["event"] for line in said]

    def found(self) -> list[tuple[str, datetime]]:
        return [(one.kind, one.first_seen) for one in self.watch.findings]

    def told(self) -> list[dict[str, Any]]:
        """The data of each event so far."""
        told, self.messages = self.messages, []
        assert all(one.routing_key == "kvm1.drift" for one in told)
        return [json.loads(one.body)["data"] for one in told]

    def left(self) -> Volume:
        """A volume that is attached here, and that no machine has."""
        volume = self.fakes.storpool.add()
        self.fakes.storpool.attach_elsewhere(volume, client=1)
        return volume


@pytest.fixture
def scene(journal: Journal) -> Scene:
    return Scene(journal)


def test_a_host_in_order_says_so_once_after_its_start(scene: Scene) -> None:
    assert [scene.scan() for _ in range(3)] == [[], [], []]
    assert scene.told() == [{"scannedAt": "2026-11-27T12:05:00Z", "drifts": []}]
    assert (scene.watch.findings, scene.watch.scanned_at) == ((), NOON + timedelta(minutes=10))


def test_what_is_seen_twice_counts_from_when_it_was_seen_first(scene: Scene) -> None:
    volume = scene.left()
    assert (scene.scan(), scene.found(), scene.told()) == ([], [], [])
    assert (scene.scan(), scene.found()) == (["drift found"], [("not-used", NOON)])
    ((told),) = scene.told()
    assert [(one["globalId"], one["firstSeen"]) for one in told["drifts"]] == [
        (volume.global_id, "2026-11-27T12:00:00Z")
    ]
    assert (scene.scan(), scene.found(), scene.told()) == ([], [("not-used", NOON)], [])


def test_what_is_gone_is_told_too(scene: Scene) -> None:
    scene.left()
    scene.scan()
    scene.scan()
    scene.told()
    scene.fakes.storpool.attached.clear()
    assert (scene.scan(), scene.found()) == (["drift gone"], [])
    assert [told["drifts"] for told in scene.told()] == [[]]


def test_what_moves_on_between_two_looks_is_not_told(scene: Scene) -> None:
    for _ in range(3):
        scene.left()
        scene.scan()
        scene.fakes.storpool.attached.clear()
    assert scene.found() == []
    assert [told["drifts"] for told in scene.told()] == [[]]


def test_a_look_that_fails_says_nothing_of_what_is_there(scene: Scene) -> None:
    scene.left()
    scene.scan()
    scene.scan()
    for _ in range(2):
        scene.fakes.domains.fail("below", LibvirtUnavailable("libvirt is down"))
    assert (scene.scan(), scene.scan()) == (["drift not looked for"], [])
    assert scene.found() == [("not-used", NOON)]
    assert (scene.scan(), scene.found()) == ([], [("not-used", NOON)])


def test_a_report_on_request_knows_since_when_and_is_two_looks_of_the_watch(scene: Scene) -> None:
    scene.left()
    scene.scan()
    fresh = scene.left()
    report = scene.watch.report()
    assert [(one.first_seen, one.global_id == fresh.global_id) for one in report.drifts] == [
        (NOON, False),
        (NOON + timedelta(minutes=5), True),
    ]
    assert (report.scanned_at, report.drifts) == (scene.watch.scanned_at, list(scene.watch.findings))
    assert report.scanned_at == NOON + timedelta(minutes=5)
    assert [len(one["drifts"]) for one in scene.told()] == [1, 2]
