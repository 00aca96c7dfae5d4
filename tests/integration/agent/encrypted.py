# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An agent with keys, and volumes that are encrypted with them."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from agent_process import Stack, running_stack
from guest import Guest
from private_libvirtd import PrivateLibvirtd
from storpool_agent.domains.model import secret_uuid
from storpool_commands.disks import AttachDisk, AttachedDisk
from storpool_commands.encrypting import EncryptVolume
from storpool_commands.encryption import Encryption, Key

MIB = 1 << 20
HEADER_BYTES = 2_068_480
"""What QEMU puts before the data (research, and `qemu-img info` of any LUKS1 image that it makes)."""
SECTOR = 512


@dataclass
class Vault:
    """An agent, and the directory with its keys."""

    stack: Stack
    keys: Path

    def key(self, name: str, passphrase: str) -> Key:
        """One that is in a file."""
        file = self.keys / name
        file.touch(mode=0o600)
        file.write_text(passphrase)
        return Key(file=name)

    def empty_volume(self, size: int = 14 * MIB) -> str:
        """As createVolume makes one that is to be encrypted; its header comes on top of the size."""
        tags = {"sp-luks": "new", "cs": "volume"}
        return f"~{self.stack.storpool.create(size + 2 * MIB, template='dev', tags=tags)}"

    def data_volume(self, key: Key, size: int = 14 * MIB) -> str:
        """Encrypted, and empty."""
        volume = self.empty_volume(size)
        self.stack.call(EncryptVolume(volume=volume, key=key))
        return volume

    def template(self, data: bytes) -> str:
        """A snapshot with these contents."""
        volume = self.stack.create(len(data))
        with self.connected(volume) as path, path.open("r+b") as device:
            device.write(data)
        taken = self.stack.storpool.call("POST", f"VolumeSnapshot/{volume}", {"tags": {"cs": "template"}})
        return f"~{taken['snapshotGlobalId']}"

    @contextmanager
    def connected(self, volume: str) -> Generator[Path]:
        """Its device, as it is; the agent is not asked, and need not run."""
        self.stack.storpool.attach(volume[1:])
        yield self.stack.link(volume)
        self.stack.storpool.detach(volume[1:])

    def raw(self, volume: str) -> bytes:
        """All bytes of it, as they are."""
        with self.connected(volume) as path:
            return path.read_bytes()

    def tag(self, volume: str) -> str | None:
        """`sp-luks`, as StorPool has it."""
        [listed] = self.stack.storpool.call("GET", f"Volume/{volume}")
        tag: str | None = listed["tags"].get("sp-luks")
        return tag

    def attach(self, guest: Guest, volume: str, key: Key, **options: Any) -> AttachedDisk:
        return self.stack.call(AttachDisk(vm=guest.uuid, volume=volume, encryption=Encryption(key=key), **options))


@contextmanager
def running_vault(directory: Path, *, start: bool = True, **settings: Any) -> Generator[Vault]:
    """Passphrases are tried in a tenth of a second."""
    keys = directory / "keys"
    keys.mkdir(mode=0o700)
    encryption = {"key_directory": str(keys), "iteration_ms": 100}
    with running_stack(start=start, encryption=encryption, **settings) as stack:
        yield Vault(stack, keys)


@contextmanager
def own_libvirtd() -> Generator[PrivateLibvirtd]:
    libvirtd = PrivateLibvirtd()
    try:
        libvirtd.start()
        yield libvirtd
    finally:
        libvirtd.close()


class BootsEncrypted(Guest):
    """A machine whose only disk, at first, is an encrypted volume that the agent has given it before its start."""

    def __init__(self, vault: Vault, volume: str, key: Key, uri: str) -> None:
        super().__init__(boot_from="vda", persistent=True, uri=uri)
        self._vault, self._volume, self._key = vault, volume, key

    def _start(self) -> libvirt.virDomain:
        domain = self.connection.defineXML(self._xml())
        attached = self._vault.attach(self, self._volume, self._key, target="vda", serial="root")
        assert (attached.live, attached.persistent) == (False, True)
        domain.create()
        return domain

    def reconnect(self) -> None:
        """libvirtd was started anew."""
        with suppress(libvirt.libvirtError):
            self.connection.close()
        self.connection = libvirt.open(self.uri)
        self.domain = self.connection.lookupByUUIDString(self.uuid)


def secrets(uri: str) -> set[str]:
    """The UUIDs of those that libvirt has."""
    connection = libvirt.open(uri)
    try:
        return {secret.UUIDString() for secret in connection.listAllSecrets()}
    finally:
        connection.close()


def secret_of(volume: str) -> str:
    return secret_uuid(volume.removeprefix("~"))


def sectors(data: bytes) -> Iterator[bytes]:
    """Those that are not zero."""
    for begin in range(0, len(data), SECTOR):
        sector = data[begin : begin + SECTOR]
        if any(sector):
            yield sector
