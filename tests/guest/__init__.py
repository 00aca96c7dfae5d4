# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Real virtual machines for tests, benchmarks and the demo: small, quick to boot, and they talk."""

from guest.boot_disk import KERNEL_FILE, bootable_disk
from guest.console import CommandFailed, NoAnswer
from guest.domain_xml import Disk, Hardware, disk_xml
from guest.guest import Guest, GuestDisk
from guest.loop_device import grow, loop_device
from guest.machine import Machine, SilentGuest
from guest.pattern import pattern, pattern_checksum
from guest.records import RecordsDamaged, Written, check_records

__all__ = [
    "KERNEL_FILE",
    "CommandFailed",
    "Disk",
    "Guest",
    "GuestDisk",
    "Hardware",
    "Machine",
    "NoAnswer",
    "RecordsDamaged",
    "SilentGuest",
    "Written",
    "bootable_disk",
    "check_records",
    "disk_xml",
    "grow",
    "loop_device",
    "pattern",
    "pattern_checksum",
]
