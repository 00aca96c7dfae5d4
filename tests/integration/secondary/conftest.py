# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A server with one store, of either kind of file system."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas import Nas, running_nas


@pytest.fixture
def nas(tmp_path: Path, nfs_client: None) -> Iterator[Nas]:
    """On ext4, small enough to be filled."""
    with running_nas("ext4", tmp_path) as made:
        yield made


@pytest.fixture
def xfs_nas(tmp_path: Path, nfs_client: None) -> Iterator[Nas]:
    """On XFS, which can be shut down."""
    with running_nas("xfs", tmp_path) as made:
        yield made
