# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a program of this package says to the agent: lines on stdout, one on stderr when it fails."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from storpool_agent.images.worker.files import CannotRead


def say(word: str, value: object) -> None:
    os.write(1, f"{word} {value}\n".encode())


@contextmanager
def ending() -> Generator[None]:
    """A failure to read, or a server that has ended, ends the program with one line."""
    try:
        yield
    except (CannotRead, ConnectionError) as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)
