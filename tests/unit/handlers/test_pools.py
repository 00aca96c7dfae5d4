# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Adding and removing pools, their room, and what a host says of itself."""

import pytest
from pydantic import SecretStr

from fake_host import FakeHost
from fakes import FakeStorPool
from storpool_agent.errors import LibvirtTimeout, LibvirtUnavailable, StorPoolUnauthorized, StorPoolUnavailable
from storpool_commands.errors import ErrorCode
from storpool_commands.pools import AddStoragePool, GetHostInfo, GetPoolStats, RemoveStoragePool

API = "mgmt:81"
CANARY = "canary4711"


def add(name: str = "p", *, template: str = "dev", api: str = API, token: str = CANARY) -> AddStoragePool:
    return AddStoragePool(name=name, url=SecretStr(f"storpool://{token}@{api}/{template}"))


def test_a_pool_is_added_with_its_room(host: FakeHost) -> None:
    storpool = host.pools.apis[API] = FakeStorPool(capacity_bytes=100, free_bytes=60)
    storpool.add()
    storpool.add(snapshot=True)
    done = host.succeed(add())
    assert done.added_now
    assert done.pool.model_dump() == {
        "name": "p",
        "api": API,
        "template": "dev",
        "capacity_bytes": 100,
        "free_bytes": 60,
        "used_bytes": 40,
        "volumes": 1,
        "snapshots": 1,
    }
    assert list(host.pools.kept) == ["p"]


def test_adding_it_again_is_a_success(host: FakeHost) -> None:
    host.succeed(add())
    reply = host.run(add())
    assert reply.status == "success"
    assert [(step.step, step.status) for step in reply.steps][-1] == ("keep", "already")
    assert not reply.result.added_now  # type: ignore[union-attr]


def test_a_template_that_is_not_there_is_told_with_those_that_are(host: FakeHost) -> None:
    host.pools.apis[API] = FakeStorPool(template_names={"ssd", "hdd"})
    failure = host.fail(add())
    assert (failure.code, failure.side_effects) == (ErrorCode.TEMPLATE_NOT_FOUND, "none")
    assert failure.facts == {"pool": "p", "api": API, "template": "dev", "templates": ["hdd", "ssd"]}
    assert "it has hdd, ssd" in failure.message
    assert host.pools.kept == {}


def test_a_long_list_of_templates_is_cut_for_the_reader(host: FakeHost) -> None:
    host.pools.apis[API] = FakeStorPool(template_names={f"t{number:02}" for number in range(25)})
    assert host.fail(add()).message.endswith("t18, t19 and 5 more")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorPoolUnauthorized("wrong token"), ErrorCode.STORPOOL_UNAUTHORIZED),
        (StorPoolUnavailable("nobody there"), ErrorCode.STORPOOL_UNAVAILABLE),
    ],
)
def test_a_pool_that_cannot_be_asked_is_not_added(
    host: FakeHost, error: StorPoolUnauthorized | StorPoolUnavailable, code: ErrorCode
) -> None:
    host.pools.apis[API] = FakeStorPool(failures={"templates": [error]})
    failure = host.fail(add())
    assert (failure.code, failure.side_effects, [step.step for step in failure.steps]) == (
        code,
        "none",
        ["parse", "connect"],
    )
    assert host.pools.kept == {}


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (add(token="another"), ErrorCode.POOL_CONFLICT),
        (add("q"), ErrorCode.TEMPLATE_IN_USE),
        (AddStoragePool(name="p", url=SecretStr("canary4711")), ErrorCode.INVALID_COMMAND),
    ],
)
def test_a_refusal_changes_nothing_and_shows_nothing(host: FakeHost, second: AddStoragePool, code: ErrorCode) -> None:
    host.succeed(add())
    failure = host.fail(second)
    assert (failure.code, failure.side_effects) == (code, "none")
    assert "canary" not in failure.model_dump_json()
    assert list(host.pools.kept) == ["p"]


def test_a_pool_is_removed_once_without_being_asked(host: FakeHost) -> None:
    host.succeed(add())
    host.pools.apis[API].failures["templates"] = [StorPoolUnavailable("gone for good")]
    assert host.succeed(RemoveStoragePool(name="p")).removed_now
    assert not host.succeed(RemoveStoragePool(name="p")).removed_now


def test_the_room_of_all_has_every_template_of_the_hosts_own(host: FakeHost) -> None:
    host.storpool.template_names = {"dev", "ssd"}
    host.succeed(add())
    found = host.succeed(GetPoolStats()).pools
    assert [(pool.name, pool.template) for pool in found] == [("", "dev"), ("", "ssd"), ("p", "dev")]
    assert [pool.name for pool in host.succeed(GetPoolStats(pool="p")).pools] == ["p"]
    assert host.fail(GetPoolStats(pool="q")).code is ErrorCode.POOL_NOT_FOUND


def test_a_pool_that_cannot_be_asked_fails_all_and_is_named(host: FakeHost) -> None:
    host.succeed(add())
    host.pools.apis[API].failures["templates"] = [StorPoolUnavailable("nobody there", api=API)]
    failure = host.fail(GetPoolStats())
    assert (failure.code, failure.facts["pool"]) == (ErrorCode.STORPOOL_UNAVAILABLE, "p")
    assert failure.message == "pool p: nobody there"
    host.storpool.failures["templates"] = [StorPoolUnavailable("nobody there")]
    assert host.fail(GetPoolStats()).message == "the host's own pool: nobody there"


def test_a_template_that_is_gone_fails_the_room_of_its_pool(host: FakeHost) -> None:
    host.succeed(add())
    host.pools.apis[API].template_names.clear()
    failure = host.fail(GetPoolStats(pool="p"))
    assert (failure.code, failure.facts["templates"]) == (ErrorCode.TEMPLATE_NOT_FOUND, [])
    assert failure.message.endswith("it has none")


def test_a_host_says_what_it_is(host: FakeHost) -> None:
    host.succeed(add())
    found = host.succeed(GetHostInfo())
    assert (found.host, found.our_id, found.protocol, found.pools) == ("kvm1", 1, 1, ["p"])
    assert (found.cluster_id, found.location) == (None, None)
    assert (found.client.client, found.client.status, found.cluster_status) == (1, "running", "running")
    assert (found.libvirt, found.qemu) == ("9.0.0", "7.2.0")


def test_a_host_without_libvirt_says_so(host: FakeHost) -> None:
    host.domains.fail("versions", LibvirtUnavailable("down"))
    found = host.succeed(GetHostInfo())
    assert (found.libvirt, found.qemu) == (None, None)
    host.domains.fail("versions", LibvirtTimeout("hangs"))
    assert host.fail(GetHostInfo()).code is ErrorCode.LIBVIRT_TIMEOUT


def test_a_client_that_the_cluster_does_not_know_is_null(host: FakeHost) -> None:
    host.storpool.our_id = 7
    services = host.storpool.services

    def of_another(deadline: object) -> object:
        host.storpool.our_id = 8
        try:
            return services(deadline)  # type: ignore[arg-type]
        finally:
            host.storpool.our_id = 7

    host.storpool.services = of_another  # type: ignore[assignment]
    found = host.succeed(GetHostInfo())
    assert (found.our_id, found.client) == (7, None)
