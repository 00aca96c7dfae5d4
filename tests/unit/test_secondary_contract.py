# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The contract of secondary storage, on the fake and on a directory of this host."""

from pathlib import Path

import pytest

from contract.secondary import SecondaryContract, Stores
from fake_secondary import FakeSecondary
from storpool_agent.secondary.storage import SecondaryStorage
from storpool_agent.settings import Secondary


class TestFake(SecondaryContract):
    @pytest.fixture
    def stores(self, tmp_path: Path) -> Stores:
        not_allowed = "file:///etc"
        secondary = FakeSecondary(tmp_path, not_allowed={not_allowed})
        return acquired(Stores(secondary, "file:///srv", secondary.files("file:///srv"), not_allowed))


class TestRealOne(SecondaryContract):
    @pytest.fixture
    def stores(self, tmp_path: Path) -> Stores:
        allowed = tmp_path / "allowed"
        (allowed / "files").mkdir(parents=True)
        settings = Secondary(directories=[allowed], mount_dir=tmp_path / "mounts")
        secondary = SecondaryStorage(settings, tmp_path / "scratch")
        return acquired(Stores(secondary, f"file://{allowed}/files", allowed / "files", f"file://{tmp_path}"))


def acquired(stores: Stores) -> Stores:
    for owner in ("r1", "r2"):
        stores.secondary.acquire(stores.store, owner)
    return stores
