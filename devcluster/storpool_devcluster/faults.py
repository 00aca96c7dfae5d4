# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Fault rules: which request goes wrong, how often, and how.

A rule without a match whose action concerns the whole cluster or one volume takes effect when it is posted; every other
waits for its request. Rules are looked at in the order they were posted; all that match a request fire together.
"""

import re
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from storpool_devcluster.fault_actions import Action


def _compiles(pattern: str) -> str:
    re.compile(pattern)
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]


class Match(BaseModel):
    """Which requests; what is not given matches all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    method: str | None = None
    query: str | None = None
    """The name of the call, without prefixes."""
    arg_re: Pattern | None = None
    body_re: Pattern | None = None
    client: int | None = None
    """A client that the request names: to attach, to detach, or to wait for."""


class Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    match: Match | None = None
    skip: int = Field(default=0, ge=0)
    """So many matching requests pass first."""
    times: int | None = Field(default=1, ge=1)
    """How many requests it hits; null: all."""
    action: Action


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule can look at."""

    method: str
    query: str
    arg: str
    body: bytes


@dataclass
class _Posted:
    number: int
    rule: Rule
    to_skip: int
    left: int | None
    fired: int = 0


class Faults:
    def __init__(self) -> None:
        self._rules: list[_Posted] = []
        self._numbers = count(1)
        self._lock = Lock()

    def add(self, rule: Rule) -> int:
        with self._lock:
            posted = _Posted(next(self._numbers), rule, rule.skip, rule.times)
            self._rules.append(posted)
        return posted.number

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def fire(self, facts: Facts) -> list[Action]:
        """The actions for this request; used up rules stay listed."""
        if not self._rules:
            return []
        with self._lock:
            return [posted.rule.action for posted in self._rules if _takes(posted, facts)]

    def describe(self) -> list[dict[str, Any]]:
        with self._lock:
            return [
                {"id": posted.number, "fired": posted.fired, "left": posted.left, **posted.rule.model_dump()}
                for posted in self._rules
            ]


def _takes(posted: _Posted, facts: Facts) -> bool:
    if posted.left == 0 or not _matches(posted.rule.match or Match(), facts):
        return False
    if posted.to_skip:
        posted.to_skip -= 1
        return False
    posted.left = None if posted.left is None else posted.left - 1
    posted.fired += 1
    return True


def _matches(match: Match, facts: Facts) -> bool:
    return (
        match.method in (None, facts.method)
        and match.query in (None, facts.query)
        and (match.arg_re is None or re.search(match.arg_re, facts.arg) is not None)
        and (match.body_re is None or re.search(match.body_re, facts.body.decode(errors="replace")) is not None)
        and (match.client is None or match.client in named_clients(facts))
    )


def named_clients(facts: Facts) -> set[int]:
    if facts.query == "ClientConfigWait":
        return {int(facts.arg)} if facts.arg.isdigit() else set()
    if not facts.query.startswith("VolumesReassign"):
        return set()
    return {client for item in reassign_items(facts.body) for client in item.clients}


class ReassignItem(BaseModel):
    """As much of an item as rules look at; what does not fit names nobody."""

    volume: str = ""
    snapshot: str = ""
    rw: list[int] = []
    ro: list[int] = []
    detach: list[int] | str = []

    @property
    def clients(self) -> list[int]:
        return [*self.rw, *self.ro, *(self.detach if isinstance(self.detach, list) else [])]


class _Reassign(BaseModel):
    reassign: list[ReassignItem] = []


_BODY: TypeAdapter[_Reassign | list[ReassignItem]] = TypeAdapter(_Reassign | list[ReassignItem])


def reassign_items(body: bytes) -> list[ReassignItem]:
    try:
        parsed = _BODY.validate_json(body)
    except ValidationError:
        return []
    return parsed if isinstance(parsed, list) else parsed.reassign
