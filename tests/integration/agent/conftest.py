# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Agents for the tests: one of a test's own, and one that is shared."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from agent_process import Stack, running_stack
from integration.agent.copy_lab import CopyLab, running_copy_lab
from integration.agent.refusals import Scene, assert_kept_secret
from rabbit import rabbitmqctl, vhost_of
from raw_client import raw_client

STORPOOL_TOKEN = "development-token"


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A management plane, a broker, an agent, and StorPool, all this test's own."""
    with running_stack() as running:
        yield running


@pytest.fixture(scope="session")
def scene(run_directory: object, services: None) -> Iterator[Scene]:
    """A stack for all tests that leave it as they found it. In the end: one reply per request, no secret anywhere."""
    with _user() as (user, password), running_stack(start=False, amqp=_login(user, password)) as stack:
        rabbitmqctl("set_permissions", "--vhost", vhost_of(stack.amqp_url), user, ".*", ".*", ".*")
        stack.agent.start()
        with raw_client(stack.amqp_url) as raw:
            scene = Scene(stack, raw, (password, STORPOOL_TOKEN))
            yield scene
            raw.settle()
            assert raw.answered_twice() == {}
            assert_kept_secret(scene.secrets, raw, stack.agent)


@pytest.fixture
def volume(scene: Scene) -> Iterator[str]:
    """A volume of 16 MiB, attached nowhere; what the test did to it and to StorPool ends with the test."""
    made = scene.stack.create()
    yield made
    scene.stack.storpool.sim.clear_faults()
    for client, _ in scene.stack.attachments(made):
        scene.stack.storpool.detach(made[1:], client)


@pytest.fixture(scope="module")
def shared_lab(nfs_client: None) -> Iterator[CopyLab]:
    """For what a module's tests share, such as a guest; they themselves use `lab`."""
    with running_copy_lab() as running:
        yield running


@pytest.fixture
def lab(shared_lab: CopyLab) -> Iterator[CopyLab]:
    """An agent with stores. No job may leave anything but what it was to make."""
    attached = shared_lab.attached()
    yield shared_lab
    assert (shared_lab.temporary(), shared_lab.attached()) == (set(), attached)


@pytest.fixture
def own_lab(nfs_client: None) -> Iterator[CopyLab]:
    """One whose agent the test may kill."""
    with running_copy_lab() as running:
        yield running
        assert running.temporary() == set()


@contextmanager
def _user() -> Iterator[tuple[str, str]]:
    """A user of the broker whose password is nobody else's."""
    name, password = f"agent-{uuid4().hex}", f"canary-{uuid4().hex}"
    rabbitmqctl("add_user", name, password)
    try:
        yield name, password
    finally:
        rabbitmqctl("delete_user", name)


def _login(user: str, password: str) -> dict[str, str]:
    return {"url": f"amqp://{user}:{password}@127.0.0.1:5672"}
