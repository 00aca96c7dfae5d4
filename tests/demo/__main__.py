# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The exit status says how it went: 0 well, 1 not, 130 it was interrupted. Nothing is left behind in any case."""

import sys

from demo.interrupts import Interrupts

INTERRUPTED = 130  # what a shell says of a program that Ctrl-C has ended


def main() -> int:
    interrupts = Interrupts()
    interrupts.install()
    try:
        with interrupts.allowed():
            from demo.show import show  # takes a second in which somebody may press Ctrl-C
        return show(interrupts)
    except KeyboardInterrupt:
        print("interrupted; nothing is left behind")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
