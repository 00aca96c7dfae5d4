# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Real virtual machines for tests, benchmarks and the demo: small, quick to boot, and they talk."""

from guest.domain_xml import Disk, disk_xml
from guest.guest import Guest, GuestDisk
from guest.machine import Machine, SilentGuest
from guest.pattern import pattern, pattern_checksum

__all__ = [
    "Disk",
    "Guest",
    "GuestDisk",
    "Machine",
    "SilentGuest",
    "disk_xml",
    "pattern",
    "pattern_checksum",
]
