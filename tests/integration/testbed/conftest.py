# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Plain block devices for the guests to use."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from guest import loop_device


@pytest.fixture
def make_device(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Devices of so many MiB, over tmp_path/disk-0, disk-1, ..."""
    with ExitStack() as ending:
        backings = (tmp_path / f"disk-{number}" for number in range(100))
        yield lambda size_mib: ending.enter_context(loop_device(next(backings), size_mib))


@pytest.fixture
def device(make_device: Callable[[int], Path]) -> Path:
    return make_device(32)
