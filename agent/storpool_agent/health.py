# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the agent lives, and whether it serves commands: each as a list of small checks, by name.

The app registers them; /healthz, /readyz, the metrics and the watchdog all ask here, so that they say the same.
"""

import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()

Look = Callable[[], str | None]
"""None when all is well, else what is wrong, for a person. It returns at once, and raises nothing."""


class Health:
    """Any thread may call any method."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._vital: dict[str, Look] = {}
        self._needed: dict[str, Look] = {}

    def vital(self, name: str, look: Look) -> None:
        """Register what has to be well for the agent to live. When it is not, only a new start helps."""
        with self._mutex:
            self._vital[name] = look

    def needed(self, name: str, look: Look) -> None:
        """Register what has to be well for commands to be served. It may pass by itself."""
        with self._mutex:
            self._needed[name] = look

    def end(self) -> None:
        """The agent stops: it serves nothing any more, and its threads end as they should."""
        self.needed("agent", lambda: "it is stopping")
        with self._mutex:
            self._vital.clear()

    def dead(self) -> dict[str, str]:
        """What is wrong with the agent itself, by check; empty: it lives."""
        return {name: wrong for name, wrong in self._look(vital=True).items() if wrong is not None}

    def missing(self) -> dict[str, str]:
        """Why commands are not served, by check; empty: they are."""
        return {name: wrong for name, wrong in self.checks().items() if wrong is not None}

    def checks(self) -> dict[str, str | None]:
        """Every check and what it says."""
        return {**self._look(vital=False), **self._look(vital=True)}

    def _look(self, *, vital: bool) -> dict[str, str | None]:
        with self._mutex:
            looks = dict(self._vital if vital else self._needed)
        return {name: _ask(name, look) for name, look in looks.items()}


def _ask(name: str, look: Look) -> str | None:
    try:
        return look()
    except Exception:
        log.exception("crashed", check=name)
        return "the check itself has a defect; the log has its traceback"
