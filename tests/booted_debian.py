# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A Debian with systemd as its PID 1, beside this one, for what is installed and run as an admin does it.

root = debian_root(cache, package)
with booted(root, binds=[directory]) as debian:
    debian.run("apt-get", "install", "--yes", "/srv/package.deb")

It has this machine's network, and so its broker, its development StorPool and the events of its udev; it has a process
tree and a file system of its own, and every one begins with the same.
"""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

BOOT_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 120.0
POWER_OFF_TIMEOUT_S = 30.0
MAKE_TIMEOUT_S = 280.0
LOOK_S = 0.05
HIERARCHIES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"))
ENTER = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
"""Into the control groups that stand before `--`."""
INCLUDED = "dbus,systemd-sysv,udev"
AT_HAND = "rpm"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = (f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")


@dataclass(frozen=True)
class Debian:
    """A running one."""

    leader: int
    """Its PID 1, as this machine numbers it."""

    def run(
        self, *argv: str, check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run it there as root. What went wrong is in the error."""
        done = subprocess.run(
            self._argv(argv), capture_output=True, text=True, check=False, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *argv: str) -> "subprocess.Popen[str]":
        """Begin to run it there."""
        return subprocess.Popen(
            self._argv(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def output(self, *argv: str) -> str:
        return self.run(*argv).stdout.strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file there, its directory too if need be."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def path(self, inside: str) -> Path:
        """The same file as this machine sees it."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        give_up_at = monotonic() + timeout_s
        while not condition():
            assert monotonic() < give_up_at, f"not within {timeout_s:.0f} s: {what}"
            sleep(LOOK_S)

    def _argv(self, argv: Sequence[str]) -> list[str]:
        spaces = ["--mount", "--uts", "--ipc", "--pid", "--root", "--wd"]
        return ["nsenter", f"--target={self.leader}", *spaces, "--", "env", "--ignore-environment", *ENVIRONMENT, *argv]


@contextmanager
def booted(root: Path, *, binds: Sequence[Path] = (), hostname: str = "kvm1") -> Iterator[Debian]:
    """Boot it, and switch it off at the end. What it writes is gone then; `binds` are the same in both."""
    with tempfile.TemporaryDirectory() as directory, _own_control_groups() as groups:
        console = Path(directory, "console")
        # Open until it has booted, and no longer: systemd goes on to tell, and what nobody reads would block it.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, console.open("wb") as output:
            ready.bind(f"{directory}/notify")
            process = subprocess.Popen(
                [
                    *("sh", "-c", ENTER, "sh", *map(str, groups), "--"),
                    *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--notify-ready=yes"),
                    *(f"--directory={root}", "--volatile=overlay", f"--hostname={hostname}", "--link-journal=no"),
                    *(f"--bind={each}" for each in binds),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": PATH, "NOTIFY_SOCKET": f"{directory}/notify"},
                start_new_session=True,  # Ctrl-C is for whoever booted it, who then ends it in the right order
            )
            try:
                leader = _leader(ready, process, console)
            except BaseException:
                _switch_off(process)
                raise
        try:
            yield Debian(leader)
        finally:
            _switch_off(process, leader)


@contextmanager
def _own_control_groups() -> Iterator[list[Path]]:
    """systemd arranges the groups that it finds itself in; two of them in the same would end each other's services."""
    name = f"debian-{uuid4().hex}"
    groups = [hierarchy / name for hierarchy in HIERARCHIES if (hierarchy / "cgroup.procs").exists()]
    try:
        for group in groups:
            group.mkdir()
        yield groups
    finally:
        for group in groups:
            for directory, _, _ in os.walk(group, topdown=False):
                Path(directory).rmdir()


def _leader(ready: socket.socket, process: "subprocess.Popen[bytes]", console: Path) -> int:
    """Once it has booted."""
    ready.settimeout(LOOK_S)
    said = ""
    give_up_at = monotonic() + BOOT_TIMEOUT_S
    while "READY=1" not in said:
        try:
            said += ready.recv(4096).decode() + "\n"
        except TimeoutError:
            if process.poll() is not None or monotonic() > give_up_at:
                raise RuntimeError(f"it did not boot: {console.read_text(errors='replace')[-4000:]}") from None
    found = re.search(r"^X_NSPAWN_LEADER_PID=(\d+)$", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1])


def _switch_off(process: "subprocess.Popen[bytes]", leader: int | None = None) -> None:
    process.terminate()
    try:
        process.wait(POWER_OFF_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.kill(leader or process.pid, signal.SIGKILL)  # all in there end with its PID 1
        process.wait()
        raise


def debian_root(cache: Path, package: Path) -> Path:
    """A minimal system like this one's, with the archives of what `package` depends on, and of rpm, at hand.

    It is made once for the same dependencies, from where this machine has its own packages.
    """
    sources = _sources()
    depends = _done("dpkg-deb", "--field", str(package), "Depends")
    made_of = [*_recipe(Path("ROOT"), sources, Path("PACKAGE")), depends]
    root = cache / f"debian-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}"
    if not root.exists():
        cache.mkdir(exist_ok=True)
        for outdated in cache.glob("debian-*"):
            shutil.rmtree(outdated)
        unfinished = root.with_suffix(".unfinished")
        _done(*_recipe(unfinished, sources, package))
        unfinished.rename(root)
    return root


def _sources() -> list[str]:
    """Lines of a sources.list: Debian's own archives among those that this machine is set up for."""
    known = "$(ORIGIN)\t$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"
    listed = _done("apt-get", "indextargets", "--format", known, "Created-By: Packages")
    targets = [line.split("\t") for line in listed.splitlines()]
    return [f"deb {uri} {release} {component}" for origin, uri, release, component in targets if origin == "Debian"]


def _recipe(root: Path, sources: Sequence[str], package: Path) -> list[str]:
    inside = f"/var/cache/apt/archives/{package.name}"
    download = f"apt-get --yes --download-only --no-install-recommends install {inside} {AT_HAND}"
    return [
        *("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={INCLUDED}", "--quiet"),
        *("--skip=cleanup/apt", "--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"'),
        f"--customize-hook=copy-in {package} /var/cache/apt/archives",
        f'--customize-hook=chroot "$1" {download} && rm "$1"{inside} "$1"/etc/hostname',
        *("", str(root), *sources),
    ]


def _done(*argv: str) -> str:
    """Run to the end; its output."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=MAKE_TIMEOUT_S, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: status {done.returncode}: {done.stderr[-4000:]}")
    return done.stdout
