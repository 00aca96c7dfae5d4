# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Telling systemd how we are (sd_notify(3)). Outside systemd it does nothing."""

import os
import socket

import structlog

SEND_TIMEOUT_S = 1.0
"""systemd reads at once; one that does not must not hold up who tells it."""

log = structlog.get_logger()


def notify(*lines: str) -> None:
    """Send states such as `READY=1` and `STATUS=...`. What cannot be sent is dropped, and logged."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_TIMEOUT_S)
            sender.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        log.warning("systemd not told", reason=str(error))


def watchdog_s() -> float | None:
    """How soon systemd ends us when it hears nothing (WatchdogSec=); None: it does not, or watches another process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdigit() and int(text) else None
