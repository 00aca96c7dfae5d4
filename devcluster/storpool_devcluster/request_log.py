# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The requests that came, for tests to look at. The token is in none of it."""

import json
import time
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import Any

KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Entry:
    number: int
    at_s: float
    method: str
    path: str
    query: str
    arg: str
    body: bytes
    status: int
    generation: int
    ms: float
    faults: tuple[str, ...]
    traceparent: str | None

    def describe(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "at": self.at_s,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "arg": self.arg,
            "body": _decoded(self.body),
            "status": self.status,
            "generation": self.generation,
            "ms": round(self.ms, 3),
            "faults": list(self.faults),
            "traceparent": self.traceparent,
        }


class RequestLog:
    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._numbers = count(1)

    def add(
        self,
        method: str,
        path: str,
        query: str,
        arg: str,
        body: bytes,
        *,
        status: int,
        generation: int,
        began: float,
        faults: tuple[str, ...] = (),
        traceparent: str | None = None,
    ) -> None:
        ms = (time.monotonic() - began) * 1000
        answer = (status, generation, ms, faults)
        self._entries.append(
            Entry(next(self._numbers), time.time(), method, path, query, arg, body, *answer, traceparent)
        )

    def entries(self) -> list[Entry]:
        return list(self._entries)

    def clear(self) -> None:
        self._entries.clear()


def _decoded(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
