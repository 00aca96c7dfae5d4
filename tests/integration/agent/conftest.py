# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One agent for the tests that leave it as they found it."""

from collections.abc import Iterator

import pytest

from agent_process import Stack, running_stack


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A management plane, a broker, an agent, and StorPool, all this test's own."""
    with running_stack() as running:
        yield running
