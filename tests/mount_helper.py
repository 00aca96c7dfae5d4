# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for NFS where the kernel has no client: a mount.nfs of ours, and exports that are directories.

mount(8) runs /sbin/mount.nfs for `mount -t nfs`. The one that is installed here mounts an overlay, whose source may be
any text: mountinfo has `server:/export` as it would for NFS, the files are on the export's directory, and O_DIRECT,
holes and free space are those of the file system that it is on.
"""

import fcntl
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

MOUNT_TIMEOUT_S = 20.0
PLACE = Path("/run/storpool-agent-tests")
HELPER = Path("/sbin/mount.nfs").resolve()
"""Where libmount looks, whatever PATH is."""
MARK = "# stands in for mount.nfs while tests of storpool-agent run\n"
SCRIPT = f"""#!/bin/sh
{MARK}set -eu
source=$1 directory=$2
shift 2
options=
while [ $# -gt 0 ]; do
    case $1 in
    -o) options=$2; shift 2 ;;
    *) shift ;;
    esac
done
server={PLACE}/servers/${{source%%:*}}
if [ ! -d "$server" ]; then
    echo "mount.nfs: Failed to resolve server ${{source%%:*}}: Name or service not known" >&2
    exit 32
fi
echo "$$ $options" >>"$server/mounts"
if [ -e "$server/hanging" ]; then
    cat "$server/hanging" >/dev/null  # a FIFO: until somebody has opened and closed it
fi
if [ -e "$server/refusal" ]; then
    cat "$server/refusal" >&2
    exit 32
fi
export=$(readlink -f "$server/exports/$(echo "${{source#*:}}" | tr / !)")
if [ ! -d "$export/" ]; then
    echo "mount.nfs: mounting $source failed, reason given by server: No such file or directory" >&2
    exit 32
fi
kept=
IFS=,
for option in $options; do
    case $option in
    nosuid | nodev | noexec | ro) kept=$kept,$option ;;
    esac
done
layers="lowerdir=$export/lower,upperdir=$export/files,workdir=$export/work"
exec mount -i -n -t overlay -o "$layers$kept" "$source" "$directory"
"""


class NfsServer:
    """One server, under a name that no other test has."""

    def __init__(self) -> None:
        self.name = f"nas-{uuid4().hex[:12]}.test"
        self._directory = PLACE / "servers" / self.name
        (self._directory / "exports").mkdir(parents=True)

    def export(self, path: str, backing: Path) -> str:
        """Export a directory, which must be on no overlay; the URL of the store. Its files are in `files` below it."""
        for each in ("lower", "files", "work"):
            (backing / each).mkdir(exist_ok=True)
        link = self._directory / "exports" / path.replace("/", "!")
        link.symlink_to(backing)
        return f"nfs://{self.name}{path}"

    @property
    def mounts(self) -> list[tuple[int, str]]:
        """Process id and options of every mount that was tried."""
        log = self._directory / "mounts"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(pid), options) for pid, _, options in (line.partition(" ") for line in lines)]

    def refuse(self, text: str) -> None:
        (self._directory / "refusal").write_text(text)

    def hang(self) -> Path:
        """Whoever mounts waits until this FIFO is opened for writing, and closed."""
        fifo = self._directory / "hanging"
        os.mkfifo(fifo)
        return fifo

    def answer(self) -> None:
        """No more hanging, and no refusal."""
        for each in ("hanging", "refusal"):
            (self._directory / each).unlink(missing_ok=True)

    def close(self) -> None:
        self.answer()
        (self._directory / "mounts").unlink(missing_ok=True)
        for link in (self._directory / "exports").iterdir():
            link.unlink()
        (self._directory / "exports").rmdir()
        self._directory.rmdir()


@contextmanager
def mount_helper() -> Generator[None]:
    """While inside, `mount -t nfs` mounts what an NfsServer exports. Several processes may be inside at once.

    Each holds a shared lock meanwhile, which the kernel drops when it dies; who finds no other at the end removes the
    helper. A real mount.nfs stays where it is, with ours mounted over it.
    """
    (PLACE / "servers").mkdir(parents=True, exist_ok=True)
    with (PLACE / "users").open("w") as users:
        with _alone():
            fcntl.flock(users, fcntl.LOCK_SH)
            _install()
        try:
            yield
        finally:
            with _alone():
                _uninstall_unless_used(users.fileno())


@contextmanager
def _alone() -> Generator[None]:
    with (PLACE / "changing").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install() -> None:
    if not HELPER.exists():
        _write(HELPER)
    elif MARK not in HELPER.read_text(errors="replace"):
        _write(PLACE / HELPER.name)
        _run("mount", "--bind", str(PLACE / HELPER.name), str(HELPER))
    elif HELPER.read_text() != SCRIPT:  # of a run that was killed
        HELPER.write_text(SCRIPT)


def _write(path: Path) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(SCRIPT)
    fresh.chmod(0o755)
    fresh.replace(path)


def _uninstall_unless_used(users: int) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    if any(line.split(" ")[4] == str(HELPER) for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        _run("umount", str(HELPER))
    elif MARK in HELPER.read_text(errors="replace"):
        HELPER.unlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=MOUNT_TIMEOUT_S)
