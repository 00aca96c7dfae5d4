# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A disk that a BIOS boots the test kernel from: FAT, with syslinux. Kept in .cache/guest as the kernel itself is."""

import hashlib
import tempfile
from pathlib import Path

from guest.domain_xml import KERNEL_ARGUMENTS
from guest.images import CACHE, BootImages, alone_with, boot_images, run_tool

SIZE_MIB = 32
KERNEL_FILE = "vmlinuz"
"""Its name on the disk, which syslinux tells the kernel as BOOT_IMAGE."""
INITRAMFS_FILE = "initrd.gz"
CONFIGURATION = f"""\
DEFAULT guest
PROMPT 0
LABEL guest
    KERNEL {KERNEL_FILE}
    INITRD {INITRAMFS_FILE}
    APPEND {KERNEL_ARGUMENTS}
"""
MIB = 1 << 20


def bootable_disk(cache: Path = CACHE) -> Path:
    """A raw image of SIZE_MIB. Its files fill the first half: a test may write on the second."""
    images = boot_images(cache)
    with alone_with(cache / "lock"):
        disk = cache / f"boot-disk-{_fingerprint(images)}.raw"
        if not disk.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                made = _made(images, Path(scratch))
                made.rename(disk)
    return disk


def _made(images: BootImages, scratch: Path) -> Path:
    disk, configuration = scratch / "disk", scratch / "syslinux.cfg"
    with disk.open("xb") as file:
        file.truncate(SIZE_MIB * MIB)
    configuration.write_text(CONFIGURATION)
    run_tool("mkfs.fat", "-n", "BOOT", str(disk))
    for source, name in (
        (images.kernel, KERNEL_FILE),
        (images.initramfs, INITRAMFS_FILE),
        (configuration, configuration.name),
    ):
        run_tool("mcopy", "-i", str(disk), str(source), f"::{name}")
    run_tool("syslinux", "--install", str(disk))
    return disk


def _fingerprint(images: BootImages) -> str:
    """The initramfs has a name that changes with its contents."""
    digest = hashlib.sha256()
    for part in (Path(__file__).read_bytes(), CONFIGURATION.encode(), images.kernel.read_bytes()):
        digest.update(hashlib.sha256(part).digest())
    digest.update(images.initramfs.name.encode())
    return digest.hexdigest()[:16]
