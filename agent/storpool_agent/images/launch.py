# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a child is started under: the programs that set a process up and then become the next one (exec).

Their order does not matter to each other, but for two facts. The parent-death signal survives exec, as long as what is
executed is not setuid; so it comes first. An I/O class that is set by ionice wins over the one that the kernel would
derive from the niceness. All of it is inherited by threads and children, but for the parent-death signal, which
children do not inherit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from storpool_commands.images import IoPriority

DIE_WITH_AGENT = ("setpriv", "--pdeathsig", "KILL", "--no-new-privs")
"""The kernel sends it when the *thread* that started the child ends; that one waits for the child anyway. Between fork
and this lies a millisecond in which the agent can die and leave a child that runs to its end. No setuid program
gives it back what it was started without."""

PRIORITY: dict[IoPriority, tuple[str, ...]] = {
    "idle": ("ionice", "--class", "3", "nice", "--adjustment", "10"),
    "low": ("ionice", "--class", "2", "--classdata", "7", "nice", "--adjustment", "10"),
    "normal": ("ionice", "--class", "2", "--classdata", "4"),
}
WITHOUT_NETWORK = ("unshare", "--net")
"""A network of its own, in which not even the loopback interface is up."""


@dataclass(frozen=True)
class Limits:
    """What a child may use at most (setrlimit); None is what the agent may."""

    address_space_bytes: int | None = None
    cpu_s: int | None = None
    file_bytes: int | None = None
    """The length of a file that it writes; a sparse one counts in full."""


def prefix(priority: IoPriority, limits: Limits, *, network: bool) -> Sequence[str]:
    """What comes before the command's own arguments."""
    options = {"as": limits.address_space_bytes, "cpu": limits.cpu_s, "fsize": limits.file_bytes}
    limiting = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return (
        *DIE_WITH_AGENT,
        *PRIORITY[priority],
        *(() if network else WITHOUT_NETWORK),
        *(("prlimit", *limiting) if limiting else ()),
    )
