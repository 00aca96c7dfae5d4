# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The lines for `storpool-ctl provision` in the documents are ones that it takes, and the settings ones that load."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from storpool_agent.settings import load
from storpool_commands.client.cli.app import program

DOCS = Path(__file__).parents[3] / "docs"
LINE = re.compile(r"^ *storpool-ctl (.*provision .+)$", re.MULTILINE)
LINES = [line for name in ("operating.md", "security.md") for line in LINE.findall((DOCS / name).read_text())]


def test_there_are_some() -> None:
    assert len(LINES) >= 8


@pytest.mark.parametrize("line", LINES)
def test_a_documented_line_is_taken(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"[\w-]+\.(?:pem|key|password)", line):
        Path(name).touch()
    result = CliRunner().invoke(program, [*shlex.split(line.replace(" --run", "")), *asked_only(line)])
    assert result.exit_code == 0, result.output


def asked_only(line: str) -> list[str]:
    """`objects` would connect."""
    return ["--help"] if " objects " in line else []


def test_the_settings_in_the_document_load(tmp_path: Path) -> None:
    [toml] = re.findall(r"```toml\n(.*?)```", (DOCS / "security.md").read_text(), re.DOTALL)
    file = tmp_path / "agent.toml"
    file.write_text(toml)
    assert load(file).amqp.allowed_publishers == {"cloud": ["all"], "backup": ["read", "copies", "takeSnapshot"]}
