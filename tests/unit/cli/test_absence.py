# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of an agent that does not answer, and of somebody who may not ask."""

import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from storpool_agent.cli import agent, asking, presence
from storpool_agent.cli.exits import EX_CONFIG, EX_NOPERM, NOT_RUNNING, TROUBLE
from storpool_agent.cli.place import Place
from storpool_agent.cli.presence import Presence
from storpool_agent.cli.program import main
from storpool_commands.control import Ping, Pong

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Place:
    state = tmp_path / "state"
    state.mkdir()
    config = tmp_path / "agent.toml"
    config.write_text(f'control_socket = "{tmp_path}/s"\nstate_dir = "{state}"\n[storpool]\nour_id = 1\n')
    return Place(config, tmp_path / "s", state)


@pytest.fixture
def locked(place: Place) -> Iterator[None]:
    """As by an agent that runs: this process."""
    with (place.state_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(place: Place, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(place.config)])


def test_an_agent_that_never_ran_is_told_as_that(place: Place) -> None:
    told = presence.of_deaf(place)
    assert (told.state, told.since) == ("down", None)
    assert f"there is no journal in {place.state_dir}" in told.detail


def test_an_agent_is_down_since_its_last_word(place: Place) -> None:
    then = datetime.now(UTC) - timedelta(hours=3)
    journal = place.state_dir / "journal.db"
    journal.touch()
    os.utime(journal, (then.timestamp(), then.timestamp()))
    told = presence.of_deaf(place)
    assert told.since is not None
    assert abs(told.since - then) < timedelta(seconds=1)
    assert "does not run since" in asking.sentence(told)
    assert "(3 h ago): it last wrote to its journal then" in asking.sentence(told)


def test_one_that_was_stopped_is_down_since_then_and_not_since_its_last_command(place: Place) -> None:
    then = datetime.now(UTC) - timedelta(hours=3)
    for name, at in (("journal.db", then - timedelta(hours=5)), ("lock", then)):
        (place.state_dir / name).touch()
        os.utime(place.state_dir / name, (at.timestamp(), at.timestamp()))
    assert "(3 h ago): it was stopped then" in asking.sentence(presence.of_deaf(place))


@pytest.mark.usefixtures("locked")
def test_one_that_runs_and_does_not_listen_is_not_called_down(place: Place) -> None:
    told = presence.of_deaf(place)
    assert (told.state, told.pid) == ("silent", os.getpid())
    assert f"nobody listens at {place.socket}" in told.detail


def test_a_lock_that_nobody_holds_is_no_agent(place: Place) -> None:
    (place.state_dir / "lock").touch()
    assert presence.of_deaf(place).state == "down"


def test_since_when_a_process_runs_is_about_right() -> None:
    told = presence.of_silent("no answer within 3 s", os.getpid())
    assert told.since is not None
    assert timedelta() < datetime.now(UTC) - told.since < timedelta(days=1)
    assert "systemctl restart" in told.detail
    assert presence.of_silent("x", None) == Presence("silent", told.detail.replace("no answer within 3 s", "x"))


def test_json_has_what_is_known_alone() -> None:
    assert presence.as_json(presence.RUNNING) == {"state": "running"}


@pytest.mark.parametrize("arguments", [("drain", "on"), ("cancel", "6e8742a9-3c7f-46ae-91a3-e2d90a4d9a15")])
def test_an_order_is_nothing_that_could_be_done_without_the_agent(place: Place, arguments: tuple[str, ...]) -> None:
    ran = run(place, *arguments)
    assert (ran.exit_code, "The agent does not run" in ran.output) == (NOT_RUNNING, True)


@pytest.mark.usefixtures("locked")
def test_an_order_to_one_that_does_not_listen_is_trouble(place: Place) -> None:
    assert run(place, "drain", "on").exit_code == TROUBLE


@pytest.mark.parametrize("volume", ["../etc/passwd", "/dev/sda", "a b", "list", ""])
def test_what_is_no_volume_is_wrong_usage(place: Place, volume: str) -> None:
    ran = run(place, "why", volume)
    assert (ran.exit_code, "must be /dev/storpool/<name>" in ran.output) == (2, True)


def test_settings_that_are_wrong_keep_nobody_waiting(place: Place) -> None:
    place.config.write_text(place.config.read_text() + "[lanes]\nfast = 0\n")
    for command in ("status", "jobs"):
        ran = run(place, command)
        assert (ran.exit_code, "lanes.fast: Input should be greater" in ran.output) == (EX_CONFIG, True)
        assert "check-config` says when they will do; then `systemctl start" in ran.output
        assert "starts it." not in ran.output


def test_who_is_not_root_is_told_to_be(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.socket))
        listener.listen()
        place.socket.chmod(0o600)
        for parent in (place.socket.parent, *place.socket.parent.parents):
            if parent.stat().st_uid == os.geteuid() and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
                parent.chmod(0o755)
        assert as_nobody(place) == EX_NOPERM


def as_nobody(place: Place) -> int:
    """What a child of another user ends with."""
    child = os.fork()
    if not child:
        os.setuid(NOBODY)
        try:
            agent.ask(place.socket, Ping(), Pong)
        except agent.NotAllowed:
            os._exit(EX_NOPERM)
        except BaseException:  # noqa: BLE001 - a child must not go on with the test run
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
