# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The rules of tests/conftest.py, seen from outside: pytest runs a small file under them."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]
RUN_TIMEOUT_S = 60.0

SKIPPED_AT_IMPORT = "import pytest\npytest.importorskip('no_such_module')\n"
ONE_OF_EACH = """
import threading
import leaks
import pytest

leaks.SETTLE_S = 0.1

def test_tidy() -> None: ...

def test_skipping() -> None:
    pytest.skip("no such part")

@pytest.mark.xfail
def test_expected_to_fail() -> None:
    assert False

def test_leaking() -> None:
    threading.Timer(1, print).start()
"""


def test_in_ci_a_skipped_test_is_a_failure(tmp_path: Path) -> None:
    said = output_of_a_run(tmp_path, ci="true")
    assert "FAILED test_each.py::test_skipping - skipped, which CI does not allow" in said
    assert "ERROR test_import.py - skipped, which CI does not allow" in said
    assert "ERROR test_each.py::test_leaking - Failed: left behind: thread" in said
    assert "1 failed, 2 passed, 1 xfailed, 2 errors" in said


def test_elsewhere_a_skipped_test_is_a_skipped_test_and_a_leak_is_still_an_error(tmp_path: Path) -> None:
    said = output_of_a_run(tmp_path, ci="")
    assert "ERROR test_each.py::test_leaking - Failed: left behind: thread" in said
    assert "2 passed, 2 skipped, 1 xfailed, 1 error" in said


def output_of_a_run(directory: Path, ci: str) -> str:
    (directory / "test_each.py").write_text(ONE_OF_EACH)
    (directory / "test_import.py").write_text(SKIPPED_AT_IMPORT)
    (directory / "pytest.ini").write_text("[pytest]\n")
    options = ("-ra", "-p", "conftest", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=directory,
        env=os.environ | {"CI": ci, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_TIMEOUT_S,
    )
    assert ended.returncode == 1
    return ended.stdout
