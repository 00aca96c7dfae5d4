# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that ends the story at once, and never the setting up or clearing away of what is real."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOTICE = b"\ninterrupted: clearing away\n"


class Interrupts:
    """A signal raises KeyboardInterrupt inside `allowed`, at once or when the next such block begins.

    Elsewhere something real (a vhost, a device, a domain) may exist that nobody holds yet, and an exception from
    nowhere would leave it behind.
    """

    def __init__(self) -> None:
        self._asked = False
        self._allowed = False

    def install(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        self._allowed = True
        try:
            if self._asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _on_signal(self, _number: int, _frame: object) -> None:
        if not self._asked:
            self._asked = True
            os.write(2, NOTICE)
        if self._allowed:
            self._allowed = False
            raise KeyboardInterrupt
