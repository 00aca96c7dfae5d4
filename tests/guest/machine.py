# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A libvirt domain that exists exactly as long as its `with` block."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4
from xml.etree import ElementTree as ET

import libvirt

from guest.domain_xml import SMALL, Disk, Hardware, Identity, domain_xml

NAME_PREFIX = "spagent-test-"
SYSTEM_URI = "qemu:///system"
RUNNING = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE


class Machine:
    """A running domain. `directory` is its own: visible to QEMU, gone at the end."""

    def __init__(
        self,
        disks: Sequence[Disk] = (),
        *,
        hardware: Hardware = SMALL,
        persistent: bool = False,
        uri: str = SYSTEM_URI,
    ) -> None:
        self.uuid = str(uuid4())
        self.name = NAME_PREFIX + self.uuid[:8]
        self.uri = uri
        self._disks = tuple(disks)
        self._hardware = hardware
        self._persistent = persistent
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as ending:
            self._make_directory(ending)
            self.connection = libvirt.open(self.uri)
            ending.callback(self._close)
            ending.callback(self._remove)
            self.domain = self._start()
            self._started(ending)
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    def pause(self) -> None:
        """Stop the processor: from now on nobody in the guest answers a hot-unplug request."""
        self.domain.suspend()

    def resume(self) -> None:
        """The guest goes on, and lets go of what it was asked for meanwhile."""
        self.domain.resume()

    def reset(self) -> None:
        """The reset button. The machine comes back without the devices whose unplug was pending."""
        self.domain.reset()

    def is_running(self) -> bool:
        return any(domain.UUIDString() == self.uuid for domain in self.connection.listAllDomains(RUNNING))

    def disk_sources(self, *, inactive: bool = False) -> dict[str, Path]:
        """Target to source of each disk that libvirt says the machine has."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        domain = ET.fromstring(self.domain.XMLDesc(flags))  # noqa: S314 (libvirt wrote it)
        disks = domain.findall("./devices/disk")
        return {_attribute(disk, "target", "dev"): Path(_attribute(disk, "source", "dev", "file")) for disk in disks}

    def unplug(self, target: str) -> None:
        """Ask for a disk, wherever it leads to, out of the running machine and out of its configuration."""
        domain = ET.fromstring(self.domain.XMLDesc())  # noqa: S314 (libvirt wrote it)
        for disk in domain.findall("./devices/disk"):
            if _attribute(disk, "target", "dev") == target:
                flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | (libvirt.VIR_DOMAIN_AFFECT_CONFIG if self._persistent else 0)
                self.domain.detachDeviceFlags(ET.tostring(disk, encoding="unicode"), flags)

    def limits(self, target: str, *, inactive: bool = False) -> dict[str, int | str]:
        """Of a disk, as libvirt says."""
        return self.domain.blockIoTune(
            target, libvirt.VIR_DOMAIN_AFFECT_CONFIG if inactive else libvirt.VIR_DOMAIN_AFFECT_LIVE
        )

    @property
    def directory(self) -> Path:
        return self._directory

    def _make_directory(self, ending: ExitStack) -> None:
        self._directory = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix=NAME_PREFIX)))
        self._directory.chmod(0o755)

    def _xml(self) -> str:
        return domain_xml(self._identity, self._hardware, self._disks)

    @property
    def _identity(self) -> Identity:
        return Identity(self.name, self.uuid, self.directory)

    def _started(self, ending: ExitStack) -> None:
        """Called once the domain runs; what it adds is undone before the domain is."""

    def _start(self) -> libvirt.virDomain:
        if not self._persistent:
            return self.connection.createXML(self._xml())
        domain = self.connection.defineXML(self._xml())
        domain.create()
        return domain

    def _remove(self) -> None:
        """Through a new connection: a test may have ended the daemon that the first one led to."""
        connection = libvirt.open(self.uri)
        try:
            for domain in connection.listAllDomains():
                if domain.UUIDString() == self.uuid:
                    _remove(domain)
        finally:
            connection.close()

    def _close(self) -> None:
        self.connection.close()


class SilentGuest(Machine):
    """Nothing to boot: it sits in its BIOS, which never answers a hot-unplug request. `reset` lets go."""


def _attribute(disk: ET.Element, tag: str, *names: str) -> str:
    """The first of these that it has; a disk in a file has another than one on a device."""
    element = disk.find(tag)
    return "" if element is None else next((element.get(name, "") for name in names if element.get(name)), "")


def _remove(domain: libvirt.virDomain) -> None:
    persistent = domain.isPersistent()
    if domain.isActive():
        domain.destroy()
    if persistent:
        domain.undefine()
