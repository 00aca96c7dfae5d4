# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A child is started tidily, heard, watched, and ended for certain."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from block_device import eventually
from image_files import Watched, alive, watched
from loop_device import MIB, loop_device
from storpool_agent.errors import Cancelled, CopyFailed, CopyStalled, DeadlinePassed
from storpool_agent.images import process
from storpool_agent.images.child import Command, ToolFailed, output, run
from storpool_agent.images.launch import Limits
from storpool_agent.interrupt import Interrupt
from storpool_commands.images import IoPriority

END_TIMEOUT_S = 10.0
ENDLESS = ("sleep", "1000")
AGENT = """
import sys
from image_files import watched
from storpool_agent.images.child import Command, run
with watched() as job:
    run(Command(("sh", "-c", "echo $$; exec sleep 1000"), "testing"), job.task, lambda line: print(line, flush=True))
"""


def sh(script: str, **options: object) -> Command:
    return Command(("sh", "-c", script), "testing", **options)  # type: ignore[arg-type]


def said(script: str, job: Watched, **options: object) -> list[str]:
    lines: list[str] = []
    run(sh(script, **options), job.task, lines.append)
    return lines


def test_each_line_is_heard_whatever_ends_it(job: Watched) -> None:
    assert said(r"printf '(1/100%%)\r(2/100%%)\rend\nwithout an end'", job) == [
        "(1/100%)",
        "(2/100%)",
        "end",
        "without an end",
    ]


def test_a_line_without_end_comes_in_pieces(job: Watched) -> None:
    pieces = said("head -c 200000 /dev/zero | tr '\\0' x", job)
    assert sum(map(len, pieces)) == 200_000
    assert max(map(len, pieces)) <= 65_536


def test_it_gets_no_environment_no_input_and_no_descriptor_of_ours(
    job: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD_NOT", "secret")
    with tempfile.TemporaryFile() as ours:
        os.set_inheritable(ours.fileno(), True)
        lines = said("cat; env -u PWD -u OLDPWD -u SHLVL -u _; echo /proc/self/fd/*", job)
    assert sorted(line.partition("=")[0] for line in lines[:-1]) == ["LC_ALL", "PATH"]
    assert lines[-1].split() == [f"/proc/self/fd/{number}" for number in (0, 1, 2, 3)]  # 3: the shell looks into fd/


def test_it_gets_the_files_that_are_meant_for_it(job: Watched) -> None:
    with tempfile.TemporaryFile() as given:
        given.write(b"contents\n")
        given.flush()
        number = given.fileno()
        assert said(f"cat /proc/self/fd/{number}", job, files={number: "file"}) == ["contents"]


@pytest.mark.parametrize(
    ("priority", "io", "nice"),
    [("idle", "idle", "10"), ("low", "best-effort: prio 7", "10"), ("normal", "best-effort: prio 4", "0")],
)
def test_it_runs_at_the_priority_of_the_job(priority: IoPriority, io: str, nice: str, job: Watched) -> None:
    lines: list[str] = []
    run(sh("ionice -p $$; nice"), replace(job.task, io_priority=priority), lines.append)
    assert lines == [io, nice]


def test_it_is_without_network_and_within_its_limits(job: Watched) -> None:
    limits = Limits(address_space_bytes=1 << 30, cpu_s=60, file_bytes=1 << 20)
    lines = said("cat /proc/net/route; ulimit -v; ulimit -t; ulimit -f", job, limits=limits)
    assert [line for line in lines if not line.startswith("Iface")] == [str(1 << 20), "60", "2048"]


def test_it_has_the_network_where_it_is_asked_for(job: Watched) -> None:
    assert said("readlink /proc/self/ns/net", job, network=True) == [str(Path("/proc/self/ns/net").readlink())]
    assert said("readlink /proc/self/ns/net", job) != [str(Path("/proc/self/ns/net").readlink())]


def test_a_failure_says_what_the_tool_said_about_which_file_and_nothing_a_terminal_obeys(job: Watched) -> None:
    script = r"""i=0; while [ $i -lt 9999 ]; do echo noise >&2; i=$((i+1)); done
    printf "tool: Could not open '/proc/self/fd/77': \033[31mno\n" >&2; exit 3"""
    with tempfile.TemporaryFile() as file:
        number = file.fileno()
        with pytest.raises(ToolFailed) as failed:
            run(sh(script.replace("77", str(number)), files={number: "a.qcow2"}), job.task)
    assert failed.value.status == 3
    assert str(failed.value).startswith("testing: sh failed with status 3: noise; ")
    assert str(failed.value).endswith("tool: Could not open 'a.qcow2': ?[31mno")
    assert len(str(failed.value)) < 1000
    assert "\x1b" not in str(failed.value)


def test_a_program_that_is_not_there_is_a_failure(job: Watched) -> None:
    with pytest.raises(CopyFailed, match="no-such-program"):
        run(Command(("no-such-program",), "testing"), job.task)


def test_a_signal_is_named(job: Watched) -> None:
    with pytest.raises(ToolFailed, match="ended by SIGXFSZ") as failed:
        run(sh("kill -XFSZ $$"), job.task)
    assert failed.value.status == -signal.SIGXFSZ


def test_more_output_than_is_taken_ends_it(job: Watched) -> None:
    assert output(sh("echo one; echo two"), job.task, max_bytes=100) == "one\ntwo"
    with pytest.raises(ToolFailed, match="more than 100 bytes"):
        output(sh("yes"), job.task, max_bytes=100)


def test_an_interrupt_ends_it_and_its_children(job: Watched) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.extend(map(int, line.split()))
        job.interrupt.set(Cancelled("by its sender"))

    with pytest.raises(Cancelled, match="by its sender"):
        run(sh("trap '' TERM; sleep 1000 & echo $$ $!; wait"), job.task, interrupt)
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids[:1])
    assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_an_interrupt_from_another_thread_is_noticed_at_once(job: Watched) -> None:
    """Not after the next look: it would then be two seconds later, and the test's own time tells."""
    started = threading.Event()

    def interrupt() -> None:
        started.wait(END_TIMEOUT_S)
        job.interrupt.set(Cancelled("elsewhere"))

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Cancelled):
        run(sh("echo begun; sleep 1000"), job.task, lambda _: started.set())
    thread.join(END_TIMEOUT_S)


