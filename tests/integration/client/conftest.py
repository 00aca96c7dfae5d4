# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One vhost for all tests here; each has hosts and reply words of its own."""

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest

from rabbit import new_vhost
from storpool_commands.client import ManagementClient


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with new_vhost() as url:
        yield url


@pytest.fixture
def host() -> str:
    return f"kvm-{uuid4().hex[:8]}"


@pytest.fixture
def client(url: str) -> Iterator[ManagementClient]:
    with ManagementClient(url) as client:
        yield client


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not left, f"threads that the test has left: {left}"
