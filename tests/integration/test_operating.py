# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The permissions that docs/operating.md gives to a host's user are enough for its agent, and it declares nothing."""

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent_process import Stack, running_stack
from rabbit import rabbitmqctl
from storpool_commands.control import Ping

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
PASSWORD = "of this test"
PERMISSIONS = re.compile(r"set_permissions --vhost storpool host-kvm1 '(.+)' '(.+)' '(.+)'")


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Provisioned by a first run of the agent that may do all."""
    with running_stack() as running:
        running.agent.stop()
        yield running


@pytest.fixture
def user(stack: Stack) -> Iterator[str]:
    name = f"host-kvm1-{uuid4().hex}"
    rabbitmqctl("add_user", name, PASSWORD)
    try:
        [permissions] = PERMISSIONS.findall(DOCUMENT)
        rabbitmqctl("set_permissions", "--vhost", stack.settings["amqp"]["vhost"], name, *permissions)
        yield name
        stack.agent.stop()
    finally:
        rabbitmqctl("delete_user", name)


def test_a_host_user_may_do_all_that_its_agent_does(stack: Stack, user: str, tmp_path: Path) -> None:
    password_file = tmp_path / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(PASSWORD)
    login = {"url": f"amqp://{user}@127.0.0.1:5672", "password_file": str(password_file), "declare": False}
    stack.settings["amqp"] |= login
    stack.agent.configure(stack.settings)
    stack.agent.start()
    assert stack.call(Ping()).host == "kvm1"
    assert stack.management.control(Ping(), host="kvm1").host == "kvm1"
    assert [event for event in stack.agent.events() if event["level"] in {"warning", "error"}] == []
