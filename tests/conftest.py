# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rules for every test: nothing is skipped in CI, and nothing is left behind."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from leaks import Watch
from mount_helper import mount_helper

ROOT = Path(__file__).parents[1]
ON_SERVICES = (ROOT / "tests" / "integration", ROOT / "tests" / "migration")
STATUS_TIMEOUT_S = 30.0
IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A job in a script's background ignores Ctrl-C (POSIX sh, 2.11), and every program that a test starts would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(directory) for directory in ON_SERVICES):
            item.add_marker(pytest.mark.services)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """What CI did not run, it did not prove."""
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"


@pytest.fixture(scope="session")
def run_directory() -> Iterator[Path]:
    """Parent of every temporary directory of this run: what is left behind below it, this run left behind."""
    with tempfile.TemporaryDirectory(prefix="spagent-run-") as made, pytest.MonkeyPatch.context() as patch:
        Path(made).chmod(0o755)  # QEMU enters it, on a laptop as a user of its own
        patch.setenv("TMPDIR", made)
        patch.setattr(tempfile, "tempdir", made)
        yield Path(made)


@pytest.fixture(scope="session")
def services() -> None:
    """The services that scripts/services starts all answer."""
    status = subprocess.run(
        [ROOT / "scripts" / "services", "status"],
        capture_output=True,
        text=True,
        check=False,
        timeout=STATUS_TIMEOUT_S,
    )
    if status.returncode != 0:
        pytest.skip(f"run scripts/services start first: {status.stdout}{status.stderr}")


@pytest.fixture(scope="session")
def nfs_client(services: None) -> Iterator[None]:
    """`mount -t nfs` mounts what a mount_helper.NfsServer exports, for this process and all that it starts."""
    with mount_helper():
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind(
    request: pytest.FixtureRequest, run_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    directories: tuple[Path, ...] = ()
    if request.node.get_closest_marker("services"):
        request.getfixturevalue("services")
        directories = (run_directory, tmp_path_factory.getbasetemp())
    watch = Watch(directories)
    yield
    left = watch.left_behind()
    if left:
        pytest.fail("left behind: " + ", ".join(sorted(left)))
