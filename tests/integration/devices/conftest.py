# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A directory that stands for /dev, and the tree that looks at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_root import DeviceRoot, device_root
from storpool_agent.devices.tree import DeviceTree


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DeviceRoot]:
    with device_root(tmp_path) as made:
        yield made


@pytest.fixture
def tree(root: DeviceRoot) -> Iterator[DeviceTree]:
    tree = DeviceTree(root.path)
    tree.start()
    yield tree
    tree.stop()
