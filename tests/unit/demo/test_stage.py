# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the demo's devices go: into /dev, unless a real StorPool client is there."""

from pathlib import Path

import pytest

from demo import stage


@pytest.fixture(autouse=True)
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stage, "DEV", tmp_path)
    monkeypatch.setattr(stage, "STORPOOL_CONF", tmp_path / "storpool.conf")
    return tmp_path


def test_a_host_without_storpool_gets_the_real_paths(dev: Path) -> None:
    with stage._device_root() as root:
        assert root == dev


def test_a_configured_storpool_host_is_left_alone(dev: Path) -> None:
    (dev / "storpool.conf").touch()
    with stage._device_root() as root:
        assert root.parent == dev
    assert not root.exists()


def test_devices_of_a_real_client_are_left_alone(dev: Path) -> None:
    (dev / "storpool-byid").mkdir()
    (dev / "storpool-byid" / "a.b.c").symlink_to("/dev/null")  # any device that is no loop device
    with stage._device_root() as root:
        assert root != dev
