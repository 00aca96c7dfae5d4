# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tickets in the journal, and who is told of one that nobody has closed."""

import json
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from fake_host import FakeHost
from fake_outbox import FakeOutbox
from storpool_agent import draining, drift, picture, status
from storpool_agent.deadline import Deadline
from storpool_agent.drift import drifts
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import RETENTION_S, Journal
from storpool_agent.journal.migrations import Ticket, TicketDisk
from storpool_agent.journal.overview import Overview
from storpool_agent.overdue import Overdue

VM, GID = str(uuid4()), "d.n.a1"


def ticket(**changes: Any) -> Ticket:
    fields: dict[str, Any] = {
        "migration": str(uuid4()),
        "role": "destination",
        "vm": VM,
        "name": "web-1",
        "peer": "kvm2",
        "expires_at": time() + 600,
        "disks": (TicketDisk(GID, "rw"), TicketDisk("d.n.a2", "ro", encrypted=True)),
    }
    return Ticket(**{**fields, **changes})


def test_a_ticket_is_there_after_a_restart(tmp_path: Path) -> None:
    written = ticket()
    for _ in range(2):
        database = Database(tmp_path)
        tickets = Journal(database, "kvm1").tickets
        kept = tickets.open(written)
        assert (kept.migration, kept.vm, kept.disks, kept.is_open) == (written.migration, VM, written.disks, True)
        assert tickets.with_volume(GID) == tickets.of_machine(VM) == kept
        database.close()


def test_the_first_ticket_of_a_migration_stays(journal: Journal) -> None:
    first = journal.tickets.open(ticket())
    again = journal.tickets.open(ticket(migration=first.migration, name="other", disks=()))
    assert again == first


def test_what_it_attached_is_known_by_volume(journal: Journal) -> None:
    opened = journal.tickets.open(ticket())
    journal.tickets.attaching(opened.migration, GID, now=True)
    found = journal.tickets.get(opened.migration)
    assert found is not None
    assert [one.attached_now for one in found.disks] == [True, False]


def test_a_closed_ticket_keeps_nobody_from_anything_and_is_not_opened_again(journal: Journal) -> None:
    opened = journal.tickets.open(ticket())
    journal.tickets.close(opened.migration, VM, "rolled-back")
    assert journal.tickets.of_machine(VM) is None
    assert journal.tickets.with_volume(GID) is None
    assert journal.tickets.under_way() == []
    assert journal.tickets.open(ticket(migration=opened.migration)).state == "rolled-back"


def test_one_that_never_came_can_be_closed(journal: Journal) -> None:
    migration = str(uuid4())
    journal.tickets.close(migration, VM, "rolled-back")
    found = journal.tickets.get(migration)
    assert found is not None
    assert (found.role, found.state) == (None, "rolled-back")


def test_one_that_is_withdrawn_is_forgotten_and_a_closed_one_is_not(journal: Journal) -> None:
    opened, closed = journal.tickets.open(ticket()), journal.tickets.open(ticket())
    journal.tickets.close(closed.migration, VM, "finished")
    for one in (opened, closed):
        journal.tickets.withdraw(one.migration)
    assert journal.tickets.get(opened.migration) is None
    assert journal.tickets.get(closed.migration) is not None


def test_closed_ones_are_forgotten_with_the_requests_of_their_time(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, closed = journal.tickets.open(ticket()), journal.tickets.open(ticket())
    journal.tickets.close(closed.migration, VM, "finished")
    journal.forget()
    assert journal.tickets.get(closed.migration) is not None
    monkeypatch.setattr("storpool_agent.journal.journal.time", lambda: time() + RETENTION_S + 1)
    journal.forget()
    assert journal.tickets.get(closed.migration) is None
    assert journal.tickets.get(opened.migration) is not None


# one that nobody has closed


def test_it_is_told_once_when_it_expires(journal: Journal) -> None:
    late = journal.tickets.open(ticket(expires_at=time() - 1))
    journal.tickets.open(ticket(vm=str(uuid4())))
    outbox = FakeOutbox()
    overdue = Overdue("kvm1", journal, outbox)  # type: ignore[arg-type]
    with capture_logs() as said:
        overdue.look()
        overdue.look()
    assert [line["event"] for line in said] == ["migration expired"]
    [outgoing] = journal.outgoing.due()
    assert outgoing.routing_key == "kvm1.migration.expired"
    data = json.loads(outgoing.body)["data"]
    assert (data["migration"], data["vm"], data["role"], data["peer"]) == (late.migration, VM, "destination", "kvm2")
    assert (data["expired"], data["volumes"]) == (True, [GID, "d.n.a2"])


@pytest.fixture
def host(journal: Journal) -> FakeHost:
    fakes = FakeHost(journal)
    volume = fakes.storpool.add()
    assert volume.global_id == GID
    for client in (1, 2):
        fakes.storpool.attach_elsewhere(volume, client)
    return fakes


def kinds(host: FakeHost) -> list[str]:
    seen = picture.take(host.host, host.journal, Deadline.after(5))
    return sorted(one.kind for one in drifts(seen, drift._NOT_YET))


def test_while_it_is_open_two_writers_are_right_and_then_they_are_not(host: FakeHost) -> None:
    assert kinds(host) == ["not-used", "two-writers"]
    opened = host.journal.tickets.open(ticket())
    assert kinds(host) == []
    host.journal.tickets.close(opened.migration, VM, "finished")
    assert kinds(host) == ["not-used", "two-writers"]


def test_an_expired_one_is_a_drift(host: FakeHost) -> None:
    late = host.journal.tickets.open(ticket(expires_at=time() - 1))
    seen = picture.take(host.host, host.journal, Deadline.after(5))
    [found] = [one for one in drifts(seen, drift._NOT_YET) if one.kind == "migration-expired"]
    assert (found.vm, found.global_id) == (VM, None)
    assert late.migration in found.detail
    assert found.repair == f"storpool-ctl --host kvm1 finish-migration --migration {late.migration} --vm {VM}"


def test_the_status_and_a_drain_tell_of_it(tmp_path: Path) -> None:
    database = Database(tmp_path)
    fakes = FakeHost(Journal(database, "kvm1"))
    opened = fakes.journal.tickets.open(ticket(expires_at=time() - 1))
    told = status.take(fakes.host, Overview(database), tmp_path, "1", None)
    assert [str(one.migration) for one in told.migrations] == [opened.migration]
    assert any(opened.migration in one and "expired" in one for one in told.troubles)
    drained = draining.drained(fakes.host, fakes.journal, [])
    assert (drained.quiet, [one.vm for one in drained.migrations]) == (False, [VM])
    database.close()
