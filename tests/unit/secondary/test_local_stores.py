# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Directories of the host that commands may name, and ways out of them that are none."""

import os
from pathlib import Path

import pytest

from storpool_agent.errors import SecondaryNotAllowed, SecondaryUnavailable
from storpool_agent.secondary.storage import SecondaryStorage
from storpool_agent.settings import Secondary


def storage(directory: Path, *allowed: Path) -> SecondaryStorage:
    return SecondaryStorage(Secondary(directories=list(allowed), mount_dir=directory / "mounts"), directory)


def texts(agent: SecondaryStorage, store: str) -> None:
    """Use it."""
    agent.acquire(store, "r1")
    agent.write_text(store, "text", "text")
    agent.release(store, "r1")


def test_no_directory_is_allowed_by_default(tmp_path: Path) -> None:
    with pytest.raises(SecondaryNotAllowed, match=r"secondary\.directories") as caught:
        storage(tmp_path).acquire(f"file://{tmp_path}", "r1")
    assert caught.value.facts["setting"] == "directories"


def test_a_directory_is_allowed_with_all_below_it(tmp_path: Path) -> None:
    allowed, inner = tmp_path / "allowed", tmp_path / "allowed/a/b"
    inner.mkdir(parents=True)
    agent = storage(tmp_path, tmp_path / "other", allowed)
    for each in (allowed, inner):
        texts(agent, f"file://{each}")
        assert (each / "text").read_text() == "text"


@pytest.mark.parametrize("asked", ["", "allowed2", "allowe"], ids=["above", "longer", "shorter"])
def test_what_only_begins_alike_is_not_allowed(tmp_path: Path, asked: str) -> None:
    for each in ("allowed", "allowed2", "allowe"):
        (tmp_path / each).mkdir()
    with pytest.raises(SecondaryNotAllowed):
        storage(tmp_path, tmp_path / "allowed").acquire(f"file://{tmp_path / asked}", "r1")


def test_an_allowed_directory_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    agent = storage(tmp_path, tmp_path / "link")
    for store in (f"file://{tmp_path}/link/in", f"file://{tmp_path}/real/in"):
        texts(agent, store)
    assert agent.local_path(f"file://{tmp_path}/link/in", "text") == f"{tmp_path.resolve()}/real/in/text"


def test_a_link_does_not_lead_out_of_an_allowed_directory(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed/way").symlink_to(tmp_path / "secret")
    agent = storage(tmp_path, tmp_path / "allowed")
    for refused in (agent.check, lambda store: agent.acquire(store, "r1"), lambda store: agent.local_path(store, "x")):
        with pytest.raises(SecondaryNotAllowed):
            refused(f"file://{tmp_path}/allowed/way")


def test_a_directory_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "allowed/store").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    agent, store = storage(tmp_path, tmp_path / "allowed"), f"file://{tmp_path}/allowed/store"
    agent.acquire(store, "r1")
    (tmp_path / "allowed/store").rename(tmp_path / "allowed/moved")
    (tmp_path / "allowed/store").symlink_to(tmp_path / "secret")
    with pytest.raises(SecondaryUnavailable):
        agent.write_text(store, "text", "text")
    agent.release(store, "r1")
    assert os.listdir(tmp_path / "secret") == []  # noqa: PTH208 - the shortest


@pytest.mark.parametrize("what", ["nothing", "a file"])
def test_a_store_has_to_be_a_directory_that_is_there(tmp_path: Path, what: str) -> None:
    if what == "a file":
        (tmp_path / "store").touch()
    with pytest.raises(SecondaryUnavailable, match="cannot be opened"):
        storage(tmp_path, tmp_path).acquire(f"file://{tmp_path}/store", "r1")


@pytest.mark.parametrize("path", ["../x", "a/../x", "/x", "a//x", ".", "a/", "", "a\0"])
def test_a_path_that_the_contract_refuses_is_a_defect_here(tmp_path: Path, path: str) -> None:
    agent, store = storage(tmp_path, tmp_path), f"file://{tmp_path}"
    agent.acquire(store, "r1")
    with pytest.raises(ValueError, match="no path"):
        agent.exists(store, path)
    with pytest.raises(ValueError, match="no path"):
        agent.create_part(store, path, "r1")
    agent.release(store, "r1")


@pytest.mark.parametrize("owner", ["", "a/b", "..", "x" * 65])
def test_an_owner_that_is_no_id_is_a_defect(tmp_path: Path, owner: str) -> None:
    agent, store = storage(tmp_path, tmp_path), f"file://{tmp_path}"
    agent.acquire(store, "r1")
    with pytest.raises(ValueError, match="an owner"):
        agent.create_part(store, "x", owner)
    agent.release(store, "r1")
