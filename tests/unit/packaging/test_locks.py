# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host gets what was tested, and nothing that came unseen."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCKS = ["requirements.lock", "requirements-agent.lock", "requirements-package.lock"]
REQUIREMENT = re.compile(r"^(\S+==.*?)((?: \\\n    --hash=\S+)+)$", re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_in_a_lock_has_hashes(lock: str) -> None:
    named = [line for line in (ROOT / lock).read_text().splitlines() if not line.startswith(("#", " "))]
    assert len(named) == len(requirements(lock)) > 0


def test_a_host_gets_the_versions_that_are_tested() -> None:
    tested = requirements("requirements.lock")
    assert {name: tested.get(name) for name in requirements("requirements-agent.lock")} == requirements(
        "requirements-agent.lock"
    )


def requirements(lock: str) -> dict[str, str]:
    """`name==version ; when` to its hashes."""
    return {found[1]: found[2] for found in REQUIREMENT.finditer((ROOT / lock).read_text())}
