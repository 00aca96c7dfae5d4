# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What of the agent's state is trouble, and what is a day's work."""

import os
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from fake_host import FakeHost
from storpool_agent import status
from storpool_agent.errors import JournalUnavailable, LibvirtUnavailable, StorPoolUnavailable
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Arrival, Journal
from storpool_agent.journal.overview import Overview
from storpool_agent.journal.read_only import Unreadable
from storpool_agent.journal.temporaries import Temporary
from storpool_agent.journal.thaws import PendingThaw
from storpool_agent.journal.unplugs import PendingUnplug
from storpool_commands.control import AgentStatus, ProcessStatus
from unit.commands.host_samples import PROCESS

CONNECTED = PROCESS.model_copy(update={"links": PROCESS.links[:1]})


@pytest.fixture
def host(journal: Journal) -> FakeHost:
    return FakeHost(journal)


def take(host: FakeHost, directory: Path, process: ProcessStatus | None = CONNECTED) -> AgentStatus:
    return status.take(host.host, Overview(host.journal._database), directory, "1", process)


def test_a_quiet_host_has_no_trouble(host: FakeHost, tmp_path: Path) -> None:
    told = take(host, tmp_path)
    assert told.troubles == []
    assert (told.storpool.reachable, told.libvirt.reachable, told.unfinished) == (True, True, 0)
    assert (told.journal.path, told.journal.size_bytes > 0) == (str(tmp_path / "journal.db"), True)


def test_work_is_no_trouble(host: FakeHost, tmp_path: Path) -> None:
    host.journal.accept([Arrival("r", "ping", b"{}", None, "word")])
    host.journal.finish("r", b"{}")
    host.journal.unplugs.expect(PendingUnplug("d.n.a1", "vm", "r"))
    host.journal.thaws.expect(PendingThaw("vm", "r", thaw_at=1e12))
    told = take(host, tmp_path)
    assert (told.unsent_replies, told.pending_unplugs, told.pending_thaws, told.troubles) == (1, 1, 1, [])


def test_what_lasts_too_long_is(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.journal.accept([Arrival("r", "ping", b"{}", None, "word")])
    host.journal.finish("r", b"{}")
    host.journal.unplugs.expect(PendingUnplug("d.n.a1", "vm", "r"))
    host.journal.thaws.expect(PendingThaw("vm", "r", thaw_at=1.0))
    host.journal.temporaries.add(Temporary("r", "use", "d.n.a1"))
    monkeypatch.setattr(status, "UNSENT_S", -1.0)
    monkeypatch.setattr(status, "UNPLUG_S", -1.0)
    assert [one.split(",")[0] for one in take(host, tmp_path).troubles] == [
        "replies are not sent: 1",
        "guests have not let go of a disk: 1",
        "guests may be frozen for longer than they should: 1",
        "of ended copies could not be taken away yet: 1",
    ]


def test_who_does_not_answer_is_named(host: FakeHost, tmp_path: Path) -> None:
    host.storpool.failures["services"] = [StorPoolUnavailable("no way there")]
    host.domains.fail("versions", LibvirtUnavailable("is it running?"))
    told = take(host, tmp_path, PROCESS)
    assert told.troubles == [
        "not connected to the broker broker:5672: replies are not sent (the broker has no such vhost)",
        "StorPool: no way there",
        "libvirt: is it running?",
    ]


def test_a_disk_that_is_nearly_full_is_trouble(host: FakeHost, tmp_path: Path, mocker: MockerFixture) -> None:
    full: Any = os.statvfs_result((4096, 4096, 1 << 20, 100, 100, 1, 1, 1, 0, 255))
    mocker.patch.object(os, "statvfs", return_value=full)
    (trouble,) = take(host, tmp_path).troubles
    assert trouble.startswith(f"only 0 MiB are free at {tmp_path}")


def test_a_journal_that_cannot_be_read_is_told_with_the_rest(host: FakeHost, tmp_path: Path) -> None:
    overview = Overview(Unreadable(JournalUnavailable("no journal")))
    told = status.take(host.host, overview, tmp_path / "none", "1", None)
    assert told.troubles == ["no journal", "no agent answers"]
    assert told.storpool.reachable


def test_a_state_directory_that_is_not_there_has_no_size(host: FakeHost, tmp_path: Path, database: Database) -> None:
    assert status.take(host.host, Overview(database), tmp_path / "none", "1", CONNECTED).journal.size_bytes == 0
