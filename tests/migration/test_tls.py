# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""As operating.md has it set up: the hosts' libvirt and the memory of machines by TLS, and for no stranger."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvm_host import KvmHost
from migration.driver import Driver
from pki import Authority, Certificate
from private_rabbit import free_ports
from storpool_commands.client import MigrationFailed
from storpool_commands.errors import ErrorCode
from traveller import Traveller, traveller
from two_hosts import TwoHosts, two_hosts

PKI = Path("/etc/libvirt/pki")
"""As the host sees it; its /etc/libvirt is its own."""
QEMU_CONF = f"""
migrate_tls_x509_cert_dir = "{PKI / "qemu"}"
migrate_tls_x509_verify = 1
"""
LIBVIRTD_CONF = f"""
ca_file = "{PKI / "libvirt" / "cacert.pem"}"
cert_file = "{PKI / "libvirt" / "servercert.pem"}"
key_file = "{PKI / "libvirt" / "serverkey.pem"}"
tls_allowed_dn_list = ["CN=kvm1", "CN=kvm2"]
"""
ADDRESSES = {"kvm1": "127.0.0.1", "kvm2": "127.0.0.2"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ours", "ours")


@pytest.fixture(scope="module")
def hosts(authority: Authority, run_directory: object, services: None) -> Iterator[TwoHosts]:
    ports = dict(zip(ADDRESSES, free_ports(len(ADDRESSES)), strict=True))
    uris = {name: f"qemu+tls://{ADDRESSES[name]}:{ports[name]}/system?pkipath={PKI / 'libvirt'}" for name in ADDRESSES}
    with two_hosts(migration={"tls": True, "uris": uris, "addresses": ADDRESSES}) as made:
        for host in (made.kvm1, made.kvm2):
            host.libvirtd.kill()
            certify_qemu(host, authority)
            certify_libvirt(host, authority, authority.issue(host.name, file=f"{host.name}-client"))
            listen = f'listen_addr = "{ADDRESSES[host.name]}"\ntls_port = "{ports[host.name]}"\n'
            host.libvirtd.configure("libvirtd.conf", LIBVIRTD_CONF + listen)
            host.libvirtd.configure("qemu.conf", QEMU_CONF)
            host.libvirtd.listens = True
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


def test_a_host_whose_libvirt_another_authority_vouches_for_gets_no_machine(
    hosts: TwoHosts, guest: Traveller, authority: Authority, tmp_path: Path
) -> None:
    theirs = Authority(tmp_path / "theirs", "theirs")
    certify_libvirt(hosts.kvm1, theirs, theirs.issue("kvm1", file="kvm1-client"))
    hosts.kvm1.libvirtd.kill()
    hosts.kvm1.libvirtd.start()
    stays(hosts, guest, ErrorCode.DESTINATION_UNREACHABLE, "Failed to verify peer's certificate")
    certify_libvirt(hosts.kvm1, authority, authority.issue("kvm1", file="kvm1-client"))
    hosts.kvm1.libvirtd.kill()
    hosts.kvm1.libvirtd.start()


def test_a_client_of_our_authority_that_is_no_host_of_ours_reaches_no_libvirt(
    hosts: TwoHosts, guest: Traveller, authority: Authority
) -> None:
    certify_libvirt(hosts.kvm2, authority, authority.issue("backup", file="backup-client"))
    stays(hosts, guest, ErrorCode.DESTINATION_UNREACHABLE, "Unable to read TLS confirmation")
    certify_libvirt(hosts.kvm2, authority, authority.issue("kvm2", file="kvm2-client"))


def test_a_host_that_another_authority_vouches_for_gets_no_memory(
    hosts: TwoHosts, guest: Traveller, tmp_path: Path
) -> None:
    certify_qemu(hosts.kvm1, Authority(tmp_path / "theirs", "theirs"))
    stays(hosts, guest, ErrorCode.MIGRATION_FAILED, "The certificate hasn't got a known issuer")
    guest.come_to_rest()


def stays(hosts: TwoHosts, guest: Traveller, code: ErrorCode, why: str) -> None:
    """On kvm2, with its disks there alone."""
    with pytest.raises(MigrationFailed) as failed:
        Driver(hosts, guest, hosts.kvm2, hosts.kvm1).run()
    assert failed.value.cause.code is code
    assert why in str(failed.value.cause)
    assert [hosts.attachments(volume) for volume in guest.volumes] == [{"kvm2": "rw"}] * 2
    guest.still_writes()


def certify_qemu(host: KvmHost, authority: Authority) -> None:
    """What QEMU looks for, the host's own address in the server's."""
    server = authority.issue(host.name, address=f"IP:{ADDRESSES[host.name]}")
    client = authority.issue(host.name, file=f"{host.name}-client")
    install(
        host,
        "qemu",
        {
            "ca-cert": authority.cert,
            "server-cert": server.cert,
            "server-key": server.key,
            "client-cert": client.cert,
            "client-key": client.key,
        },
    )


def certify_libvirt(host: KvmHost, authority: Authority, client: Certificate) -> None:
    """What its libvirtd shows, and what it and the agent show to the other's."""
    server = authority.issue(host.name, address=f"IP:{ADDRESSES[host.name]}")
    install(
        host,
        "libvirt",
        {
            "cacert": authority.cert,
            "servercert": server.cert,
            "serverkey": server.key,
            "clientcert": client.cert,
            "clientkey": client.key,
        },
    )


def install(host: KvmHost, what: str, files: dict[str, Path]) -> None:
    directory = host.libvirtd.root / "etc" / PKI.name / what
    directory.mkdir(parents=True, exist_ok=True)
    for name, made in files.items():
        shutil.copy(made, directory / f"{name}.pem")
