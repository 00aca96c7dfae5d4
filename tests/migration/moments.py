# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Exact moments of a migration by libvirt, to do something to it there.

Its phases: begin (source), prepare (destination), perform (source: QEMU sends the memory to QEMU, and stands still at
the end), finish (destination: the guest goes on), confirm (source: what stood still is ended).
"""

from collections.abc import Generator
from contextlib import contextmanager
from time import sleep
from xml.etree import ElementTree as ET

import libvirt

from kvm_host import KvmHost
from real_lab import wait_for

MOMENT_TIMEOUT_S = 60.0
BEGUN_BYTES = 1 << 20
ASKED_S = 0.5
"""A libvirtd asks the other one milliseconds after it has written down that all is sent; nothing shows that it has."""


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
    """All has been sent, which the source's libvirtd has written down; the guest stands still on both hosts, and the
    destination's libvirtd has been asked to finish, but has not looked. In the block it may be killed; otherwise it
    goes on after it."""
    wait_for_the_middle(source, vm)
    destination.libvirtd.hang()
    try:
        wait_for(lambda: _phase(source, vm) == "perform3_done", MOMENT_TIMEOUT_S)
        sleep(ASKED_S)
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


def _phase(source: KvmHost, vm: str) -> str | None:
    """Of the migration, as libvirtd remembers it for its next start; while it writes, what it has written before."""
    for status in (source.libvirtd.root / "run" / "qemu").glob("*.xml"):
        root = ET.parse(status).getroot()  # noqa: S314 (libvirt wrote it)
        job = root.find("job")
        if root.findtext("domain/uuid") == vm and job is not None:
            return job.get("phase")
    return None
