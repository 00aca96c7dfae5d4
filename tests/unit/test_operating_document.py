# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""docs/operating.md says what to do about every log event and every error code, and about no other."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from storpool_commands.errors import ErrorCode, retry_class

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "operating.md").read_text()
LOGGERS = {"log", "logger"}
LEVEL_OF_METHOD = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "log": "as there",
}
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+?) \| (.*) \|$", re.MULTILINE)


def test_every_log_event_has_its_line_and_its_level() -> None:
    assert dict(rows("## Log events")) == {
        event: ", ".join(sorted(levels, key=ORDER.index)) for event, levels in emitted()
    }


def test_every_error_code_has_its_line_and_its_retry_class() -> None:
    assert dict(rows("## Error codes")) == {code.value: retry_class(code) for code in ErrorCode}


def test_every_line_about_trouble_says_what_to_do() -> None:
    silent = [name for name, kind, advice in ROW.findall(DOCUMENT) if not advice and kind not in {"info", "debug"}]
    assert silent == []


ORDER = list(dict.fromkeys(LEVEL_OF_METHOD.values()))


def rows(heading: str) -> Iterator[tuple[str, str]]:
    """First and second cell of the tables below a heading."""
    section = DOCUMENT.split(f"\n{heading}\n")[1].split("\n## ")[0]
    names = [name for name, _, _ in ROW.findall(section)]
    assert len(names) == len(set(names)), "listed twice"
    yield from ((name, kind) for name, kind, _ in ROW.findall(section))


def emitted() -> list[tuple[str, set[str]]]:
    """What the agent's source logs. An event that is no constant could not be listed, and fails here."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for file in (ROOT / "agent").rglob("*.py"):
        for call in log_calls(ast.parse(file.read_text())):
            method = call.func.attr  # type: ignore[attr-defined]
            event = call.args[1 if method == "log" else 0]
            assert isinstance(event, ast.Constant), f"{file}:{call.lineno}"
            found[str(event.value)].add(LEVEL_OF_METHOD[method])
    return list(found.items())


def log_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if name in LOGGERS:
                yield node
