# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A guest that moves between hosts, and writes records to its disks all the while.

with Traveller(hosts.kvm1, [root, data]) as guest:
    guest.set_out()
    ...migrate it...
    guest.has_come_to(hosts.kvm2)
    assert guest.still_writes()
"""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import libvirt

from guest import Disk, Guest, Hardware, Written, check_records
from guest.boot_disk import SIZE_MIB, bootable_disk
from guest.console import Console
from guest.domain_xml import Boot, Identity, domain_xml
from kvm_host import KvmHost
from two_hosts import TwoHosts

MEMORY = Hardware(memory_mib=96, spare_ports=2)
FIRST_MIB = SIZE_MIB // 2
"""Where the records begin: before are the files of the disk that it boots from."""
RECORDS_MIB = 112
DISK_BYTES = (FIRST_MIB + RECORDS_MIB) << 20
TARGETS = ("vda", "vdb")


class Traveller(Guest):
    """It boots from the first of its volumes, on `host`, and ends with its `with` block wherever it is."""

    def __init__(self, host: KvmHost, volumes: Sequence[str], files: Sequence[Path] = ()) -> None:
        """`files`, as the host sees them, in place of volumes."""
        sources = [Disk(host.path(volume), "") for volume in volumes] or [
            Disk(file, "", in_file=True) for file in files
        ]
        disks = [replace(disk, target=target) for disk, target in zip(sources, TARGETS, strict=True)]
        super().__init__(disks, boot_from=TARGETS[0], hardware=MEMORY, persistent=True, uri=host.uri)
        self.host = host
        self.volumes = list(volumes)
        self.promised: list[Written] = []
        """Some of the records that it says are on its disks."""

    def set_out(self) -> None:
        """Begin to write."""
        self.record_on(FIRST_MIB, *TARGETS)
        self.still_writes()

    def still_writes(self) -> Written:
        """Wait for two further records, and remember what it says."""
        self.wait_for_record(self.recorded().number + 2)
        self.promised.append(self.recorded())
        return self.promised[-1]

    def has_come_to(self, host: KvmHost) -> None:
        """Talk to it there from now on."""
        self._console.close()
        self.connection.close()
        self.host, self.uri = host, host.uri
        self.connection = libvirt.open(self.uri)
        self.domain = self.connection.lookupByUUIDString(self.uuid)
        self._console = Console(self.directory / "console")

    @contextmanager
    def paused(self) -> Generator[None]:
        """In the block it stands still, and all that it has written is on the disks."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def check_disks(self) -> int:
        """While it stands or has stopped writing, on the devices of its host: how many records both disks have."""
        root, data = (check_records(self.host.device(volume), FIRST_MIB, self.promised) for volume in self.volumes)
        assert root - data in (0, 1), f"{root} records on the first disk, {data} on the second"
        return data

    def come_to_rest(self) -> int:
        """Stop writing; how many records there are, none lost and all of this one machine's."""
        self.promised.append(self.stop_recording())
        number = self.check_disks()
        assert number == self.promised[-1].number
        return number

    @property
    def directory(self) -> Path:
        """As the test sees it, on the host where it is."""
        return self.host.directory / "machines" / self.name

    def _make_directory(self, ending: ExitStack) -> None:
        """On both hosts: libvirt makes none."""
        for place in self.host.directory.parent.glob("kvm*"):
            (place / "machines" / self.name).mkdir()

    def _xml(self) -> str:
        inside = self.host.here / "machines" / self.name
        identity = Identity(self.name, self.uuid, inside)
        boot = Boot(TARGETS[0], "", inside / "console", inside / "output")
        return domain_xml(identity, self._hardware, self._disks, boot)

    def _started(self, ending: ExitStack) -> None:
        super()._started(ending)
        ending.callback(self._hang_up)

    def _hang_up(self) -> None:
        """On the host where it is by then."""
        self._console.close()


def traveller(hosts: TwoHosts) -> Traveller:
    """With a ROOT and a DATA volume that are attached to kvm1."""
    volumes = [hosts.volume(DISK_BYTES, bootable_disk()), hosts.volume(DISK_BYTES)]
    for volume in volumes:
        hosts.storpool.attach(volume, hosts.kvm1.client)
    return Traveller(hosts.kvm1, volumes)


FILES = ("root.raw", "data.raw")
"""Below the host's `images`."""


def traveller_in_files(hosts: TwoHosts) -> Traveller:
    """With its disks in files of kvm1."""
    for name, contents in zip(FILES, (bootable_disk().read_bytes(), b""), strict=True):
        with (hosts.kvm1.images / name).open("xb") as file:
            file.write(contents)
            file.truncate(DISK_BYTES)
    return Traveller(hosts.kvm1, [], [hosts.kvm1.here / "images" / name for name in FILES])
