# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every command is in one class, and docs/security.md says in which."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from storpool_commands.catalogue import Command, ControlCommand
from storpool_commands.classes import ALL_COMMANDS, COMMANDS_OF, class_of

DOCUMENT = Path(__file__).parents[3] / "docs" / "security.md"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)
MODELS = {*get_args(get_args(Command)[0]), *get_args(get_args(ControlCommand)[0])}


def test_every_command_is_in_one_class() -> None:
    listed = Counter(name for names in COMMANDS_OF.values() for name in names)
    assert dict(listed) == dict.fromkeys(ALL_COMMANDS, 1)


@pytest.mark.parametrize("model", sorted(MODELS, key=str), ids=lambda model: model.__name__)
def test_the_class_of_a_command_lists_it(model: Any) -> None:
    command = model.model_construct()
    assert command.command in COMMANDS_OF[class_of(command)]


def test_the_document_says_which_command_is_in_which_class() -> None:
    section = DOCUMENT.read_text().split("\n### Classes of commands\n")[1].split("\n#")[0]
    told = {name: frozenset(re.findall(r"`(\w+)`", commands)) for name, commands in ROW.findall(section)}
    assert told == {str(name): commands for name, commands in COMMANDS_OF.items()}
