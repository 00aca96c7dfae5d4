# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""One of several KVM hosts on this machine: libvirtd, agent and a client of StorPool, each of which may be killed.

What is at `<hosts>/here` on a host is at `<hosts>/<name>` for the test, so that a path in a machine's definition is
right on every host, and leads to what is that host's own: disks at `here/dev`, consoles at `here/machines`, image
files at `here/images`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt

from agent_process import AgentProcess
from host_namespaces import Namespaces
from private_libvirtd import DIRECTORIES, PrivateLibvirtd

HERE = "here"


class HostsLibvirtd(PrivateLibvirtd):
    """In the host's namespaces, which stay when it is killed: its machines keep their network and devices."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.configure("libvirtd.conf", f'host_uuid = "{uuid4()}"\n')
        self.namespaces: Namespaces | None = None
        self.listens = False
        """It is reached by TLS, as `libvirtd.conf` says, on this machine's network, which its machines are on, too."""

    def configure(self, file: str, lines: str) -> None:
        """For its next start."""
        with (self.root / "etc" / file).open("a") as conf:
            conf.write(lines)

    def _command(self) -> list[str]:
        assert self.namespaces is not None
        within = self.namespaces.but_network if self.listens else self.namespaces.all
        return [*within, "libvirtd", *(["--listen"] if self.listens else []), "--pid-file", "/run/libvirt/libvirtd.pid"]


class KvmHost:
    """`address` is in the hosts' own network: this machine itself is not connected to it."""

    def __init__(self, hosts: Path, name: str, client: int, address: str) -> None:
        self.name = name
        self.client = client
        self.address = address
        self.directory = hosts / name
        self.here = hosts / HERE
        self._agent: AgentProcess | None = None
        self._on = True
        self.images = self.directory / "images"
        for directory in (self.here, self.directory, self.directory / "machines", self.images):
            directory.mkdir(exist_ok=True)
        # Links of StorPool's are absolute; the agent wants them to lead to below its device root.
        self.devices = self.directory / "devices"
        (self.directory / "dev").symlink_to(self.devices)
        self.libvirtd = HostsLibvirtd(self.directory / "libvirt")
        binds = {self.libvirtd.root / own: Path(place) for own, place in DIRECTORIES.items()}
        self.namespaces = Namespaces(name, hosts, {self.directory: self.here, **binds})
        self.libvirtd.namespaces = self.namespaces

    @property
    def uri(self) -> str:
        """Of its libvirtd, for this machine and for the other hosts."""
        return self.libvirtd.uri

    @property
    def agent(self) -> AgentProcess:
        assert self._agent is not None, "it has none"
        return self._agent

    def path(self, volume: str) -> Path:
        """Of a volume's device, for the host itself."""
        return self.here / "dev" / "storpool-byid" / volume.removeprefix("~")

    def device(self, volume: str) -> Path:
        """The same device, for the test."""
        return self.devices / "storpool-byid" / volume.removeprefix("~")

    def install_agent(self, settings: dict[str, Any]) -> None:
        """It is not started."""
        directory = self.directory / "agent"
        directory.mkdir()
        own = {"host": self.name, "state_dir": str(directory / "state")}
        self._agent = AgentProcess(directory, {**settings, **own}, within=self.namespaces.mounts_only)

    def machines(self) -> dict[str, int]:
        """UUID to libvirt's state of every active machine."""
        connection = libvirt.open(self.uri)
        try:
            active = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            return {domain.UUIDString(): domain.state()[0] for domain in active}
        finally:
            connection.close()

    def qemus(self) -> Sequence[int]:
        """The processes of its machines, whatever libvirtd says or does not say."""
        return [pid for pid in self.namespaces.members() if _command(pid).startswith("qemu-system")]

    def close(self) -> None:
        """Switch it off, whatever state the test has left it in."""
        if self._on:
            self._on = False
            if self._agent is not None:
                self._agent.kill()
            self.namespaces.close()
            self.libvirtd.close()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:  # it has ended
        return ""
