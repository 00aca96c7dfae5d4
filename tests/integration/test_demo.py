# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`make demo` keeps its word: it shows the main job, and leaves nothing behind, however it ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from rabbit import rabbitmqctl

ROOT = Path(__file__).parents[2]
END_TIMEOUT_S = 120.0

ROWS = [
    "createVolume root",
    "connectPhysicalDisk root",
    "the guest boots from it",
    "createVolume data",
    "attachDisk data",
    "the guest writes",
    "StorpoolResizeCmd to",
    "StorpoolResizeCmd same id again",
    "detachDisk data",
    "attachDisk data",
    "the guest reads it back",
    "detachDisk data",
    "deleteVolume data",
    "disconnectPhysicalDisk root",
    "deleteVolume root",
]


class Demo:
    """The demo as a process, in a session of its own as behind a terminal."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []

    def read_until(self, phrase: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            if phrase in line:
                return
        pytest.fail(f"the demo never said {phrase!r}: {''.join(self._lines)}")

    def press_ctrl_c(self) -> None:
        """The terminal sends it to the whole foreground process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Exit status and all that it said."""
        rest, _ = self._process.communicate(timeout=END_TIMEOUT_S)
        return self._process.returncode, "".join(self._lines) + rest


@pytest.fixture
def place(run_directory: Path) -> Iterator[Path]:
    """Where the demo makes its temporary files: nobody else has any there."""
    made = Path(mkdtemp(prefix="demo-", dir=run_directory))
    made.chmod(0o755)
    yield made
    made.rmdir()


@contextmanager
def running_demo(place: Path, environment: Mapping[str, str] | None = None) -> Iterator[Demo]:
    process = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests"), "TMPDIR": str(place), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield Demo(process)
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.mark.parametrize("time", ["first", pytest.param("second", marks=pytest.mark.long)])
def test_it_shows_every_command_and_leaves_nothing_behind(time: str, place: Path) -> None:
    with running_demo(place) as demo:
        status, said = demo.end()
    assert status == 0, said
    began = [line for line in said.splitlines() if any(line.startswith(row) for row in ROWS)]
    assert [row for row, line in zip(ROWS, began, strict=True) if not line.startswith(row)] == []
    assert '"command": "attachDisk"' in said
    assert '"status": "success"' in said
    assert traces(said, place) == []


@pytest.mark.long
@pytest.mark.parametrize(
    "phrase",
    [
        pytest.param("starting:", id="while broker, StorPool and agent start"),
        pytest.param("connectPhysicalDisk root", id="while the guest boots"),
        pytest.param("attachDisk data", id="while the guest writes to its new disk"),
        pytest.param("deleteVolume root", id="at the end"),
    ],
)
def test_ctrl_c_leaves_nothing_behind(phrase: str, place: Path) -> None:
    with running_demo(place) as demo:
        demo.read_until(phrase)
        demo.press_ctrl_c()
        status, said = demo.end()
    assert (status, said.splitlines()[-1]) == (130, "interrupted; nothing is left behind")
    assert traces(said, place) == []


def test_a_failure_is_explained_and_leaves_nothing_behind(place: Path) -> None:
    with running_demo(place, {"STORPOOL_AGENT__STORPOOL__TOKEN": "wrong"}) as demo:
        status, said = demo.end()
    assert status == 1
    assert "the demo failed: CommandFailed: storpool-unauthorized" in said.replace("\n", " ")
    assert re.search(r"warning +failed .*code=storpool-unauthorized", said), "the agent's log"
    assert traces(said, place) == []


def traces(said: str, place: Path) -> list[str]:
    """What is still there of the demo that said this; the fixture of every test looks for domains and loop devices."""
    found = re.search(r"vhost (demo-(\w+)),", said)
    assert found is not None, said
    vhost, name = found.groups()
    links = [str(link) for link in Path("/dev").glob(f"storpool*/*demo.{name}*")]
    vhosts = [one for one in rabbitmqctl("list_vhosts").splitlines() if one == vhost]
    left = [str(path) for path in place.iterdir()]
    return links + vhosts + left + _processes(str(place), f"demo.{name}")


def _processes(*words: str) -> list[str]:
    """Command lines with one of the words, but for the test's own."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(process.name) != os.getpid() and any(word in line for word in words):
            found.append(f"{process.name} {line}")
    return found
