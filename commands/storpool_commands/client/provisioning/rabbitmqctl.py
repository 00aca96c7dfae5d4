# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""rabbitmqctl: there wherever the broker is, which the HTTP API of the management plugin is not."""

import json
import subprocess
from typing import Any

from storpool_commands.client.provisioning.change import ProvisioningFailed

PROGRAM = "rabbitmqctl"
TIMEOUT_S = 60.0


class RabbitmqCtl:
    """Run as root, or as the broker's own user, on a node of the broker."""

    def __init__(self, node: str | None = None) -> None:
        """`node` as in `rabbit@broker1`. Default: the node of this machine."""
        self._start = [PROGRAM, "--quiet", *(["--node", node] if node else [])]

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Its output. Secrets go by `stdin`: arguments can be seen by everyone. Raises ProvisioningFailed."""
        status, output, trouble = self._run(arguments, stdin)
        if status != 0:
            raise ProvisioningFailed(f"{PROGRAM} {arguments[0]}: {trouble or output}")
        return output

    def succeeds(self, *arguments: str, stdin: str = "") -> bool:
        """Whether it says yes. Raises ProvisioningFailed when it cannot be run."""
        return self._run(arguments, stdin)[0] == 0

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What one of its lists has. Raises ProvisioningFailed."""
        rows: list[dict[str, Any]] = json.loads(self.run(*arguments, "--formatter", "json") or "[]")
        return rows

    def _run(self, arguments: tuple[str, ...], stdin: str) -> tuple[int, str, str]:
        try:
            done = subprocess.run(
                [*self._start, *arguments],
                input=f"{stdin}\n" if stdin else "",
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except FileNotFoundError:
            what = f"{PROGRAM} is not on this machine: do this on a node of the broker"
            raise ProvisioningFailed(f"{what}, or leave --run away and run there what is printed") from None
        except subprocess.TimeoutExpired:
            raise ProvisioningFailed(
                f"{PROGRAM} {arguments[0]}: no answer in {TIMEOUT_S:.0f} s; is the broker up?"
            ) from None
        return done.returncode, done.stdout.strip(), done.stderr.strip()
