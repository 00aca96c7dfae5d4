# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The clients (hosts) of the cluster: which are registered, which run, and what they know of the configuration."""

import time
from collections.abc import Iterable
from threading import Condition

from storpool_devcluster import answers
from storpool_devcluster.answers import ApiFailure

_LOOK_S = 0.5  # how soon a wait notices that the process stops


class Clients:
    """[X] A client that is down keeps its devices and takes new attachments when it is up again."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids = frozenset(ids)
        self._down: set[int] = set()
        self._lags_until: dict[int, float] = {}
        self._changed = Condition()
        self._stopping = False

    def require(self, client: int) -> None:
        if client not in self.ids:
            raise answers.no_such_client()

    def is_up(self, client: int) -> bool:
        return client not in self._down

    def lags(self, client: int) -> bool:
        return self._lags_until.get(client, 0.0) > time.monotonic()

    def set_up(self, client: int, up: bool) -> None:
        with self._changed:
            if up:
                self._down.discard(client)
            else:
                self._down.add(client)
            self._changed.notify_all()

    def lag(self, clients: Iterable[int], seconds: float) -> None:
        """They stay behind the cluster's generation for so long."""
        until = time.monotonic() + seconds
        with self._changed:
            self._lags_until.update(dict.fromkeys(clients, until))

    def wait_until_current(self, clients: Iterable[int], timeout_s: float | None) -> bool:
        """Until all of them run and know the configuration. Without a timeout as long as it takes."""
        wanted = list(clients)
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not all(self.is_up(client) and not self.lags(client) for client in wanted):
                if self._stopping:
                    raise ApiFailure("shuttingDown", "The cluster is being stopped", transient=True)
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _LOOK_S, self._lag_left(wanted)))
        return True

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _lag_left(self, clients: list[int]) -> float:
        now = time.monotonic()
        left = (self._lags_until.get(client, 0.0) - now for client in clients)
        return min((seconds for seconds in left if seconds > 0), default=_LOOK_S)
