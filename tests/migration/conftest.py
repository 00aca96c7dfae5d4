# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Two hosts, shared by the tests of a module."""

from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from migration import matrix
from two_hosts import TwoHosts, two_hosts


@pytest.fixture(scope="module")
def hosts(run_directory: object, services: None) -> Iterator[TwoHosts]:
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def agents(hosts: TwoHosts) -> TwoHosts:
    """The hosts, with their agents."""
    hosts.start_agents()
    return hosts


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """What became of each migration in which something was killed."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    cells = [value for report in reports for name, value in report.user_properties if name == matrix.PROPERTY]
    if cells:
        terminalreporter.section("killed at a phase of a migration: where the machine and its volumes were then")
        for line in matrix.table(cells):
            terminalreporter.line(line)
