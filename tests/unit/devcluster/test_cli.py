# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the command line refuses."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from storpool_devcluster.cli import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param([], "--client", id="no client"),
        pytest.param(["--client", "5000"], "from 1 to 4095", id="client id out of range"),
        pytest.param(["--client", "1", "--client", "1"], "named twice", id="client twice"),
        pytest.param(["--client", "1=/x", "--client", "2=/x"], "named twice", id="two clients in one directory"),
        pytest.param(["--client", "1"], "one of --token and --token-file", id="no token"),
        pytest.param(["--client", "1", "--token", "t", "--listen", "here"], "HOST:PORT", id="no address"),
        pytest.param(["--client", "1", "--token", "t", "--remote-cluster", "far"], "ID=NAME", id="cluster without id"),
        pytest.param(["--client", "1", "--token", "t", "--qos", "gold"], "TIER=IOPS", id="tier without limit"),
    ],
)
def test_it_says_what_is_wrong(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--state", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert says in result.output
