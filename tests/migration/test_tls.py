# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The memory of a machine goes to its new host by QEMU's TLS, and to none that another authority vouches for."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvm_host import KvmHost
from migration.driver import Driver
from pki import Authority
from storpool_commands.client import MigrationFailed
from storpool_commands.errors import ErrorCode
from traveller import Traveller, traveller
from two_hosts import TwoHosts, two_hosts

CERTIFICATES = Path("/etc/libvirt/pki")
"""As the host sees it; its /etc/libvirt is its own."""
QEMU_CONF = f"""
migrate_tls_x509_cert_dir = "{CERTIFICATES}"
migrate_tls_x509_verify = 1
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ours", "ours")


@pytest.fixture(scope="module")
def hosts(authority: Authority, run_directory: object, services: None) -> Iterator[TwoHosts]:
    with two_hosts(migration={"tls": True}) as made:
        for host in (made.kvm1, made.kvm2):
            certify(host, authority)
            host.libvirtd.kill()
            with (host.libvirtd.root / "etc" / "qemu.conf").open("a") as conf:
                conf.write(QEMU_CONF)
            host.libvirtd.start()
        made.start_agents()
        yield made


@pytest.fixture(scope="module")
def guest(hosts: TwoHosts) -> Iterator[Traveller]:
    with traveller(hosts) as guest:
        guest.set_out()
        yield guest


def test_a_machine_moves_by_tls(hosts: TwoHosts, guest: Traveller) -> None:
    Driver(hosts, guest, hosts.kvm1, hosts.kvm2).run()
    guest.has_come_to(hosts.kvm2)
    guest.still_writes()


def test_a_host_that_another_authority_vouches_for_gets_no_memory(
    hosts: TwoHosts, guest: Traveller, tmp_path: Path
) -> None:
    certify(hosts.kvm1, Authority(tmp_path / "theirs", "theirs"))
    with pytest.raises(MigrationFailed) as failed:
        Driver(hosts, guest, hosts.kvm2, hosts.kvm1).run()
    assert failed.value.cause.code is ErrorCode.MIGRATION_FAILED
    assert [hosts.attachments(volume) for volume in guest.volumes] == [{"kvm2": "rw"}] * 2
    guest.still_writes()
    guest.come_to_rest()


def certify(host: KvmHost, authority: Authority) -> None:
    """What QEMU looks for, the host's own address in the server's."""
    directory = host.libvirtd.root / "etc" / CERTIFICATES.name
    directory.mkdir(exist_ok=True)
    server = authority.issue(host.name, address=f"IP:{host.address}")
    client = authority.issue(host.name, file=f"{host.name}-client")
    for made, name in ((server, "server"), (client, "client")):
        shutil.copy(made.cert, directory / f"{name}-cert.pem")
        shutil.copy(made.key, directory / f"{name}-key.pem")
    shutil.copy(authority.cert, directory / "ca-cert.pem")
