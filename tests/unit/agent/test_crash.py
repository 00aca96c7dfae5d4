# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The crash that tests ask for: nobody else gets one."""

import signal
import subprocess
import sys

import pytest

PROGRAM = "from storpool_agent.crash import crash_point; crash_point('ping/started'); print('alive')"


@pytest.mark.parametrize("asked", [None, "", "ping", "ping/started:begin", "attachDisk/started"])
def test_without_its_name_a_crash_point_does_nothing(asked: str | None) -> None:
    assert _run(asked) == (0, "alive\n")


def test_the_named_point_is_a_sigkill() -> None:
    assert _run("ping/started") == (-signal.SIGKILL, "")


def _run(asked: str | None) -> tuple[int, str]:
    environment = {} if asked is None else {"STORPOOL_AGENT_CRASH_AT": asked}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=20
    )
    return ended.returncode, ended.stdout
