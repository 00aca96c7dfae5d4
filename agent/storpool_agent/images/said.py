# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a child says: lines of its stdout, the end of its stderr. Neither is trusted, and neither grows without end."""

import re
from collections.abc import Callable, Mapping

LINE_BYTES = 64 * 1024
"""A longer line is passed on in pieces."""
KEPT_BYTES = 8 * 1024
"""Of stderr: the end says why."""
SHOWN_LINES = 4
SHOWN_CHARACTERS = 600

_LINE_END = re.compile(rb"[\r\n]")  # qemu-img ends each report of its progress with \r alone
_OPEN_FILE = re.compile(r"/proc/self/fd/(\d+)")


class Lines:
    """Cuts a stream into lines, and passes them on."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""
        self.last = ""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = _LINE_END.split(self._rest + data)
        for line in lines:
            self._pass_on(line)
        while len(self._rest) >= LINE_BYTES:
            piece, self._rest = self._rest[:LINE_BYTES], self._rest[LINE_BYTES:]
            self._pass_on(piece)

    def end(self) -> None:
        """What came without a line end is a line, too."""
        self.feed(b"\n")

    def _pass_on(self, line: bytes) -> None:
        if line:
            self.last = line.decode("utf-8", "replace")
            self._on_line(self.last)


class Tail:
    """The end of a stream."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-KEPT_BYTES:]

    def shown(self, names: Mapping[int, str]) -> str:
        """Its last lines in one, with names instead of descriptors, and nothing that a terminal would obey."""
        lines = [line for line in self._kept.decode("utf-8", "replace").splitlines() if line.strip()]
        text = "; ".join("".join(c if c.isprintable() else "?" for c in line) for line in lines[-SHOWN_LINES:])
        named = _OPEN_FILE.sub(lambda found: names.get(int(found[1]), found[0]), text)
        return named[-SHOWN_CHARACTERS:]
