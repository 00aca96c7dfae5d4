# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A development StorPool for each test, with a device directory for client 1 and bookkeeping for client 2."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster_process import DevclusterProcess, running_devcluster


@pytest.fixture
def storpool(tmp_path: Path) -> Iterator[DevclusterProcess]:
    with running_devcluster({1: tmp_path / "dev1", 2: tmp_path / "dev2", 3: None}) as process:
        yield process


@pytest.fixture
def dev1(tmp_path: Path) -> Path:
    """The device directory of client 1."""
    return tmp_path / "dev1"


@pytest.fixture
def dev2(tmp_path: Path) -> Path:
    """The device directory of client 2."""
    return tmp_path / "dev2"
