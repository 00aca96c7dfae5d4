# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's RPC as a peer: what OpenStack's services command their hosts with.

Durable quorum queues for requests and a connection for each caller, else its defaults. It keeps no journal, and a
request is acked before it is run. Its figures include its own client, a thread for each outstanding call.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import Child, running

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "oslo-requirements.txt"
VENV = HERE.parents[1] / ".cache" / "bench" / "oslo"
INSTALL_TIMEOUT_S = 300.0
SETTINGS = {
    "OS_OSLO_MESSAGING_RABBIT__RABBIT_QUORUM_QUEUE": "true",
    "OS_OSLO_MESSAGING_RABBIT__RPC_CONN_POOL_SIZE": "64",  # at 30, its default, callers wait for a connection
    "PYTHONWARNINGS": "ignore",  # of what it will drop one day
}
"""Environment of both processes; oslo.config reads it before the transport is made."""


@dataclass(frozen=True)
class Oslo:
    """A server, and the client that is asked."""

    server: Child
    client: Child


@contextmanager
def running_oslo(amqp_url: str) -> Iterator[Oslo]:
    python = _venv()
    url = amqp_url.replace("amqp://", "rabbit://")
    with (
        running("oslo_server.py", url, "bench", python=python, environment=SETTINGS) as server,
        running("oslo_client.py", url, "bench", python=python, environment=SETTINGS) as client,
    ):
        yield Oslo(server, client)


def _venv() -> Path:
    """Made on demand, with the network; used from there until the requirements change."""
    python = VENV / "bin" / "python"
    installed = VENV / "requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if not installed.exists() or installed.read_text() != wanted:
        _run(sys.executable, "-m", "venv", "--clear", str(VENV))
        _run(str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS))
        installed.write_text(wanted)
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
