# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What README.md shows is what happens: its lines are run, its replies compared."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from agent_process import Stack, running_stack
from storpool_agent.settings import load
from storpool_commands import catalogue
from storpool_devcluster.cli import serve

README = (Path(__file__).parents[2] / "README.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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
    done = subprocess.run(
        ["bash", "-euc", script],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SEND_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def timeless(value: Any) -> Any:
    """Without the milliseconds, which nobody can repeat."""
    if isinstance(value, dict):
        return {key: "ms" if key == "tookMs" else timeless(one) for key, one in value.items()}
    return [timeless(one) for one in value] if isinstance(value, list) else value
