# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""QEMU's image tools are run in one package, and never left to guess what a file is."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from storpool_agent.images import nodes
from storpool_agent.images.model import Image
from storpool_commands.images import ImageFormat

ROOT = Path(__file__).parents[3]
TOOLS = {"qemu-img", "qemu-nbd", "qemu-io", "qemu-storage-daemon"}
SAYS_THE_FORMAT = {
    "info": "nodes.source(",
    "convert": "nodes.source(",
    "check": "nodes.source(",
    "measure": "nodes.source(",
    "create": "'-f'",
    "map": "nodes.target(",
    "--read-only": "node",
}
"""Of qemu-img's subcommands (and qemu-nbd's first option): what the function that writes one has to have in it."""


def test_only_the_images_run_the_image_tools() -> None:
    elsewhere = [f"{file}:{line}" for file, line, _, _ in argvs() if "storpool_agent/images/" not in str(file)]
    assert elsewhere == []


def test_no_command_line_lacks_a_format() -> None:
    found = list(argvs())
    assert len(found) >= 4, "the search finds nothing any more"
    for file, line, subcommand, function in found:
        assert SAYS_THE_FORMAT[subcommand] in function, f"{file}:{line}"
        assert subcommand != "convert" or "nodes.target(" in function, f"{file}:{line}"


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("limited", [False, True])
def test_every_layer_of_a_node_has_its_driver(kind: ImageFormat, device: bool, limited: bool) -> None:
    image = Image(7, kind, "any", device=device)
    protocol = "host_device" if device else "file"
    assert f'"driver":"{kind}"' in nodes.source(image)
    assert f'"driver":"{protocol}","filename":"/proc/self/fd/7"' in nodes.source(image)
    assert ('"backing":null' in nodes.source(image)) == (kind == "qcow2")
    target = dict(option.split("=") for option in nodes.target(image, limited=limited).split(","))
    drivers = [target[name] for name in ("driver", "file.driver", "file.file.driver") if name in target]
    assert drivers == [kind, *(["throttle"] if limited else []), protocol]


def argvs() -> Iterator[tuple[Path, int, str, str]]:
    """Where a tool is named: file, line, what follows its name, and the text of the function around it."""
    for folder in ("agent", "commands", "devcluster"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for function in ast.walk(ast.parse(file.read_text())):
                if isinstance(function, ast.FunctionDef):
                    yield from ((file.relative_to(ROOT), *found) for found in _in(function))


def _in(function: ast.FunctionDef) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(function):
        words = [each.value if isinstance(each, ast.Constant) else None for each in getattr(node, "elts", ())]
        for word, following in pairwise([*words, None]):
            if word in TOOLS:
                yield getattr(node, "lineno", 0), str(following), ast.unparse(function)
