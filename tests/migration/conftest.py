# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Two hosts, shared by the tests of a module."""

from collections.abc import Iterator

import pytest

from two_hosts import TwoHosts, two_hosts


@pytest.fixture(scope="module")
def hosts(run_directory: object, services: None) -> Iterator[TwoHosts]:
    with two_hosts() as made:
        yield made
