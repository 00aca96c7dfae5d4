# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The packages that `make deb rpm` has built, and hosts to install them on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from booted_debian import debian_root
from package.host import InstallHost, running_host
from package.packages import DIST, Package, relabelled

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def agent_deb() -> Package:
    return Package.find("storpool-agent", ".deb")


@pytest.fixture(scope="session")
def ctl_deb() -> Package:
    return Package.find("storpool-ctl", ".deb")


@pytest.fixture(scope="session")
def agent_rpm() -> Package:
    return Package.find("storpool-agent", ".rpm")


@pytest.fixture(scope="session")
def ctl_rpm() -> Package:
    return Package.find("storpool-ctl", ".rpm")


@pytest.fixture(scope="session")
def earlier_deb(agent_deb: Package, run_directory: Path) -> Package:
    """The same agent under a lower version."""
    return relabelled(agent_deb, "0.0.9", run_directory)


@pytest.fixture(scope="session")
def debian(agent_deb: Package) -> Path:
    return debian_root(ROOT / ".cache", agent_deb.file)


@pytest.fixture(scope="module")
def host(debian: Path, run_directory: Path, services: None) -> Iterator[InstallHost]:
    with running_host(debian, [DIST, run_directory]) as running:
        yield running
