# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""scripts/services where everything runs already: the state that each test is in."""

import subprocess
from pathlib import Path

SERVICES = Path(__file__).parents[3] / "scripts" / "services"
NAMES = ["udev", "rabbitmq", "virtlogd", "libvirtd"]
COMMAND_TIMEOUT_S = 30.0
BARE_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def test_starting_what_runs_changes_nothing() -> None:
    before = services("status").stdout
    for _ in range(3):
        started = services("start")
        assert started.returncode == 0
        assert started.stdout.startswith(before), "the same processes, by their numbers"


def test_status_is_one_line_a_service() -> None:
    status = services("status")
    assert status.returncode == 0
    assert [line.split()[0] for line in status.stdout.splitlines()] == NAMES


def test_two_calls_at_once_wait_for_each_other() -> None:
    calls = [
        subprocess.Popen([SERVICES, "start"], stdout=subprocess.PIPE, text=True, env=BARE_ENVIRONMENT) for _ in range(2)
    ]
    outputs = [call.communicate(timeout=COMMAND_TIMEOUT_S)[0] for call in calls]
    assert [call.returncode for call in calls] == [0, 0]
    assert outputs[0] == outputs[1]


def test_anything_else_is_refused_with_the_usage() -> None:
    refused = services("restart")
    assert refused.returncode == 1
    assert "usage: scripts/services start|stop|status" in refused.stderr


def services(verb: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SERVICES, verb],
        env=BARE_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
