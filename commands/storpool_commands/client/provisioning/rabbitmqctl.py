# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""rabbitmqctl: there wherever the broker is, which the HTTP API of the management plugin is not."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from storpool_commands.client.provisioning.change import ProvisioningFailed

PROGRAM = "rabbitmqctl"
TIMEOUT_S = 60.0

Definitions = Mapping[str, Sequence[Mapping[str, Any]]]
"""Section, such as `users`, -> its entries, as `export_definitions` has them."""


class RabbitmqCtl:
    """Run as root, or as the broker's own user, on a node of the broker.

    Each run takes a second (it starts an Erlang machine), so all is asked in one, and changed in one.
    """

    def __init__(self, node: str | None = None) -> None:
        """`node` as in `rabbit@broker1`. Default: the node of this machine."""
        self._start = [PROGRAM, "--quiet", *(["--node", node] if node else [])]

    def definitions(self) -> Definitions:
        """What there is: users with their password hashes, vhosts, permissions. Raises ProvisioningFailed."""
        found: Definitions = json.loads(self._run("export_definitions", "-"))
        return found

    def define(self, wanted: Definitions) -> None:
        """Make or change these; everything else stays as it is. Raises ProvisioningFailed.

        They go by stdin, since arguments can be seen by everybody.
        """
        self._run("import_definitions", stdin=json.dumps(wanted))

    def _run(self, *arguments: str, stdin: str = "") -> str:
        try:
            done = subprocess.run(
                [*self._start, *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except FileNotFoundError:
            what = f"{PROGRAM} is not on this machine: do this on a node of the broker"
            raise ProvisioningFailed(f"{what}, or leave --run away and run there what is printed") from None
        except subprocess.TimeoutExpired:
            what = f"{PROGRAM} {arguments[0]}: no answer in {TIMEOUT_S:.0f} s"
            raise ProvisioningFailed(f"{what}; is the broker up?") from None
        if done.returncode != 0:
            raise ProvisioningFailed(f"{PROGRAM} {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
