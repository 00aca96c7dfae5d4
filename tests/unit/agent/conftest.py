# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A journal on a real file for every test that wants one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Journal


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path)
    yield database
    database.close()


@pytest.fixture
def journal(database: Database) -> Journal:
    return Journal(database, "kvm1")