def test_a_job_that_is_interrupted_already_starts_nothing(job: Watched, tmp_path: Path) -> None:
    job.interrupt.set(Cancelled("before"))
    with pytest.raises(Cancelled):
        run(sh(f"touch {tmp_path}/begun"), job.task)
    assert not (tmp_path / "begun").exists()


def test_the_deadline_ends_it() -> None:
    with watched(Interrupt(datetime.now(UTC) + timedelta(seconds=0.3))) as job:
        with pytest.raises(DeadlinePassed):
            run(Command(ENDLESS, "testing"), job.task)


def test_a_listener_that_fails_ends_it(job: Watched) -> None:
    def fail(line: str) -> None:
        raise LookupError(line)

    with pytest.raises(LookupError, match="begun"):
        run(sh("echo begun; sleep 1000"), job.task, fail)


def test_what_moves_nothing_is_ended(job: Watched) -> None:
    with pytest.raises(CopyStalled, match=r"not a byte has moved for 0\.5 s"):
        run(Command(ENDLESS, "testing"), job.with_stall_timeout(0.5))


@pytest.mark.parametrize(
    "busy",
    [
        pytest.param("exec dd if=/dev/zero of=/dev/null bs=64k", id="bytes move"),
        pytest.param("while :; do i=$((i+1)); echo $i; sleep 0.1; done", id="it reports progress"),
    ],
)
def test_what_moves_is_not_until_it_does_no_more(busy: str, job: Watched) -> None:
    """It runs for much longer than the stall timeout, then it is stopped."""
    pid = 0
    timeout_s = 0.6

    def stop_later(line: str) -> None:
        nonlocal pid
        if not pid:
            pid = int(line)
            timer.start()

    timer = threading.Timer(3 * timeout_s, lambda: os.killpg(pid, signal.SIGSTOP))
    before = datetime.now(UTC)
    with pytest.raises(CopyStalled):
        run(sh(f"echo $$; {busy}"), job.with_stall_timeout(timeout_s), stop_later)
    timer.join()
    assert datetime.now(UTC) - before >= timedelta(seconds=4 * timeout_s)
    assert not Path(f"/proc/{pid}").exists()


def test_what_is_short_by_nature_has_a_time_of_its_own(job: Watched) -> None:
    with pytest.raises(CopyStalled, match=r"not done within 0\.3 s"):
        run(sh("while :; do :; done", timeout_s=0.3), job.task)


def test_the_agents_death_ends_it() -> None:
    with agent_with_child() as (agent, child):
        agent.kill()
        agent.wait(END_TIMEOUT_S)
        assert eventually(lambda: not alive(child), END_TIMEOUT_S)


def test_one_that_hangs_in_the_kernel_is_named_and_left(job: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TERM_GRACE_S", 0.2)
    monkeypatch.setattr(process, "KILL_GRACE_S", 0.2)
    with loop_device(400 * MIB) as device, tempfile.TemporaryDirectory(prefix="frozen-") as mounted:
        subprocess.run(["mkfs.xfs", "-q", device.node], check=True)
        subprocess.run(["mount", device.node, mounted], check=True)
        subprocess.run(["fsfreeze", "--freeze", mounted], check=True)
        try:
            with pytest.raises(CopyStalled, match="hangs in the kernel") as stalled:
                run(sh(f"echo > {mounted}/file"), job.with_stall_timeout(0.5))
            pid = int(stalled.value.facts["pid"])  # type: ignore[arg-type]
            assert "D" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", mounted], check=True)
            assert eventually(lambda: not Path(f"/proc/{pid}").exists(), END_TIMEOUT_S)
            subprocess.run(["umount", mounted], check=True)


@contextmanager
def agent_with_child() -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process that waits for a child as the agent does, and the child's number."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", AGENT], stdout=subprocess.PIPE, text=True, env=environment) as agent:
        assert agent.stdout is not None
        yield agent, int(agent.stdout.readline())
