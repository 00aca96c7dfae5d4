# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A user is made once, mended when it is not as it should be, and its password is nowhere but in its file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from fake_rabbitmqctl import FakeRabbitmqCtl
from storpool_commands.client.cli.app import program
from storpool_commands.client.provisioning import roles
from storpool_commands.client.provisioning.change import ProvisioningFailed
from storpool_commands.client.provisioning.rabbitmqctl import RabbitmqCtl
from storpool_commands.client.provisioning.users import User, provision_user

ROLE = roles.host("kvm1")


@pytest.fixture
def ctl() -> FakeRabbitmqCtl:
    return FakeRabbitmqCtl()


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User("host-kvm1", "storpool", ROLE, tmp_path / "password")


def done(ctl: FakeRabbitmqCtl, user: User) -> list[str]:
    return [change.done for change in provision_user(ctl, user)]


def test_a_new_user_is_made_with_all_that_it_may(ctl: FakeRabbitmqCtl, user: User) -> None:
    assert done(ctl, user) == ["made"] * 5
    assert ctl.vhosts == ["/", "storpool"]
    assert ctl.permissions == {("storpool", "host-kvm1"): (ROLE.configure, ROLE.write, ROLE.read)}
    assert {exchange for _, _, exchange in ctl.topics} == {"storpool.replies", "storpool.events"}


def test_again_nothing_is_changed(ctl: FakeRabbitmqCtl, user: User) -> None:
    done(ctl, user)
    ctl.calls.clear()
    assert done(ctl, user) == ["unchanged"] * 5
    assert ctl.calls == []


def test_the_password_is_in_its_file_for_root_alone_and_in_no_argument(ctl: FakeRabbitmqCtl, user: User) -> None:
    done(ctl, user)
    assert user.password_file is not None
    password = user.password_file.read_text().strip()
    assert ctl.passwords["host-kvm1"] == password
    assert len(password) >= 32
    assert user.password_file.stat().st_mode & 0o777 == 0o600
    assert password not in str(ctl.calls)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda ctl: ctl.passwords.update({"host-kvm1": "another"}), id="password"),
        pytest.param(lambda ctl: ctl.tags.update({"host-kvm1": ["impersonator"]}), id="tags"),
        pytest.param(lambda ctl: ctl.permissions.update({("storpool", "host-kvm1"): (".*",) * 3}), id="permissions"),
        pytest.param(
            lambda ctl: ctl.topics.update({("storpool", "host-kvm1", "storpool.events"): (".*",) * 2}), id="topics"
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_mended(
    ctl: FakeRabbitmqCtl, user: User, spoil: Callable[[FakeRabbitmqCtl], None]
) -> None:
    done(ctl, user)
    before = (dict(ctl.passwords), dict(ctl.tags), dict(ctl.permissions), dict(ctl.topics))
    spoil(ctl)
    assert done(ctl, user).count("changed") == 1
    assert (ctl.passwords, ctl.tags, ctl.permissions, ctl.topics) == before


def test_a_user_of_a_certificate_has_no_password(ctl: FakeRabbitmqCtl) -> None:
    user = User("host-kvm1", "/", ROLE, None)
    assert done(ctl, user) == ["unchanged", "made", "made", "made", "made"]
    assert ctl.passwords["host-kvm1"] is None
    assert done(ctl, user) == ["unchanged"] * 5


def test_an_empty_password_file_is_no_password(ctl: FakeRabbitmqCtl, user: User) -> None:
    assert user.password_file is not None
    user.password_file.touch()
    with pytest.raises(ProvisioningFailed, match="no password in its first line"):
        done(ctl, user)


def test_where_there_is_no_rabbitmqctl_it_says_so(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProvisioningFailed, match="not on this machine"):
        list(provision_user(RabbitmqCtl(), user))


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
