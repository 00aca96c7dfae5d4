# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A copy that cannot go on ends, says whose fault it is, and leaves no process."""

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from block_device import eventually
from image_files import (
    Watched,
    alive,
    descendants,
    holders_of,
    image,
    loop_over,
    qcow2_with,
    shut_down,
    tool,
    write_sparse,
    xfs,
)
from loop_device import MIB
from small_disk import small_disk
from standstill import stop
from storpool_agent.errors import AgentError, Cancelled, CopyFailed, CopyStalled, SecondaryFull, SecondaryUnavailable
from storpool_agent.images import child
from storpool_agent.images.tools import ImageTools
from storpool_commands.images import ImageFormat

pytestmark = pytest.mark.long

TOOLS = ImageTools()
DATA = hashlib.shake_128(b"failures").digest(16 * MIB)
SLOW_BYTES_S = 2 * MIB


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_full_file_system_is_said_to_be_full(kind: ImageFormat, job: Watched, tmp_path: Path) -> None:
    with small_disk(8) as store, image(write_sparse(tmp_path / "source", DATA)) as source:
        with image(store.path / "backup", kind) as target:
            with pytest.raises(SecondaryFull, match="no room for backup"):
                TOOLS.convert(source, target, job.task)


def test_a_device_that_cannot_be_written_is_not_called_full(job: Watched, tmp_path: Path) -> None:
    with small_disk(8) as below, image(write_sparse(tmp_path / "source", DATA)) as source, ExitStack() as ending:
        backing = below.path / "backing"
        backing.touch()
        os.truncate(backing, len(DATA))
        node = ending.enter_context(loop_over(backing))
        with image(node, device=True) as target:
            with pytest.raises(CopyFailed, match="the device loop"):
                TOOLS.convert(source, target, job.task)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
@pytest.mark.parametrize("role", ["source", "target"])
def test_a_store_that_fails_is_unavailable(kind: ImageFormat, role: str, job: Watched, tmp_path: Path) -> None:
    with xfs() as store, ExitStack() as opened:
        if role == "source":
            made = qcow2_with(store / "file", DATA) if kind == "qcow2" else write_sparse(store / "file", DATA)
            source, target = opened.enter_context(image(made, kind)), opened.enter_context(image(tmp_path / "copied"))
        else:
            source = opened.enter_context(image(write_sparse(tmp_path / "source", DATA)))
            target = opened.enter_context(image(store / "file", kind))
        tool("sync", "--file-system", str(store))
        shut_down(store)
        with pytest.raises(SecondaryUnavailable, match="the file file cannot be used"):
            TOOLS.convert(source, target, job.task)


def test_a_store_that_fails_meanwhile_is_unavailable(job: Watched, tmp_path: Path) -> None:
    with xfs() as store, image(write_sparse(tmp_path / "source", DATA)) as source, ExitStack() as opened:
        target = opened.enter_context(image(store / "file", "qcow2"))

        def fail_once() -> None:
            job.on_report = lambda: None
            shut_down(store)

        job.on_report = fail_once
        with pytest.raises(SecondaryUnavailable, match="the file file cannot be used"):
            TOOLS.convert(source, target, job.with_bandwidth(SLOW_BYTES_S))


def test_a_device_that_fails_is_named(job: Watched, tmp_path: Path) -> None:
    with xfs() as below, ExitStack() as ending:
        backing = write_sparse(below / "backing", DATA)
        node = ending.enter_context(loop_over(backing))
        shut_down(below)
        with image(node, device=True) as source, image(tmp_path / "copied") as target:
            with pytest.raises(CopyFailed, match="the device loop") as failed:
                TOOLS.convert(source, target, job.task)
            assert "error while reading" in str(failed.value)
            with pytest.raises(CopyFailed, match="error while reading at byte"):
                TOOLS.block_hash(source, len(DATA), job.task)


