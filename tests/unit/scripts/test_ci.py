# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A target that tests something is one that CI makes."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_ci_makes_every_target_that_tests() -> None:
    targets = set(re.findall(r"^(test[a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    (made,) = re.findall(r"^make (.*) >>", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert {"test", "test-long"} <= targets
    assert targets == set(made.split())
