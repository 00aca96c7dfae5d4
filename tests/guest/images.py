# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The guest's kernel (Debian's) and initramfs (busybox and `init`), kept in .cache/guest.

A guest with QEMU's agent (Debian's) has another initramfs, which is larger and so boots slower. Each is made once,
with the network, and used from there until an input changes.
"""

import fcntl
import gzip
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "guest"
BUSYBOX = Path("/bin/busybox")
INIT = HERE / "init"
AGENT_PACKAGE = "qemu-guest-agent"
AGENT = Path("usr/sbin/qemu-ga")
KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
DRIVERS = ("virtio_pci", "virtio_console", "virtio_blk", "virtio_scsi", "sd_mod")
COMMAND_TIMEOUT_S = 120.0  # the slowest is the download of 27 MB


@dataclass(frozen=True)
class BootImages:
    kernel: Path
    initramfs: Path


def boot_images(cache: Path = CACHE, *, agent: bool = False) -> BootImages:
    """The images to boot from; only what is not there yet is made."""
    cache.mkdir(parents=True, exist_ok=True)
    with alone_with(cache / "lock"):
        kernel_root = _kernel_root(cache)
        kernel = next((kernel_root / "boot").glob("vmlinuz-*"))
        programs = _with_libraries(_agent_root(cache), AGENT) if agent else {}
        return BootImages(kernel, _initramfs(cache, kernel_root, programs))


@contextmanager
def alone_with(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _kernel_root(cache: Path) -> Path:
    """Debian's kernel package, unpacked."""
    unpacked = cache / "kernel"
    if not unpacked.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            root = _downloaded(_kernel_package(), Path(scratch))
            run_tool("depmod", "-b", str(root), _release(root))
            root.rename(unpacked)
    return unpacked


def _kernel_package() -> str:
    """The metapackage names the kernel of the day."""
    listing = run_tool("apt-cache", "depends", "--important", KERNEL_METAPACKAGE)
    if "Depends:" not in listing:
        run_tool("apt-get", "-qq", "update")
        listing = run_tool("apt-cache", "depends", "--important", KERNEL_METAPACKAGE)
    depends = [line.split()[-1] for line in listing.splitlines() if "Depends: linux-image-" in line]
    return depends[0]


def _agent_root(cache: Path) -> Path:
    """The package of QEMU's guest agent, unpacked: to install it would have the host start one."""
    unpacked = cache / "agent"
    if not unpacked.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _downloaded(_known(AGENT_PACKAGE), Path(scratch)).rename(unpacked)
    return unpacked


def _known(package: str) -> str:
    if not run_tool("apt-cache", "policy", package):
        run_tool("apt-get", "-qq", "update")
    return package


def _downloaded(package: str, scratch: Path) -> Path:
    run_tool("apt-get", "download", package, cwd=str(scratch))
    root = scratch / "root"
    run_tool("dpkg", "-x", str(next(scratch.glob("*.deb"))), str(root))
    return root


def _with_libraries(package_root: Path, program: Path) -> dict[Path, Path]:
    """The program and the host's libraries that it needs, by their places in the guest."""
    listing = run_tool("ldd", str(package_root / program))
    libraries = [Path(word) for line in listing.splitlines() for word in line.split() if word.startswith("/")]
    return {program: package_root / program, **{library.relative_to("/"): library for library in libraries}}


def _release(kernel_root: Path) -> str:
    return next((kernel_root / "lib" / "modules").iterdir()).name


def _initramfs(cache: Path, kernel_root: Path, programs: dict[Path, Path]) -> Path:
    modules = _modules_in_load_order(kernel_root)
    image = cache / f"initramfs-{_fingerprint([*modules, *programs.values()])}.gz"
    if not image.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            root = Path(scratch) / "root"
            _lay_out(root, modules)
            for place, program in programs.items():
                (root / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(program, root / place)
            packed = Path(scratch) / "image"
            packed.write_bytes(gzip.compress(_archive(root), compresslevel=6, mtime=0))
            packed.rename(image)
    return image


def _modules_in_load_order(kernel_root: Path) -> list[Path]:
    modules: dict[Path, None] = {}
    for driver in DRIVERS:
        steps = run_tool("modprobe", "-d", str(kernel_root), "-S", _release(kernel_root), "--show-depends", driver)
        modules |= {Path(step.split()[1]): None for step in steps.splitlines() if step.startswith("insmod ")}
    return list(modules)


def _fingerprint(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for part in (Path(__file__), INIT, BUSYBOX, *files):
        digest.update(part.name.encode() + b"\0" + hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _lay_out(root: Path, modules: list[Path]) -> None:
    for directory in ("bin", "dev", "modules"):
        (root / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    shutil.copy(INIT, root / "init")
    (root / "init").chmod(0o755)
    for module in modules:
        shutil.copy(module, root / "modules")
    (root / "modules" / "order").write_text("".join(f"{module.name}\n" for module in modules))


def _archive(root: Path) -> bytes:
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--quiet", "--create", "--format=newc"],
        input=names.encode(),
        cwd=root,
        capture_output=True,
        start_new_session=True,
        check=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    return packed.stdout


def run_tool(*command: str, cwd: str | None = None) -> str:
    # In a session of its own: Ctrl-C at the terminal is for us to act on.
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S, start_new_session=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
