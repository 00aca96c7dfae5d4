# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine on encrypted disks moves: it finds on the other host what it wrote, and its keys are nowhere but in use."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import libvirt
import pytest

from guest import Guest, bootable_disk, check_records, pattern, pattern_checksum
from guest.records import RECORD_BYTES
from integration.agent.encrypted import secret_of, secrets, sectors
from kvm_host import KvmHost
from migration.driver import Driver
from storpool_commands.client import MigrationFailed
from storpool_commands.disks import AttachDisk
from storpool_commands.encrypting import EncryptVolume
from storpool_commands.encryption import Encryption, Key
from storpool_commands.errors import ErrorCode
from storpool_commands.volumes import CreateVolume, CreateVolumeFromTemplate
from traveller import DISK_BYTES, FIRST_MIB, TARGETS, Traveller
from two_hosts import TEMPLATE, TwoHosts, two_hosts

PASSPHRASES = {name: f"canary-{name}-{uuid4().hex}" for name in ("root", "data")}
CONVERT_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of both hosts."""
    directory = tmp_path_factory.mktemp("keys")
    for name, passphrase in PASSPHRASES.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(passphrase)
    (directory / "wrong").touch(mode=0o600)
    (directory / "wrong").write_text("not the passphrase")
    return directory


@pytest.fixture(scope="module")
def hosts(keys: Path, run_directory: object, services: None) -> Iterator[TwoHosts]:
    with two_hosts(encryption={"key_directory": str(keys), "iteration_ms": 100}) as made:
        made.start_agents()
        yield made


class EncryptedTraveller(Traveller):
    """Its agent gives it its volumes, before its start. The first is that which it boots from."""

    def __init__(self, hosts: TwoHosts, volumes: Mapping[str, str]) -> None:
        super().__init__(hosts.kvm1, list(volumes.values()))
        self.keys = {volume: Key(file=name) for name, volume in volumes.items()}
        self._hosts, self._disks = hosts, ()

    def _start(self) -> libvirt.virDomain:
        domain = self.connection.defineXML(self._xml())
        for (volume, key), target in zip(self.keys.items(), TARGETS, strict=True):
            encryption = Encryption(key=key)
            command = AttachDisk(vm=self.uuid, volume=f"~{volume}", target=target, encryption=encryption)
            self._hosts.call(self.host, command)
        domain.create()
        return domain


@pytest.fixture(scope="module")
def guest(hosts: TwoHosts) -> Iterator[EncryptedTraveller]:
    origin = hosts.volume(DISK_BYTES, bootable_disk())
    taken = hosts.storpool.call("POST", f"VolumeSnapshot/~{origin}", {"tags": {"cs": "template"}})
    template = f"~{taken['snapshotGlobalId']}"
    root = hosts.call(hosts.kvm1, CreateVolumeFromTemplate(snapshot=template, encrypted=True)).global_id
    data = hosts.call(hosts.kvm1, CreateVolume(size_bytes=DISK_BYTES, template=TEMPLATE, encrypted=True)).global_id
    hosts.call(hosts.kvm1, EncryptVolume(volume=f"~{root}", key=Key(file="root"), source_snapshot=template))
    hosts.call(hosts.kvm1, EncryptVolume(volume=f"~{data}", key=Key(file="data")))
    with EncryptedTraveller(hosts, {"root": root, "data": data}) as guest:
        guest.write("vdb", 1, 2, "before")
        guest.set_out()
        yield guest


def test_a_key_that_is_wrong_there_is_found_before_anything_moves(hosts: TwoHosts, guest: EncryptedTraveller) -> None:
    keys = {**guest.keys, guest.volumes[1]: Key(file="wrong")}
    with pytest.raises(MigrationFailed) as failed:
        Driver(hosts, guest, hosts.kvm1, hosts.kvm2, keys=keys).run()
    assert failed.value.cause.code is ErrorCode.WRONG_KEY
    assert [hosts.attachments(volume) for volume in guest.volumes] == [{"kvm1": "rw"}] * 2
    assert secrets_of(hosts.kvm2) == set()
    guest.still_writes()


def test_it_reads_there_and_back_what_it_wrote_here_and_its_secrets_follow_it(
    hosts: TwoHosts, guest: EncryptedTraveller, keys: Path, tmp_path: Path
) -> None:
    for source, destination in ((hosts.kvm1, hosts.kvm2), (hosts.kvm2, hosts.kvm1)):
        Driver(hosts, guest, source, destination, keys=guest.keys).run()
        guest.has_come_to(destination)
        guest.still_writes()
        assert guest.checksum("vdb", 1, 2) == pattern_checksum(1, 2, "before")
        assert secrets_of(destination) == {secret_of(volume) for volume in guest.volumes}
        assert secrets_of(source) == set()
    guest.promised.append(guest.stop_recording())
    found = [
        check_records(decrypted(guest, volume, keys, tmp_path), FIRST_MIB, guest.promised) for volume in guest.volumes
    ]
    assert found == [guest.promised[-1].number] * 2


def test_nothing_that_it_wrote_is_on_storpool_as_plain_text(hosts: TwoHosts, guest: EncryptedTraveller) -> None:
    stored = guest.host.device(guest.volumes[1]).read_bytes()
    assert stored[:6] == b"LUKS\xba\xbe"
    assert not {*sectors(pattern(1, 2, "before"))}.intersection(sectors(stored))


def test_no_file_of_either_host_has_a_passphrase(hosts: TwoHosts, guest: Guest, keys: Path) -> None:
    looked_at = [
        path
        for host in (hosts.kvm1, hosts.kvm2)
        for part in ("agent", "libvirt")
        for path in (host.directory / part).rglob("*")
        if path.is_file()
    ]
    assert any(path.name == "journal.db" for path in looked_at)
    found = [str(path) for path in looked_at for each in PASSPHRASES.values() if each.encode() in path.read_bytes()]
    assert found == []


def secrets_of(host: KvmHost) -> set[str]:
    return secrets(host.uri)


def decrypted(guest: EncryptedTraveller, volume: str, keys: Path, directory: Path) -> Path:
    """What the machine sees of the volume up to its last record. Beyond, where nobody wrote, it is no zeroes."""
    name = guest.keys[volume].file or ""
    file = directory / name
    opened = f"driver=luks,key-secret=key,file.driver=host_device,file.filename={guest.host.device(volume)}"
    secret = f"secret,id=key,format=raw,file={keys / name}"
    with guest.paused():
        subprocess.run(
            [
                "qemu-img",
                "convert",
                "-U",
                "-T",
                "none",
                "-O",
                "raw",
                "--object",
                secret,
                "--image-opts",
                opened,
                str(file),
            ],
            check=True,
            timeout=CONVERT_TIMEOUT_S,
        )
    os.truncate(file, (FIRST_MIB << 20) + (guest.promised[-1].number + 1) * RECORD_BYTES)
    return file
