# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The real RabbitMQ on this machine, each test in a vhost of its own."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

CTL_TIMEOUT_S = 60


@contextmanager
def new_vhost(name: str | None = None) -> Iterator[str]:
    """A vhost that goes with everything in it; gives the URL of guest, who may do all there."""
    vhost = name or f"test-{uuid4().hex}"
    rabbitmqctl("add_vhost", vhost)
    try:
        rabbitmqctl("set_permissions", "--vhost", vhost, "guest", ".*", ".*", ".*")
        yield f"amqp://guest:guest@127.0.0.1:5672/{vhost}"
    finally:
        rabbitmqctl("delete_vhost", vhost)


def vhost_of(url: str) -> str:
    return url.rpartition("/")[2]


def close_all_connections(url: str) -> None:
    """The broker ends every connection to this vhost; clients see 320 CONNECTION_FORCED."""
    rabbitmqctl("close_all_connections", "--vhost", vhost_of(url), "closed by a test")


def rabbitmqctl(*arguments: str) -> str:
    """Run it on the local node, as root or rabbitmq."""
    done = subprocess.run(
        ["rabbitmqctl", "--quiet", *arguments],
        capture_output=True,
        text=True,
        timeout=CTL_TIMEOUT_S,
        check=False,
        start_new_session=True,  # Ctrl-C must not leave a vhost half made
    )
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt  # it came before the child had its own session, so nothing was done
    if done.returncode != 0:
        raise RuntimeError(f"rabbitmqctl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
