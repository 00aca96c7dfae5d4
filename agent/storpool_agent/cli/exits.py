# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How the program ends. docs/operating.md has the table."""

import sys
from typing import NoReturn

import click

TROUBLE = 1
"""Somebody should look: the answer says at what. Also a command that was refused."""
NOT_RUNNING = 3
"""As systemctl has it."""
EX_TEMPFAIL = 75
"""sysexits.h: a disk that is full now may have room at the next start, which the unit makes."""
EX_NOPERM = 77
"""sysexits.h: ask as root."""
EX_CONFIG = 78
"""sysexits.h: starting again cannot help; the unit does not try (RestartPreventExitStatus)."""
INTERRUPTED = 130
"""As a shell has it."""


def fail(why: object, status: int) -> NoReturn:
    """One line for a person, and the end."""
    click.echo(f"storpool-agent: {why}", err=True)
    sys.exit(status)
