# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""storpool-agent: the daemon, and what an admin asks of it on the host.

Each command is a module that is imported when it is used: the daemon's parts take a second, an answer of it none.
"""

from storpool_agent.cli.exits import EX_CONFIG, EX_TEMPFAIL
from storpool_agent.cli.program import main

__all__ = ["EX_CONFIG", "EX_TEMPFAIL", "main"]
