# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The manual has every command, every option and every setting."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from storpool_agent.cli import main as agent
from storpool_commands.client.cli.app import program as ctl

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "systemd" / "agent.toml.example"
TIMEOUT_S = 30.0


@pytest.mark.parametrize(("name", "program"), [("storpool-agent", agent), ("storpool-ctl", ctl)])
def test_a_program_has_every_command_and_option(name: str, program: click.Group) -> None:
    text = page(name, "1")
    context = click.Context(program)
    for command in program.list_commands(context):
        subcommand = program.get_command(context, command)
        assert subcommand is not None
        assert re.search(rf"^{command}( .*)?\n---", text, re.MULTILINE)
        for option in {flag for param in subcommand.params for flag in param.opts if flag.startswith("--")}:
            assert re.search(rf"^\*\*(\S+, )?{option}\b", text, re.MULTILINE), (command, option)


def test_every_setting_is_there_once_in_its_section() -> None:
    text = page("agent.toml", "5")
    settings = re.findall(r"^#?(\w+) = ", EXAMPLE.read_text(), re.MULTILINE)
    assert len(settings) > 20
    for name in settings:
        told = len(re.findall(rf"(?:\*\*|, ){re.escape(name)} = ", text.replace("\\", "")))
        assert told == settings.count(name), name


def page(name: str, section: str) -> str:
    made = subprocess.run(
        [sys.executable, ROOT / "packaging" / "manpages.py", name, section],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1764000000"},
    )
    return made.stdout
