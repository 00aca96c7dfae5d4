# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes in a real guest, which boots from one: nothing of them is on StorPool as plain text."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from guest import KERNEL_FILE, bootable_disk, pattern, pattern_checksum
from integration.agent.encrypted import (
    HEADER_BYTES,
    MIB,
    BootsEncrypted,
    Vault,
    own_libvirtd,
    running_vault,
    secret_of,
    secrets,
    sectors,
)
from private_libvirtd import PrivateLibvirtd
from real_lab import wait_for
from storpool_commands.client import CommandFailed
from storpool_commands.copies import BackupSnapshot, CopyVolumeToSecondary, CreateTemplateFromVolume, MigrateVolume
from storpool_commands.disks import AttachDisk, DetachDisk, GetPhysicalDisk, StorpoolResize
from storpool_commands.encrypting import EncryptVolume
from storpool_commands.encryption import Encryption, Key
from storpool_commands.errors import ErrorCode
from storpool_commands.images import StoredImage
from storpool_commands.snapshots import RevertSnapshot, TakeSnapshot
from storpool_commands.vm_snapshots import RevertVmSnapshot, TakeVmSnapshot, VolumeAndSnapshot
from storpool_commands.volumes import CreateVolumeFromSnapshot, CreateVolumeFromTemplate

LET_GO_S = 30.0
ROOT_KEY, DATA_KEY = (f"canary-{name}-{uuid4().hex}" for name in ("root", "data"))


@dataclass
class Scene:
    """A guest that has booted from an encrypted volume."""

    vault: Vault
    libvirtd: PrivateLibvirtd
    guest: BootsEncrypted
    root: str
    root_key: Key
    data_key: Key
    formatted: str
    """A snapshot of an encrypted volume that nobody has written to; data_key opens what is made from it."""

    def new_volume(self) -> str:
        """Encrypted, empty. Formatting one takes seconds, this does not."""
        return f"~{self.vault.stack.call(CreateVolumeFromSnapshot(snapshot=self.formatted)).global_id}"

    def fails(self, command: object) -> CommandFailed:
        with pytest.raises(CommandFailed) as failure:
            self.vault.stack.call(command)  # type: ignore[arg-type]
        return failure.value


