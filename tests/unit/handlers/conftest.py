# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host of fakes for each test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from copy_scene import Scene
from fake_host import FakeHost
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Journal


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    database = Database(tmp_path)
    yield FakeHost(Journal(database, "kvm1"), tmp_path / "secondary")
    database.close()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory for tests that make thousands of files: on a disk they would take minutes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)


@pytest.fixture
def host_journal(memory: Path) -> Iterator[Journal]:
    """A journal for several hosts of one test."""
    database = Database(memory)
    database._writer.execute("PRAGMA synchronous=OFF")  # thousands of commits, none of which has to last
    yield Journal(database, "kvm1")
    database.close()


@pytest.fixture
def scene(host_journal: Journal, memory: Path) -> Scene:
    return Scene(host_journal, memory / "secondary")
