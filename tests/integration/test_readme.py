# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What README.md shows is what happens: its lines are run, its replies compared."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from agent_process import Stack, running_stack
from storpool_agent.settings import load
from storpool_commands import catalogue
from storpool_commands.client import CommandFailed
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk
from storpool_commands.volumes import CreateVolume
from storpool_devcluster.cli import serve

README = (Path(__file__).parents[2] / "README.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
"""What is typed, and what is said to it."""
SEND_TIMEOUT_S = 60.0
BROKER = "amqp://guest:guest@127.0.0.1"
SHIM = """#!/bin/sh
exec /usr/bin/{tool} --vhost '{vhost}' "$@"
"""


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running_stack() as running:
        yield running


@pytest.fixture
def path_to_vhost(stack: Stack, tmp_path: Path) -> str:
    """A PATH whose amqp-tools use the vhost of this test, so that the lines of the README need no change."""
    vhost = stack.settings["amqp"]["vhost"]
    for tool in ("amqp-publish", "amqp-consume"):
        shim = tmp_path / tool
        shim.write_text(SHIM.format(tool=tool, vhost=vhost))
        shim.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def test_the_messages_of_the_readme_bring_the_replies_of_the_readme(stack: Stack, path_to_vhost: str) -> None:
    exchanges = [
        (script, json.loads(reply))
        for (language, script), (following, reply) in zip(blocks(), blocks()[1:], strict=False)
        if (language, following) == ("sh", "json")
    ]
    assert [shown["result"]["command"] for _, shown in exchanges] == ["createVolume", "connectPhysicalDisk"]
    for script, shown in exchanges:
        reply = send(script, path_to_vhost)
        as_on_dev = reply.replace(f"{stack.device_root}/", "/dev/")
        assert timeless(json.loads(as_on_dev)) == timeless(shown)
        assert send(script, path_to_vhost) == reply, "sent again"


def test_the_python_of_the_readme_runs(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.storpool.create(1 << 30, template="dev", name="disk1")
    [code] = [text for language, text in blocks() if language == "python"]
    assert BROKER in code
    exec(compile(code.replace(BROKER, stack.client_url), "README.md", "exec"), {})  # noqa: S102 - our own README
    path, size_bytes, attached_now = capsys.readouterr().out.split()
    assert (Path(path).name, size_bytes, attached_now) == ("d.n.a1", str(1 << 30), "True")


@contextmanager
def looked_at(disk: Path) -> Iterator[None]:
    """Until somebody closes the pager, which takes no more than fits into the pipe."""
    process = subprocess.Popen(["od", "-v", str(disk)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.read(1)  # it has it open
        yield
    finally:
        process.kill()
        process.communicate()


def test_what_an_admin_is_shown_is_what_the_readme_shows(tmp_path: Path) -> None:
    with running_stack(metrics={"listen": "127.0.0.1:0"}) as stack:
        program = tmp_path / "storpool-agent"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m storpool_agent "$@" --config {stack.agent.config}\n')
        program.chmod(0o755)
        stack.call(CreateVolume(size_bytes=1 << 30, template="dev", name="disk1"))
        stack.call(ConnectPhysicalDisk(volume="/dev/storpool/disk1"))
        with looked_at(stack.link("~d.n.a1")):
            with pytest.raises(CommandFailed, match="volume-busy"):
                stack.call(DisconnectPhysicalDisk(volume="/dev/storpool/disk1"))
            shown = [text for language, text in blocks() if language == "console"]
            for line, output in SHOWN.findall("".join(shown)):
                typed = line.replace("127.0.0.1:9639", stack.agent.metrics_address)
                path = f"{tmp_path}:{os.environ['PATH']}"
                said = run(typed, path).replace(f"{stack.device_root}/", "/dev/")
                at_home = said.replace(str(stack.agent.state_dir), "/var/lib/storpool-agent")
                assert of_any_time(at_home) == of_any_time(output), line


def of_any_time(text: str) -> list[str]:
    """Lines without ids, numbers, ages and the width of columns."""
    without_ids = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{8}\b", "ID", text)
    without_numbers = re.sub(r"\d+(\.\d+)?( [KMGT]iB| (ms|s|min|h|d) ago)?", "N", without_ids)
    return [" ".join(line.split()) for line in without_numbers.splitlines() if line.strip()]


def test_the_settings_and_options_of_the_readme_exist(tmp_path: Path) -> None:
    [toml] = [text for language, text in blocks() if language == "toml"]
    file = tmp_path / "agent.toml"
    file.write_text(toml)
    settings = load(file)
    [line] = re.findall(r"storpool-devcluster serve (.*) &", README)
    asked = CliRunner().invoke(serve, [*line.split(), "--help"])
    assert asked.exit_code == 0
    options = set(re.findall(r"--[\w-]+", line))
    assert all(option in asked.output for option in options)
    assert f"--token {settings.storpool.token.get_secret_value() if settings.storpool.token else ''} " in line
    assert f"--client {settings.storpool.our_id}=" in line


def test_every_command_is_in_the_table() -> None:
    unions = (catalogue.Command, catalogue.ControlCommand)
    names = {model.model_fields["command"].default for union in unions for model in get_args(get_args(union)[0])}
    assert {name for name in names if f"`{name}`" not in README} == set()


def test_every_file_that_is_linked_exists() -> None:
    linked = [target for target in re.findall(r"\]\(([^)#]+)", README) if "://" not in target]
    assert [target for target in linked if not (Path(__file__).parents[2] / target).exists()] == []


def blocks() -> list[tuple[str, str]]:
    """Language and text of every fenced block that has a language, in order."""
    return FENCE.findall(README)


def send(script: str, path: str) -> str:
    """Run the lines; what they print is the reply."""
    done = finished(script, path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(script: str, path: str) -> str:
    """What the line prints, whatever its exit status says."""
    return finished(script, path).stdout


def finished(script: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euc", script],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SEND_TIMEOUT_S,
    )


def timeless(value: Any) -> Any:
    """Without the milliseconds, which nobody can repeat."""
    if isinstance(value, dict):
        return {key: "ms" if key == "tookMs" else timeless(one) for key, one in value.items()}
    return [timeless(one) for one in value] if isinstance(value, list) else value
