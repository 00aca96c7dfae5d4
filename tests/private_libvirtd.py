# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of a test's own, to be killed, stopped and restarted. Its machines survive it, as they do on a host."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from standstill import stop

READY_TIMEOUT_S = 60.0
EXIT_TIMEOUT_S = 10.0

# Private copies of libvirt's directories, seen by this libvirtd and its machines only.
DIRECTORIES = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "etc": "/etc/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
IN_ITS_NAMESPACE = """
set -e
root=$1; shift
mount --make-rprivate /
while [ $# -gt 1 ]; do mount --bind "$root/$1" "$2"; shift 2; done
exec libvirtd --pid-file /run/libvirt/libvirtd.pid
"""
CAPABILITIES = Path("/var/cache/libvirt/qemu/capabilities")  # what QEMU can do; asking it takes 8 s
# What it remembers of a node's owner outlives it, for whoever gets that loop device next: it is not to.
QEMU_CONF = """\
stdio_handler = "file"
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
"""


class PrivateLibvirtd:
    """Not thread safe: the test that owns it drives it."""

    def __init__(self, root: Path | None = None) -> None:
        """`root` is made, and goes with it."""
        self.root = root or Path(tempfile.mkdtemp(prefix="libvirtd-"))
        self.root.mkdir(exist_ok=True)
        self.socket = self.root / "run" / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        for name in DIRECTORIES:
            (self.root / name).mkdir()
        (self.root / "etc" / "qemu.conf").write_text(QEMU_CONF)
        if CAPABILITIES.is_dir():
            shutil.copytree(CAPABILITIES, self.root / "cache" / "qemu" / "capabilities")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        with (self.root / "libvirtd.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        give_up = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, (self.root / "libvirtd.log").read_text()
            assert time.monotonic() < give_up, f"libvirtd does not answer after {READY_TIMEOUT_S} s"
            time.sleep(0.05)

    def kill(self) -> None:
        """As the out-of-memory killer does. It may be started again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(EXIT_TIMEOUT_S)

    def hang(self) -> None:
        stop(self.pid)

    def go_on(self) -> None:
        """Unless it has been killed meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, its machines and its files, whatever state the test has left it in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        for pid_file in (self.root / "run" / "qemu").glob("*.pid"):
            _end(int(pid_file.read_text()))
        shutil.rmtree(self.root)

    def _command(self) -> list[str]:
        """What becomes a libvirtd that sees its own directories in the places of the system's."""
        binds = [part for name, place in DIRECTORIES.items() for part in (name, place)]
        return ["unshare", "--mount", "sh", "-c", IN_ITS_NAMESPACE, "libvirtd", str(self.root), *binds]

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        asked = subprocess.run(
            ["virsh", "--connect", self.uri, "version"], capture_output=True, check=False, timeout=READY_TIMEOUT_S
        )
        return asked.returncode == 0


@pytest.fixture
def private_libvirtd() -> Iterator[PrivateLibvirtd]:
    libvirtd = PrivateLibvirtd()
    try:
        libvirtd.start()
        yield libvirtd
    finally:
        libvirtd.close()


@contextmanager
def unwritable(directory: Path) -> Generator[None]:
    """Even for root."""
    subprocess.run(["chattr", "+i", str(directory)], check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(directory)], check=True, timeout=10)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
