# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Two KVM hosts on this machine, between which machines can migrate, with one broker and one development StorPool.

with two_hosts() as hosts:
    volume = hosts.volume(MIB)
    hosts.storpool.attach(volume, hosts.kvm1.client)
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent_process import CALL_TIMEOUT_S, agent_settings, client_url
from devcluster_process import DevclusterProcess, running_devcluster
from kvm_host import KvmHost
from private_rabbit import PrivateRabbit
from rabbit import new_vhost
from storpool_commands.client import ManagementClient
from storpool_commands.wire import CommandModel

R = TypeVar("R")

ADDRESSES = ("10.97.0.1", "10.97.0.2")
TEMPLATE = "dev"
VHOST = "hosts"


@dataclass
class TwoHosts:
    """Their agents are not started."""

    directory: Path
    kvm1: KvmHost
    kvm2: KvmHost
    storpool: DevclusterProcess
    management: ManagementClient
    amqp_url: str

    def other(self, host: KvmHost) -> KvmHost:
        return self.kvm2 if host is self.kvm1 else self.kvm1

    def volume(self, size_bytes: int, contents: Path | None = None) -> str:
        """A new volume's global id."""
        made = self.storpool.create(size_bytes, template=TEMPLATE)
        if contents is not None:
            self.storpool.attach(made)
            with self.kvm1.device(made).open("r+b") as device:
                device.write(contents.read_bytes())
            self.storpool.detach(made)
        return made

    def attachments(self, volume: str) -> dict[str, str]:
        """Host to rights, as StorPool lists them."""
        names = {host.client: host.name for host in (self.kvm1, self.kvm2)}
        listed = self.storpool.call("GET", "AttachmentsList")
        return {names[one["client"]]: one["rights"] for one in listed if one["globalId"] == volume}

    def start_agents(self) -> None:
        for host in (self.kvm1, self.kvm2):
            host.agent.start()

    def call(self, host: KvmHost, command: CommandModel[R], **options: Any) -> R:
        """Have its agent do it; its result, or CommandFailed."""
        options.setdefault("timeout_s", CALL_TIMEOUT_S)
        return self.management.call(command, host=host.name, **options)


@contextmanager
def two_hosts(*, broker: PrivateRabbit | None = None, **settings: Mapping[str, Any]) -> Iterator[TwoHosts]:
    """`settings` are sections over the defaults of both agents. The broker is the machine's, or the test's own.

    Leaves no process, device, vhost, namespace or file behind.
    """
    directory = Path(tempfile.mkdtemp(prefix="hosts-"))
    with ExitStack() as ending:
        ending.callback(shutil.rmtree, directory)
        url = _url_of(broker) if broker else ending.enter_context(new_vhost())
        hosts = [_host(directory, number, ending) for number in (1, 2)]
        roots = {host.client: host.devices for host in hosts}
        storpool = ending.enter_context(running_devcluster(roots))
        # Again, so that it comes first: a machine keeps its devices open.
        for host in hosts:
            ending.callback(host.close)
        hosts[0].namespaces.join(hosts[1].namespaces, *ADDRESSES)
        management = ending.enter_context(ManagementClient(client_url(url)))
        for host in hosts:
            host.libvirtd.start()
            host.install_agent(_settings(host, hosts, url, storpool, settings))
        yield TwoHosts(directory, hosts[0], hosts[1], storpool, management, url)


def _host(directory: Path, number: int, ending: ExitStack) -> KvmHost:
    host = KvmHost(directory, f"kvm{number}", number, ADDRESSES[number - 1])
    ending.callback(host.close)
    return host


def _settings(
    host: KvmHost,
    hosts: list[KvmHost],
    url: str,
    storpool: DevclusterProcess,
    sections: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    values = agent_settings(host.directory, url, storpool, host.here / "dev")
    values["storpool"]["our_id"] = host.client
    values["secondary"] = {"directories": [str(host.here / "images")]}
    values["migration"] = {
        "uris": {each.name: each.uri for each in hosts},
        "addresses": {each.name: each.address for each in hosts},
        "tls": False,
    }
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return values


def _url_of(broker: PrivateRabbit) -> str:
    broker.ctl("add_vhost", VHOST)
    broker.ctl("set_permissions", "--vhost", VHOST, "guest", ".*", ".*", ".*")
    return f"amqp://guest:guest@127.0.0.1:{broker.plain_port}/{VHOST}"