def test_a_damaged_qcow2_is_not_the_stores_fault(job: Watched, tmp_path: Path) -> None:
    made = qcow2_with(tmp_path / "damaged", DATA)
    with made.open("r+b") as file:
        file.seek(3 * 65536)  # its first table (L1), right behind header, refcount table and block
        file.write(b"\xff" * 512)
    with image(made, "qcow2") as source, image(tmp_path / "copied") as target:
        with pytest.raises(AgentError) as failed:
            TOOLS.convert(source, target, job.task)
        assert type(failed.value) is not SecondaryUnavailable
        with pytest.raises(AgentError) as failed:
            TOOLS.block_hash(source, len(DATA), job.task)
        assert type(failed.value) is not SecondaryUnavailable


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_an_interrupt_ends_a_copy(kind: ImageFormat, job: Watched, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    with image(write_sparse(tmp_path / "source", DATA)) as source, image(copied, kind) as target:
        job.on_report = lambda: job.interrupt.set(Cancelled("by its sender"))
        with pytest.raises(Cancelled):
            TOOLS.convert(source, target, job.with_bandwidth(SLOW_BYTES_S))
        assert holders_of(copied) == set()


def test_an_interrupt_ends_the_reading_of_a_qcow2_and_its_server(job: Watched, tmp_path: Path) -> None:
    made = qcow2_with(tmp_path / "disk", DATA * 4)
    with image(made, "qcow2") as opened:
        job.on_report = lambda: job.interrupt.set(Cancelled("by its sender"))
        with pytest.raises(Cancelled):
            TOOLS.block_hash(opened, len(DATA) * 4, job.task)
        assert holders_of(made) == set()


def test_a_copy_that_stops_moving_is_ended(job: Watched, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    with image(write_sparse(tmp_path / "source", DATA)) as source, image(copied) as target:
        job.on_report = lambda: stop_all(holders_of(copied))
        slowly = replace(job.with_bandwidth(SLOW_BYTES_S), stall_timeout_s=1.0)
        with pytest.raises(CopyStalled, match="copying source to copied: not a byte has moved"):
            TOOLS.convert(source, target, slowly)
        assert holders_of(copied) == set()


def test_a_copy_that_is_slow_is_not_ended(job: Watched, tmp_path: Path) -> None:
    """It takes three times its stall timeout."""
    with image(write_sparse(tmp_path / "source", DATA[: 6 * MIB])) as source, image(tmp_path / "copied") as target:
        TOOLS.convert(source, target, replace(job.with_bandwidth(SLOW_BYTES_S), stall_timeout_s=1.0))
    assert (tmp_path / "copied").read_bytes() == DATA[: 6 * MIB]


def command_of(pid: int) -> str:
    """Empty for one that has just ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_a_server_that_dies_fails_the_reading(job: Watched, tmp_path: Path) -> None:
    made, size_bytes = tmp_path / "disk", 512 * MIB  # long enough for the test to act meanwhile
    tool("qemu-img", "create", "-q", "-f", "qcow2", str(made), str(size_bytes))
    tool("qemu-io", "-f", "qcow2", "-c", f"write -q -P 7 0 {size_bytes}", str(made))

    def kill_server() -> None:
        for server in descendants():  # this process may have other children, such as the agent of other tests
            if command_of(server) == "qemu-nbd":
                os.kill(server, signal.SIGKILL)

    with image(made, "qcow2") as opened:
        job.on_report = kill_server
        with pytest.raises(CopyFailed, match=r"qemu-nbd has ended|Connection (reset|refused)|Broken pipe"):
            TOOLS.block_hash(opened, size_bytes, job.task)


def test_what_qemu_img_only_mentions_is_a_failure_too(
    job: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with status 0 when the last tables of a qcow2 cannot be written as it is closed."""
    tool_of_ours = tmp_path / "qemu-img"
    tool_of_ours.write_text(
        '#!/bin/sh\nqemu_img=$(PATH=${PATH#*:}; command -v qemu-img); "$qemu_img" "$@" || exit\n'
        '[ "$1" != convert ] || echo "qemu-img: Failed to flush the L2 block cache: Input/output error" >&2\n'
    )
    tool_of_ours.chmod(0o755)
    with image(write_sparse(tmp_path / "source", DATA)) as source, image(tmp_path / "copied", "qcow2") as target:
        TOOLS.convert(source, target, job.task)
        monkeypatch.setattr(child, "PATH", f"{tmp_path}:{child.PATH}")
        with pytest.raises(SecondaryUnavailable, match="did not complete it: qemu-img: Failed to flush"):
            TOOLS.convert(source, target, job.task)


AGENT = """
import os, signal, sys
from image_files import descendants, image, watched
from storpool_agent.images.tools import ImageTools

def die():
    print(*descendants(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

with watched() as job, image(sys.argv[1], "qcow2") as opened:
    job.on_report = die
    ImageTools().block_hash(opened, int(sys.argv[2]), job.task)
"""


def test_the_agents_death_ends_the_reading_of_a_qcow2_and_its_server(tmp_path: Path) -> None:
    made, size_bytes = tmp_path / "disk", 512 * MIB
    tool("qemu-img", "create", "-q", "-f", "qcow2", str(made), str(size_bytes))
    tool("qemu-io", "-f", "qcow2", "-c", f"write -q -P 7 0 {size_bytes - 512}", str(made))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", AGENT, str(made), str(size_bytes)]
    died = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    worker, server = map(int, died.stdout.split())
    assert eventually(lambda: not alive(worker) and not alive(server))


def stop_all(pids: set[int]) -> None:
    for pid in pids:
        stop(pid)
