# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the agent of this host is to be found.

Read from agent.toml alone, without the models of the settings: they would take longer than the agent's answer.
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storpool_agent.cli.exits import EX_CONFIG, EX_NOPERM, fail

ENVIRONMENT = "STORPOOL_AGENT__{}"
CONTROL_SOCKET = "/run/storpool-agent/control.sock"
STATE_DIR = "/var/lib/storpool-agent"


@dataclass(frozen=True)
class Place:
    """Of one agent."""

    config: Path
    socket: Path
    state_dir: Path


def find(config: Path) -> Place:
    """Ends the program when the file cannot be read."""
    try:
        values = tomllib.loads(config.read_text(encoding="utf-8"))
    except PermissionError:
        fail(f"{config} may not be read; ask as root", EX_NOPERM)
    except OSError as error:
        fail(f"{config}: {(error.strerror or str(error)).lower()}", EX_CONFIG)
    except ValueError as error:
        fail(f"{config}: {error}", EX_CONFIG)
    return Place(config, _path(values, "control_socket", CONTROL_SOCKET), _path(values, "state_dir", STATE_DIR))


def _path(values: dict[str, Any], name: str, default: str) -> Path:
    return Path(os.environ.get(ENVIRONMENT.format(name.upper())) or str(values.get(name, default)))
