# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Exact moments of a migration by libvirt, to do something to it there.

Its phases: begin (source), prepare (destination), perform (source: QEMU sends the memory to QEMU, and stands still at
the end), finish (destination: the guest goes on), confirm (source: what stood still is ended).
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import libvirt

from kvm_host import KvmHost
from real_lab import wait_for

MOMENT_TIMEOUT_S = 60.0
BEGUN_BYTES = 1 << 20
ESTABLISHED = "01"
PORTS = range(49152, 49216)
"""Where libvirt has QEMU listen for one that comes."""


def wait_for_the_middle(source: KvmHost, vm: str) -> None:
    """Until some of its memory has been sent: it should be sent slowly."""
    connection = libvirt.open(source.uri)
    try:
        domain = connection.lookupByUUIDString(vm)
        wait_for(lambda: _sent_bytes(domain) > BEGUN_BYTES, MOMENT_TIMEOUT_S)
    finally:
        connection.close()


@contextmanager
def before_finish(source: KvmHost, destination: KvmHost, vm: str) -> Generator[None]:
    """All has been sent, the guest stands still on both hosts, and the destination's libvirtd has not been asked to
    finish, or has not looked yet. In the block it may be killed; otherwise it goes on after it."""
    wait_for_the_middle(source, vm)
    destination.libvirtd.hang()
    try:
        wait_for(lambda: not _is_sending(source), MOMENT_TIMEOUT_S)
        yield
    finally:
        destination.libvirtd.go_on()


@contextmanager
def before_confirm(source: KvmHost, destination: KvmHost, vm: str) -> Generator[None]:
    """The destination has taken the guest over, and the source's libvirtd, which has it standing still, has not been
    told. In the block it may be killed; otherwise it goes on after it."""
    try:
        with before_finish(source, destination, vm):
            source.libvirtd.hang()
        wait_for(lambda: _has_arrived(destination, vm), MOMENT_TIMEOUT_S)
        yield
    finally:
        source.libvirtd.go_on()


def _sent_bytes(domain: libvirt.virDomain) -> int:
    """Nothing while there is no migration."""
    return int(domain.jobStats().get(libvirt.VIR_DOMAIN_JOB_MEMORY_PROCESSED, 0))


def _has_arrived(destination: KvmHost, vm: str) -> bool:
    """One that is on its way has no statistics where it comes to, and libvirt says so in an error of its own."""
    connection = libvirt.open(destination.uri)
    try:
        return connection.lookupByUUIDString(vm).jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_NONE
    except libvirt.libvirtError:
        return False
    finally:
        connection.close()


def _is_sending(source: KvmHost) -> bool:
    """Whether a machine of the host is connected to where one is received."""
    tables = [Path(f"/proc/{pid}/net/tcp").read_text() for pid in source.qemus()[:1]]
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(line[3] == ESTABLISHED and int(line[2].rpartition(":")[2], 16) in PORTS for line in lines)
