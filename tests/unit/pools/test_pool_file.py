# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The file of added pools: what is in it, who may read it, and what a bad one leads to."""

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from storpool_agent.errors import JournalUnavailable
from storpool_agent.pool_file import KeptPool, PoolFile
from storpool_agent.settings import SettingsInvalid

POOL = KeptPool(api="mgmt:81", template="ssd", cluster_id="a.b", token=SecretStr("canary4711"))


def path_in(state_dir: Path) -> Path:
    return state_dir / "pools" / "added.json"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = PoolFile(tmp_path)
    assert file.read() == {}
    file.write({"p": POOL})
    assert PoolFile(tmp_path).read() == {"p": POOL}
    file.write({})
    assert PoolFile(tmp_path).read() == {}


def test_the_agent_alone_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        PoolFile(tmp_path).write({"p": POOL})
    finally:
        os.umask(before)
    path = path_in(tmp_path)
    assert [oct(one.stat().st_mode & 0o777) for one in (path.parent, path)] == ["0o700", "0o600"]
    assert [one.name for one in path.parent.iterdir()] == ["added.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_one_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = PoolFile(tmp_path)
    file.write({"p": POOL})
    path_in(tmp_path).chmod(mode)
    with pytest.raises(SettingsInvalid, match=f"{path_in(tmp_path)}: others may read it.*chmod 600"):
        file.read()


def test_a_directory_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = PoolFile(tmp_path)
    file.write({"p": POOL})
    path_in(tmp_path).parent.chmod(0o750)
    with pytest.raises(SettingsInvalid, match="chmod 700"):
        file.read()
    with pytest.raises(JournalUnavailable, match="chmod 700"):
        file.write({})


def _written(**changes: object) -> str:
    pool = {"api": "mgmt:81", "template": "ssd", "cluster_id": None, "token": "canary4711", **changes}
    return json.dumps({"version": 1, "pools": {"p": pool}})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param(_written()[:-9], id="cut-off"),
        pytest.param("[]", id="a-list"),
        pytest.param('{"version": 2, "pools": {}}', id="a-newer-version"),
        pytest.param(_written(colour="red"), id="an-unknown-field"),
        pytest.param(_written(api="canary4711@mgmt:81"), id="a-bad-address"),
        pytest.param(_written(template="../x"), id="a-bad-template"),
        pytest.param(_written(token=None), id="no-token"),
        pytest.param(_written().replace('"p"', '"../p"'), id="a-bad-name"),
        pytest.param("canary4711", id="garbage"),
    ],
)
def test_a_damaged_one_is_told_and_not_shown(tmp_path: Path, content: str) -> None:
    file = PoolFile(tmp_path)
    file.write({"p": POOL})
    path_in(tmp_path).write_text(content)
    with pytest.raises(SettingsInvalid, match=r"it is damaged .* move it away, start the agent, and add") as damaged:
        file.read()
    assert "canary" not in str(damaged.value)
    assert damaged.value.__cause__ is None


def test_what_a_write_that_was_cut_off_has_left_is_removed(tmp_path: Path) -> None:
    file = PoolFile(tmp_path)
    file.write({"p": POOL})
    left = path_in(tmp_path).with_name("added.json.next")
    left.write_text('{"tok')
    assert PoolFile(tmp_path).read() == {"p": POOL}
    assert not left.exists()
    left.write_text('{"tok')
    file.write({})
    assert file.read() == {}


def test_a_write_that_fails_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = PoolFile(tmp_path)
    file.write({"p": POOL})

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(JournalUnavailable, match="No space left") as failed:
            file.write({})
    assert failed.value.facts == {"path": str(path_in(tmp_path))}
    assert PoolFile(tmp_path).read() == {"p": POOL}
