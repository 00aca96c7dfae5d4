# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A user is made once, mended when it is not as it should be, and its password is nowhere but in its file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fake_rabbitmqctl import GUEST, FakeRabbitmqCtl
from storpool_commands.client.cli.app import program
from storpool_commands.client.provisioning import roles
from storpool_commands.client.provisioning.change import ProvisioningFailed
from storpool_commands.client.provisioning.passwords import is_hash_of
from storpool_commands.client.provisioning.rabbitmqctl import RabbitmqCtl
from storpool_commands.client.provisioning.users import User, provision_users

ROLE = roles.host("kvm1")


@pytest.fixture
def ctl() -> FakeRabbitmqCtl:
    return FakeRabbitmqCtl()


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User("host-kvm1", "storpool", ROLE, tmp_path / "password")


def done(ctl: FakeRabbitmqCtl, *users: User) -> list[str]:
    return [change.done for change in provision_users(ctl, users)]


def test_a_new_user_is_made_with_all_that_it_may(ctl: FakeRabbitmqCtl, user: User) -> None:
    assert done(ctl, user) == ["made"] * 5
    place = {"user": "host-kvm1", "vhost": "storpool"}
    may = {"configure": ROLE.configure, "write": ROLE.write, "read": ROLE.read}
    assert [one["name"] for one in ctl.kept["vhosts"]] == ["/", "storpool"]
    assert ctl.kept["permissions"] == [{**place, **may}]
    assert ctl.kept["topic_permissions"] == [
        {**place, "exchange": topic.exchange, "write": topic.write, "read": topic.read} for topic in ROLE.topics
    ]


def test_again_nothing_is_changed(ctl: FakeRabbitmqCtl, user: User) -> None:
    done(ctl, user)
    ctl.defined.clear()
    assert done(ctl, user) == ["unchanged"] * 5
    assert ctl.defined == []


def test_several_are_made_at_once(ctl: FakeRabbitmqCtl) -> None:
    users = [User(f"host-{name}", "storpool", roles.host(name), None) for name in ("kvm1", "kvm2")]
    assert done(ctl, *users) == ["made"] * 9
    assert len(ctl.defined) == 1


def test_the_password_is_in_its_file_for_its_owner_alone(ctl: FakeRabbitmqCtl, user: User) -> None:
    done(ctl, user)
    assert user.password_file is not None
    password = user.password_file.read_text().strip()
    assert len(password) >= 32
    assert user.password_file.stat().st_mode & 0o777 == 0o600
    (kept,) = [one["password_hash"] for one in ctl.kept["users"] if one["name"] == "host-kvm1"]
    assert is_hash_of(kept, password)
    assert password not in str(ctl.defined)


def test_a_hash_is_as_rabbitmq_keeps_it() -> None:
    assert is_hash_of(str(GUEST["password_hash"]), "guest")
    assert not is_hash_of(str(GUEST["password_hash"]), "guests")
    assert not is_hash_of("", "guest")
    assert not is_hash_of("no base64", "guest")


def spoil(section: str, **fields: Any) -> Callable[[FakeRabbitmqCtl], None]:
    def change(ctl: FakeRabbitmqCtl) -> None:
        ctl.kept[section][-1].update(fields)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(spoil("users", password_hash=GUEST["password_hash"]), id="password"),
        pytest.param(spoil("users", tags=["impersonator"]), id="tags"),
        pytest.param(spoil("permissions", write=".*"), id="permissions"),
        pytest.param(spoil("topic_permissions", write=".*"), id="topics"),
    ],
)
def test_what_is_not_as_it_should_be_is_mended_and_nothing_else(
    ctl: FakeRabbitmqCtl, user: User, change: Callable[[FakeRabbitmqCtl], None]
) -> None:
    done(ctl, user)
    change(ctl)
    ctl.defined.clear()
    assert sorted(done(ctl, user)) == ["changed", *["unchanged"] * 4]
    assert [len(entries) for told in ctl.defined for entries in told.values()] == [1]
    assert done(ctl, user) == ["unchanged"] * 5


def test_a_user_of_a_certificate_has_no_password(ctl: FakeRabbitmqCtl, user: User) -> None:
    done(ctl, user)
    by_certificate = replace(user, password_file=None)
    assert done(ctl, by_certificate) == ["unchanged", "changed", *["unchanged"] * 3]
    assert ctl.kept["users"][-1]["password_hash"] == ""
    assert done(ctl, by_certificate) == ["unchanged"] * 5


def test_an_empty_password_file_is_no_password(ctl: FakeRabbitmqCtl, user: User) -> None:
    assert user.password_file is not None
    user.password_file.touch()
    with pytest.raises(ProvisioningFailed, match="no password in its first line"):
        done(ctl, user)


def test_where_there_is_no_rabbitmqctl_it_says_so(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProvisioningFailed, match="not on this machine"):
        provision_users(RabbitmqCtl(), [user])


def printed(*arguments: str) -> list[str]:
    result = CliRunner().invoke(program, ["provision", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_what_to_run_is_printed_as_a_shell_takes_it() -> None:
    assert printed("host", "kvm1", "--password-file", "/root/host kvm1") == [
        "rabbitmqctl add_vhost storpool",
        "(umask 077; [ -s '/root/host kvm1' ] || head -c 24 /dev/urandom | base64 > '/root/host kvm1')",
        "rabbitmqctl add_user host-kvm1 < '/root/host kvm1'",
        "rabbitmqctl set_user_tags host-kvm1",
        f"rabbitmqctl set_permissions --vhost storpool host-kvm1 '^$' '{ROLE.write}' '{ROLE.read}'",
        "rabbitmqctl set_topic_permissions --vhost storpool host-kvm1 storpool.replies '^kvm1\\.' '^$'",
        "rabbitmqctl set_topic_permissions --vhost storpool host-kvm1 storpool.events '^kvm1\\.' '^$'",
    ]


@pytest.mark.parametrize("kind", ["host", "publisher", "reader", "administrator"])
def test_every_kind_of_user_can_be_one_of_a_certificate(kind: str) -> None:
    lines = printed(kind, "one", "--certificate")
    assert lines[2] == f"rabbitmqctl clear_password {'host-one' if kind == 'host' else 'one'}"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("host", "kvm1"), "Give --password-file, or --certificate"),
        (("host", "kvm1", "kvm2", "--password-file", "p"), "one password file is for one user"),
        (("host", "--certificate"), "Missing argument"),
        (("host", "kvm1", "--certificate", "--password-file", "p"), "Give --password-file, or --certificate"),
        (("host", "kvm1.example.org", "--certificate"), "is not one word"),
        (("host", "any", "--certificate"), "any is the name for all hosts"),
        (("objects", "kvm1", "../x"), "is not one word"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], why: str) -> None:
    result = CliRunner().invoke(program, ["provision", *arguments])
    assert result.exit_code == 2
    assert why in result.output
