# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which pools a host knows, and which it refuses to know."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from fakes import FakeStorPool
from storpool_agent.errors import InvalidCommand, JournalUnavailable, PoolConflict, PoolNotFound, TemplateInUse
from storpool_agent.host import Pool, StorPool
from storpool_agent.pool_file import PoolFile
from storpool_agent.pools import KnownPools
from storpool_agent.settings import Pool as PoolSettings
from storpool_agent.settings import SettingsInvalid

CANARY = "canary4711"
CONFIGURED = {"api": "mgmt:81", "token": "t", "template": "nvme"}


class Desk:
    """The pools of one state directory, over restarts."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.connected: list[tuple[str, str]] = []

    def pools(self, **configured: Mapping[str, Any]) -> KnownPools:
        settings = {name: PoolSettings.model_validate(values) for name, values in configured.items()}
        own: Any = FakeStorPool()
        return KnownPools(Pool("", "own:81", own, None, None), settings, PoolFile(self.state_dir), self._connect)

    def _connect(self, api: str, token: SecretStr) -> StorPool:
        self.connected.append((api, token.get_secret_value()))
        storpool: Any = FakeStorPool()
        return storpool  # type: ignore[no-any-return]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def opened(
    pools: KnownPools,
    name: str = "p",
    *,
    api: str = "mgmt:81",
    token: str = CANARY,
    template: str = "ssd",
    cluster_id: str | None = None,
) -> Pool:
    return pools.open(name, SecretStr(f"storpool://{token}@{api}/{template}"), cluster_id)


def test_the_hosts_own_is_known_without_a_name(desk: Desk) -> None:
    pools = desk.pools()
    assert pools.get(None).api == "own:81"
    assert [pool.name for pool in pools.all()] == [""]
    with pytest.raises(PoolNotFound, match="addStoragePool makes it known"):
        pools.get("p")


def test_a_pool_is_known_once_it_is_kept_and_after_a_restart(desk: Desk) -> None:
    pools = desk.pools()
    pool = opened(pools, cluster_id="a.b")
    with pytest.raises(PoolNotFound):
        pools.get("p")
    assert pools.keep(pool)
    assert pools.get("p") is pool
    again = desk.pools().get("p")
    assert (again.api, again.template, again.cluster_id) == ("mgmt:81", "ssd", "a.b")
    assert desk.connected == [("mgmt:81", CANARY)] * 2
    assert CANARY not in repr(again)


def test_the_same_pool_again_is_no_change(desk: Desk) -> None:
    pools = desk.pools()
    assert pools.keep(opened(pools))
    assert not pools.keep(opened(pools))
    assert not desk.pools().keep(opened(pools))


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"api": "other:81"}, "api"),
        ({"template": "hdd"}, "template"),
        ({"token": "canary4712"}, "token"),
        ({"cluster_id": "a.b"}, "clusterId"),
    ],
)
def test_another_pool_of_the_same_name_is_refused(desk: Desk, change: dict[str, str], differing: str) -> None:
    pools = desk.pools()
    pools.keep(opened(pools))
    with pytest.raises(PoolConflict, match=f"known with another {differing}: remove it first") as refused:
        pools.keep(opened(pools, **change))
    assert refused.value.facts == {"pool": "p", "differing": [differing]}
    assert "canary" not in str(refused.value)
    assert desk.pools().keep(opened(pools)) is False


def test_a_template_belongs_to_one_pool(desk: Desk) -> None:
    pools = desk.pools()
    pools.keep(opened(pools))
    with pytest.raises(TemplateInUse, match="pool p has template ssd of mgmt:81 already") as refused:
        pools.keep(opened(pools, "q", api="MGMT:81", token="other"))
    assert refused.value.facts["used_by"] == "p"
    assert pools.keep(opened(pools, "q", template="hdd"))
    assert pools.keep(opened(pools, "r", api="mgmt:82"))
    assert [pool.name for pool in pools.all()] == ["", "p", "q", "r"]


def test_a_pool_is_forgotten_for_good(desk: Desk) -> None:
    pools = desk.pools()
    assert not pools.forget("p")
    pools.keep(opened(pools))
    pools.keep(opened(pools, "q", template="hdd"))
    assert pools.forget("p")
    assert not pools.forget("p")
    assert [pool.name for pool in desk.pools().all()] == ["", "q"]
    assert pools.keep(opened(pools, token="another"))


def test_a_url_that_is_none_is_refused_without_being_shown(desk: Desk) -> None:
    with pytest.raises(InvalidCommand, match="pool p: the url has no token and @") as refused:
        desk.pools().open("p", SecretStr(f"storpool://{CANARY}"), None)
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None


def test_what_cannot_be_written_is_not_known(desk: Desk) -> None:
    pools = desk.pools()
    pools.keep(opened(pools))
    (desk.state_dir / "pools").chmod(0o755)
    with pytest.raises(JournalUnavailable):
        pools.keep(opened(pools, "q", template="hdd"))
    with pytest.raises(JournalUnavailable):
        pools.forget("p")
    assert [pool.name for pool in pools.all()] == ["", "p"]


def test_a_pool_of_agent_toml_is_neither_replaced_nor_removed(desk: Desk) -> None:
    pools = desk.pools(p=CONFIGURED)
    assert pools.get("p").template == "nvme"
    with pytest.raises(PoolConflict, match=r"known in agent\.toml with another template, token: change it there"):
        pools.keep(opened(pools))
    with pytest.raises(PoolConflict, match=r"pool p is one of agent\.toml"):
        pools.forget("p")
    assert not pools.keep(opened(pools, token="t", template="nvme"))
    with pytest.raises(TemplateInUse, match="pool p"):
        pools.keep(opened(pools, "q", template="nvme"))


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"api": "MGMT"}, "pools.q: pool p has the same api and template"),
        ({"api": "http://mgmt:81/x"}, "pools.q.api: the address"),
        ({"token": ""}, "pools.q: neither token_file nor token is set"),
        ({"token": None}, "pools.q: neither token_file nor token is set"),
        ({"token": None, "token_file": "/none"}, "/none: No such file"),
    ],
)
def test_a_pool_of_agent_toml_that_cannot_be_is_named(desk: Desk, second: dict[str, Any], says: str) -> None:
    first = {**CONFIGURED, "api": "mgmt"}
    with pytest.raises(SettingsInvalid) as invalid:
        desk.pools(p=first, q={**first, **second})
    assert str(invalid.value).startswith(says)


def test_agent_toml_goes_before_what_was_added_and_says_so(desk: Desk) -> None:
    pools = desk.pools()
    pools.keep(opened(pools))
    with capture_logs() as said:
        pools = desk.pools(p=CONFIGURED)
    assert [(line["event"], line["pool"]) for line in said] == [("added pool passed over", "p")]
    assert pools.get("p").template == "nvme"
    assert desk.pools().get("p").template == "ssd"
    pools.keep(opened(pools, "q"))
    assert [pool.name for pool in desk.pools().all()] == ["", "q"]