@pytest.fixture(scope="module")
def scene(run_directory: object, services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as ending:
        libvirtd = ending.enter_context(own_libvirtd())
        directory = tmp_path_factory.mktemp("vault")
        secondary = {"directories": [str(directory)]}
        vault = ending.enter_context(running_vault(directory, libvirt={"uri": libvirtd.uri}, secondary=secondary))
        root_key, data_key = vault.key("root", f"{ROOT_KEY}\n"), vault.key("data", DATA_KEY)
        template = vault.template(bootable_disk().read_bytes())
        made = vault.stack.call(CreateVolumeFromTemplate(snapshot=template, encrypted=True))
        assert (made.parent, made.tags["sp-luks"]) == (None, "new")
        root = f"~{made.global_id}"
        done = vault.stack.call(EncryptVolume(volume=root, key=root_key, source_snapshot=template))
        assert (done.snapshot, done.payload_size_bytes) == (template[1:], made.payload_size_bytes)
        guest = ending.enter_context(BootsEncrypted(vault, root, root_key, libvirtd.uri))
        formatted = vault.stack.call(TakeSnapshot(volume=vault.data_volume(data_key)))
        yield Scene(vault, libvirtd, guest, root, root_key, data_key, f"~{formatted.global_id}")


@pytest.fixture
def data(scene: Scene) -> Iterator[str]:
    """An encrypted volume that is a disk of the guest, serial `data`."""
    volume = scene.new_volume()
    attached = scene.vault.attach(scene.guest, volume, scene.data_key, serial="data")
    assert attached.payload_size_bytes == attached.size_bytes - HEADER_BYTES
    assert scene.guest.wait_for_disk("data").size_bytes == attached.payload_size_bytes
    yield volume
    scene.vault.stack.call(DetachDisk(vm=scene.guest.uuid, volume=volume))
    assert secret_of(volume) not in secrets(scene.libvirtd.uri)


def test_a_guest_boots_from_what_encryptvolume_made_of_a_template(scene: Scene) -> None:
    assert f"BOOT_IMAGE={KERNEL_FILE}" in scene.guest.kernel_arguments()
    seen = scene.vault.stack.call(GetPhysicalDisk(volume=scene.root))
    assert (seen.encrypted, seen.tags["sp-luks"]) == (True, "luks1")
    stored = scene.vault.stack.link(scene.root).read_bytes()
    assert stored[:8] == b"LUKS\xba\xbe\0\1"
    plain = set(sectors(bootable_disk().read_bytes()))
    assert len(plain) > 10_000
    assert not plain.intersection(sectors(stored))


def test_a_guest_reads_what_it_wrote_before_a_snapshot_that_it_is_reverted_to(scene: Scene, data: str) -> None:
    stack, guest = scene.vault.stack, scene.guest
    disk = guest.wait_for_disk("data").name
    guest.write(disk, 1, 2, "first")
    taken = stack.call(TakeSnapshot(volume=data))
    assert taken.tags["sp-luks"] == "luks1"
    guest.write(disk, 1, 2, "second")
    stack.call(DetachDisk(vm=guest.uuid, volume=data))
    stack.call(RevertSnapshot(volume=data, snapshot=f"~{taken.global_id}"))
    stored = scene.vault.raw(data)
    written = {*sectors(pattern(1, 2, "first")), *sectors(pattern(1, 2, "second"))}
    assert not written.intersection(sectors(stored))
    scene.vault.attach(guest, data, scene.data_key, serial="data")
    assert guest.checksum(guest.wait_for_disk("data").name, 1, 2) == pattern_checksum(1, 2, "first")
    clone = stack.call(CreateVolumeFromSnapshot(snapshot=f"~{taken.global_id}"))
    assert (clone.tags["sp-luks"], clone.size_bytes) == ("luks1", taken.size_bytes)
    scene.vault.attach(guest, f"~{clone.global_id}", scene.data_key, serial="clone")
    assert guest.checksum(guest.wait_for_disk("clone").name, 1, 2) == pattern_checksum(1, 2, "first")
    stack.call(DetachDisk(vm=guest.uuid, volume=f"~{clone.global_id}"))


def test_a_group_of_an_encrypted_and_another_volume_is_reverted_each_to_its_own(scene: Scene, data: str) -> None:
    stack, guest = scene.vault.stack, scene.guest
    disk = guest.wait_for_disk("data").name
    guest.write(disk, 0, 1, "group")
    plain = stack.create()
    taken = stack.call(TakeVmSnapshot(volumes=[data, plain], quiesce="no"))
    tags = [
        stack.storpool.call("GET", f"Snapshot/~{one.snapshot}")[0]["tags"].get("sp-luks") for one in taken.snapshots
    ]
    assert tags == ["luks1", None]
    guest.write(disk, 0, 1, "later")
    stack.call(DetachDisk(vm=guest.uuid, volume=data))
    crossed = scene.fails(RevertSnapshot(volume=data, snapshot=f"~{taken.snapshots[1].snapshot}"))
    assert (crossed.code, crossed.side_effects) == (ErrorCode.ENCRYPTED_UNSUPPORTED, "none")
    pairs = [VolumeAndSnapshot(volume=f"~{one.volume}", snapshot=f"~{one.snapshot}") for one in taken.snapshots]
    stack.call(RevertVmSnapshot(disks=pairs))
    scene.vault.attach(guest, data, scene.data_key, serial="data")
    assert guest.checksum(guest.wait_for_disk("data").name, 0, 1) == pattern_checksum(0, 1, "group")


def test_a_guest_sees_the_payload_of_a_volume_that_grows(scene: Scene, data: str) -> None:
    before = scene.vault.stack.call(GetPhysicalDisk(volume=data)).size_bytes
    resized = scene.vault.stack.call(StorpoolResize(volume=data, new_size_bytes=before + 8 * MIB))
    payload = before + 8 * MIB - HEADER_BYTES
    assert (resized.size_bytes, resized.payload_size_bytes) == (before + 8 * MIB, payload)
    assert [vm.size_bytes for vm in resized.vms] == [payload]
    scene.guest.wait_for_size(scene.guest.wait_for_disk("data").name, payload)
    again = scene.vault.stack.call(StorpoolResize(volume=data, new_size_bytes=before + 8 * MIB))
    assert again.vms == resized.vms


@pytest.fixture(scope="module")
def restarted(scene: Scene) -> Iterator[str]:
    """An encrypted disk of the guest, serial `kept`, from before libvirtd was killed and started anew."""
    volume = scene.new_volume()
    scene.vault.attach(scene.guest, volume, scene.data_key, serial="kept")
    scene.guest.write(scene.guest.wait_for_disk("kept").name, 1, 1, "kept")
    assert secrets(scene.libvirtd.uri) == {secret_of(scene.root), secret_of(volume)}
    scene.libvirtd.kill()
    scene.libvirtd.start()
    scene.guest.reconnect()
    yield volume
    scene.vault.stack.call(DetachDisk(vm=scene.guest.uuid, volume=volume))


def test_after_a_restart_of_libvirtd_attaching_again_gives_it_the_secrets_again(scene: Scene, restarted: str) -> None:
    guest, uri = scene.guest, scene.libvirtd.uri
    assert secrets(uri) == set()
    assert guest.checksum(guest.wait_for_disk("kept").name, 1, 1) == pattern_checksum(1, 1, "kept")
    wrong = scene.fails(_attach(guest.uuid, restarted, scene.root_key, serial="kept"))
    assert (wrong.code, wrong.side_effects, secrets(uri)) == (ErrorCode.WRONG_KEY, "none", set())
    for volume, key, serial in ((scene.root, scene.root_key, "root"), (restarted, scene.data_key, "kept")):
        again = scene.vault.attach(guest, volume, key, serial=serial)
        assert (again.attached_now, again.live, again.persistent) == (False, True, True)
    assert secrets(uri) == {secret_of(scene.root), secret_of(restarted)}


def test_when_a_guest_lets_go_late_libvirt_forgets_the_secret_too(scene: Scene) -> None:
    guest, volume = scene.guest, scene.new_volume()
    scene.vault.attach(guest, volume, scene.data_key, serial="late")
    guest.wait_for_disk("late")
    guest.pause()
    failure = scene.fails(DetachDisk(vm=guest.uuid, volume=volume, wait_guest_s=1))
    assert failure.code is ErrorCode.UNPLUG_PENDING
    assert secret_of(volume) in secrets(scene.libvirtd.uri)
    guest.resume()
    wait_for(lambda: scene.vault.stack.attachments(volume) == [], LET_GO_S)
    wait_for(lambda: secret_of(volume) not in secrets(scene.libvirtd.uri), LET_GO_S)


def test_a_wrong_key_opens_nothing_and_leaves_nothing(scene: Scene) -> None:
    volume = scene.new_volume()
    before = (scene.guest.disk_sources(), secrets(scene.libvirtd.uri))
    for persistent in (True, False):
        failure = scene.fails(_attach(scene.guest.uuid, volume, scene.root_key, persistent=persistent))
        assert (failure.code, failure.retry, failure.side_effects) == (ErrorCode.WRONG_KEY, "final", "none")
    assert (scene.guest.disk_sources(), secrets(scene.libvirtd.uri)) == before
    assert scene.vault.stack.attachments(volume) == []


def test_what_would_leave_storpool_is_refused(scene: Scene, tmp_path: Path) -> None:
    stack, store = scene.vault.stack, f"file://{scene.vault.keys.parent}"
    volume = scene.new_volume()
    snapshot = f"~{stack.call(TakeSnapshot(volume=volume)).global_id}"
    target = StoredImage(store=store, path="out")
    for command in (
        BackupSnapshot(snapshot=snapshot, target=target),
        CopyVolumeToSecondary(volume=volume, target=target),
        CreateTemplateFromVolume(volume=volume, target=target),
        MigrateVolume(volume=volume, target=target),
    ):
        failure = scene.fails(command)
        assert (failure.code, failure.side_effects) == (ErrorCode.ENCRYPTED_UNSUPPORTED, "none"), command
    moved = stack.call(MigrateVolume(volume=volume, new_volume=True, template="dev"))
    assert scene.vault.tag(f"~{moved.volume}") == "luks1"
    scene.vault.attach(scene.guest, f"~{moved.volume}", scene.data_key)
    stack.call(DetachDisk(vm=scene.guest.uuid, volume=f"~{moved.volume}"))


def test_the_passphrases_are_nowhere(scene: Scene) -> None:
    """After all of the above: in no file of the agent, libvirt or QEMU, in no argument and no environment."""
    places = [scene.vault.stack.agent.directory, scene.libvirtd.root]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert {"journal.db", "agent.log", "libvirtd.log", f"{scene.guest.name}.log"} <= {file.name for file in files}
    shown = [Path(f"/proc/{pid}/{what}") for pid in _pids(scene) for what in ("cmdline", "environ")]
    for file in (*files, *shown):
        text = file.read_bytes()
        assert not any(key.encode() in text for key in (ROOT_KEY, DATA_KEY)), file


def _pids(scene: Scene) -> list[str]:
    qemu = scene.libvirtd.root / "run" / "qemu" / f"{scene.guest.name}.pid"
    return [str(scene.vault.stack.agent.pid), str(scene.libvirtd.pid), qemu.read_text().strip()]


def _attach(vm: str, volume: str, key: Key, **options: object) -> AttachDisk:
    return AttachDisk(vm=vm, volume=volume, encryption=Encryption(key=key), **options)  # type: ignore[arg-type]
