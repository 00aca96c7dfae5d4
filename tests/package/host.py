# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host with systemd to install the agent on, with a broker, a StorPool and a management plane around it."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from booted_debian import Debian, booted
from devcluster_process import DevclusterProcess, running_devcluster
from rabbit import new_vhost, vhost_of
from storpool_commands.client import ManagementClient
from storpool_commands.control import ListCommands
from storpool_commands.wire import CommandModel

R = TypeVar("R")

NAME = "kvm1"
UNIT = "storpool-agent.service"
CONFIG = "/etc/storpool-agent/agent.toml"
STATE = "/var/lib/storpool-agent"
LIBVIRT = Path("/run/libvirt")
CALL_TIMEOUT_S = 60.0
# Without questions, as an upgrade at night: the settings of the admin stay.
INSTALL = (
    *("apt-get", "install", "--yes", "--no-install-recommends"),
    *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
)


@dataclass(frozen=True)
class InstallHost:
    debian: Debian
    storpool: DevclusterProcess
    management: ManagementClient
    amqp_url: str
    devices: Path

    @property
    def images(self) -> Path:
        """A directory of the host that commands may name."""
        return self.devices / "images"

    def call(self, command: CommandModel[R]) -> R:
        return self.management.call(command, host=NAME, timeout_s=CALL_TIMEOUT_S)

    def control(self, command: CommandModel[R]) -> R:
        return self.management.control(command, host=NAME, timeout_s=CALL_TIMEOUT_S)

    def install(self, package: Path | str, *options: str) -> str:
        """As the document says it; what it printed."""
        return self.debian.output(*INSTALL, *options, str(package))

    def start_install(self, package: Path) -> "subprocess.Popen[str]":
        return self.debian.start(*INSTALL, str(package))

    def make_storpool_host(self) -> None:
        """What StorPool's own installation leaves on a host."""
        address, _, port = self.storpool.api.rpartition(":")
        lines = [f"SP_API_HTTP_HOST={address}", f"SP_API_HTTP_PORT={port}", f"SP_AUTH_TOKEN={self.storpool.token}"]
        self.debian.write("/etc/storpool.conf", "\n".join([*lines, "SP_OURID=1", ""]), mode=0o600)

    def settings(self) -> str:
        """What a configuration management writes before it installs anything."""
        sections = {
            "amqp": f'vhost = "{vhost_of(self.amqp_url)}"',
            "storpool": f'device_root = "{self.devices}"',
            "secondary": f'directories = ["{self.images}"]',
        }
        return "".join(f"[{name}]\n{setting}\n" for name, setting in sections.items())

    def configure(self) -> None:
        """What an admin edits. The file keeps its mode and its comments."""
        file = self.debian.path(CONFIG)
        text = file.read_text()
        for line in self.settings().splitlines():
            name = line.partition("=")[0]
            if not line.startswith("["):
                default = re.compile(rf"^#{name}= .*$", re.MULTILINE)
                assert len(default.findall(text)) == 1, name
                text = default.sub(line, text)
        file.write_text(text)

    def property(self, name: str) -> str:
        """What systemd knows of the unit."""
        return self.debian.output("systemctl", "show", "--property", name, "--value", UNIT)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the agent has logged, all of its lives together."""
        lines = self.debian.output("journalctl", "--unit", UNIT, "--output", "cat", "--no-pager").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in events if event["event"] == name]

    def volumes(self) -> list[str]:
        """Global ids of all that StorPool has."""
        return [str(each["globalId"]) for each in self.storpool.call("GET", "VolumesList")]

    def attached(self, volume: str) -> list[tuple[int, str]]:
        """(client, rights), as StorPool lists them."""
        listed = self.storpool.call("GET", "AttachmentsList")
        return [(each["client"], each["rights"]) for each in listed if each["globalId"] == volume]

    def running(self) -> int:
        """How many commands the agent has begun and not finished."""
        return len(self.control(ListCommands(state="running")).commands)

    def exists(self, path: str) -> bool:
        return self.debian.run("test", "-e", path, check=False).returncode == 0


@contextmanager
def running_host(root: Path, binds: Sequence[Path]) -> Iterator[InstallHost]:
    """It has the devices of StorPool's client 1, and this machine's libvirt. Leaves nothing behind."""
    # Not below /tmp: a unit may have one of its own.
    devices = Path(tempfile.mkdtemp(prefix="storpool-devices-", dir="/srv"))
    try:
        (devices / "images").mkdir()
        with (
            new_vhost() as url,
            running_devcluster({1: devices, 2: None}) as storpool,
            booted(root, binds=[*binds, devices, LIBVIRT], hostname=NAME) as debian,
            ManagementClient(url) as management,
        ):
            yield InstallHost(debian, storpool, management, url, devices)
    finally:
        shutil.rmtree(devices)
