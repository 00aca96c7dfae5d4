# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The hosts of these tests."""

from collections.abc import Iterator

import pytest

from guest.machine import SYSTEM_URI
from private_libvirtd import PrivateLibvirtd, private_libvirtd
from real_lab import RealLab, real_lab

__all__ = ["private_libvirtd"]


@pytest.fixture
def lab() -> Iterator[RealLab]:
    """On the system's libvirtd, which other tests use as well."""
    with real_lab(SYSTEM_URI) as made:
        yield made


@pytest.fixture
def own_lab(private_libvirtd: PrivateLibvirtd) -> Iterator[RealLab]:
    """On a libvirtd of its own, which may be killed."""
    with real_lab(private_libvirtd.uri) as made:
        yield made
