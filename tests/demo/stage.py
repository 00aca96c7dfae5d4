# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the story needs: a broker of its own, a development StorPool, an agent, and a place for devices."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_process import Stack, running_stack
from demo.tap import Tap

DEV = Path("/dev")
STORPOOL_CONF = Path("/etc/storpool.conf")
LOOP_MAJOR = 7


@dataclass(frozen=True)
class Stage:
    """Everything that runs, and a tap on its bus."""

    stack: Stack
    tap: Tap


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Leaves no process, device, vhost or file behind. The agent is stopped as systemd stops it."""
    log = {"level": "info", "format": "json"}
    with (
        _device_root() as root,
        running_stack(device_root=root, cluster_id=cluster_id(name), vhost=vhost(name), log=log) as stack,
        Tap(stack.client_url, stack.host) as tap,
    ):
        yield Stage(stack, tap)
        stack.agent.stop()


def vhost(name: str) -> str:
    """Of the demo with this name: two on one machine do not meet."""
    return f"demo-{name}"


def cluster_id(name: str) -> str:
    """The global ids of its volumes begin with it."""
    return f"demo.{name}"


@contextmanager
def _device_root() -> Iterator[Path]:
    """/dev itself, as on a real host; another directory where /dev has a real StorPool client's devices."""
    if not _is_storpool_host():
        yield DEV
        return
    with tempfile.TemporaryDirectory(prefix="storpool-demo-", dir=DEV) as made:
        Path(made).chmod(0o755)
        yield Path(made)


def _is_storpool_host() -> bool:
    """A development StorPool has loop devices and no configuration in /etc."""
    links = [*DEV.glob("storpool/*"), *DEV.glob("storpool-byid/*")]
    return STORPOOL_CONF.exists() or any(_major(link) not in {None, LOOP_MAJOR} for link in links)


def _major(link: Path) -> int | None:
    """None for a link that has just gone."""
    try:
        return os.major(link.stat().st_rdev)
    except FileNotFoundError:
        return None
