# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host of fakes for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_host import FakeHost
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Journal


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    database = Database(tmp_path)
    yield FakeHost(Journal(database, "kvm1"), tmp_path / "secondary")
    database.close()
