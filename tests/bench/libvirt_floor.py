# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The floor of the commands on disks of machines: the agent's libvirt calls, made directly and in the same order."""

from threading import Event
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

WAIT_S = 20.0


class BareMachine:
    """One domain over one kept connection. An event loop of libvirt must run."""

    def __init__(self, uri: str, uuid: str) -> None:
        self._connection = libvirt.open(uri)
        self._domain = self._connection.lookupByUUIDString(uuid)
        self._removed = Event()
        self._subscription = self._connection.domainEventRegisterAny(
            self._domain, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_removed, None
        )

    def close(self) -> None:
        self._connection.domainEventDeregisterAny(self._subscription)
        self._connection.close()

    def look_at_all(self) -> None:
        """Who has the volume? Every machine is asked, and what it is configured to have."""
        everything = self._connection.listAllDomains()
        persistent = self._connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
        uuids = {one.UUIDString() for one in persistent}
        for one in everything:
            try:
                ET.fromstring(one.XMLDesc())  # noqa: S314 - libvirt wrote it
                if one.UUIDString() in uuids and one.ID() != -1:
                    ET.fromstring(one.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise

    def plug(self, path: str, target: str, serial: str) -> None:
        self._domain.attachDeviceFlags(_disk(path, target, serial), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if self._alias(path) is None:
            raise RuntimeError(f"the machine does not have {path}")

    def unplug(self, path: str) -> None:
        """Ask the guest, and wait for libvirt's event."""
        alias = self._alias(path)
        if alias is None:
            raise RuntimeError(f"the machine does not have {path}")
        self._removed.clear()
        self._domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if not self._removed.wait(WAIT_S) or self._alias(path) is not None:
            raise TimeoutError(f"the guest did not let {path} go within {WAIT_S} s")

    def resize(self, path: str, size_bytes: int) -> None:
        self._domain.blockResize(path, size_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        if self._domain.blockInfo(path)[0] != size_bytes:
            raise RuntimeError(f"QEMU did not take the size of {path}")

    def _alias(self, path: str) -> str | None:
        """What libvirt calls the disk; None when the machine does not have it."""
        domain = ET.fromstring(self._domain.XMLDesc())  # noqa: S314 - libvirt wrote it
        alias = domain.find(f"devices/disk/source[@dev='{path}']/../alias")
        return None if alias is None else alias.get("name")

    def _on_removed(self, *_: Any) -> None:
        self._removed.set()


def _disk(path: str, target: str, serial: str) -> str:
    """As the agent's."""
    disk = ET.Element("disk", type="block", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="raw", cache="none", io="native", discard="unmap")
    ET.SubElement(disk, "source", dev=path)
    ET.SubElement(disk, "target", dev=target, bus="virtio")
    ET.SubElement(disk, "serial").text = serial
    return ET.tostring(disk, encoding="unicode")
