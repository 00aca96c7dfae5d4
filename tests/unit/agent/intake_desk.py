# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An intake alone, and what comes to it."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from pytest_mock import MockerFixture

from storpool_agent.bus.consumer import Delivery
from storpool_agent.bus.publisher import Message
from storpool_agent.intake import Intake
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.outgoing import Outgoing
from storpool_agent.publishers import Grants, Publishers
from storpool_commands.envelope import ControlRequest, Request, Success

PING = {"command": "ping"}
CREATE = {"command": "createVolume", "sizeBytes": 512, "template": "dev"}
SECRET = "storpool://canary4711@mgmt:81/ssd"
ADD = {"command": "addStoragePool", "name": "p", "url": SECRET}


class Desk:
    """An intake whose neighbours only take notes."""

    def __init__(self, journal: Journal, mocker: MockerFixture, allowed: Grants | None = None) -> None:
        self.journal = journal
        self.submitted: list[Request] = []
        self.answered: list[ControlRequest] = []
        self.publishers: list[str | None] = []
        """Whom the jobs were told to be of."""
        self.published: list[Message] = []
        self.replayed: list[Outgoing] = []
        self.settled: list[Delivery] = []
        self.served: list[tuple[Request, int]] = []
        self.settlements: list[Callable[[], None]] = []
        self.kept: list[Request] = []
        self.declined: list[Delivery] = []
        jobs: Any = mocker.Mock(submit=self._submit, serve=self._serve, keep=self._keep)
        control: Any = mocker.Mock(answer=self._answer)
        outbox: Any = mocker.Mock(send=self.replayed.extend)
        publisher: Any = mocker.Mock(publish=self.published.append)
        self.intake = Intake("kvm1", journal, jobs, control, outbox, publisher, Publishers(allowed))
        self.intake.settle = self.settled.append
        self.intake.decline = self.declined.append

    def _submit(self, request: Request, *, publisher: str | None) -> None:
        self.submitted.append(request)
        self.publishers.append(publisher)

    def _keep(self, request: Request, publisher: str | None) -> None:
        self.kept.append(request)
        self.publishers.append(publisher)

    def _serve(self, request: Request, attempts: int, settle: Callable[[], None], publisher: str | None) -> None:
        self.served.append((request, attempts))
        self.settlements.append(settle)
        self.publishers.append(publisher)

    def _answer(self, asked: ControlRequest, say: Callable[[Success], None], publisher: str | None) -> None:
        self.answered.append(asked)
        self.publishers.append(publisher)
        say(_pong(asked))

    def receive(self, *deliveries: Delivery) -> list[Delivery]:
        return list(self.intake.receive(deliveries))

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [json.loads(one.body) for one in self.published if one.exchange == "storpool.replies"]

    @property
    def dead(self) -> list[Message]:
        return [one for one in self.published if one.exchange == "storpool.dead"]


def delivery(
    body: Mapping[str, Any] | bytes,
    *,
    control: bool = False,
    reply_to: str | None = "mgmt",
    publisher: str | None = None,
    shared: bool = False,
    count: int = 0,
) -> Delivery:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    channel: Any = object()
    return Delivery(content, control, reply_to, "c1", publisher, 1, channel, shared, count)


def request(**changes: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "protocol": 1, "body": PING, **changes}


def _pong(asked: ControlRequest) -> Success:
    return Success.model_validate(
        {
            "id": asked.id,
            "host": "kvm1",
            "result": {"command": "ping", "host": "kvm1", "version": "1", "time": "2026-01-01T00:00:00Z"},
            "tookMs": 0.1,
        },
        strict=False,
    )
