# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a stand-in answers."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from integration.client.stand_in import Request
from storpool_commands.catalogue import Result
from storpool_commands.disks import ConnectedDisk
from storpool_commands.envelope import Accepted, Failure, Progress, Step, Success
from storpool_commands.errors import ErrorCode, retry_class

DISK = ConnectedDisk(
    global_id="a.b.c",
    path="/dev/storpool-byid/a.b.c",
    real_device="/dev/sp-1",
    size_bytes=512,
    mode="rw",
    attached_now=True,
)


def encoded(reply: Success | Failure | Accepted | Progress) -> bytes:
    return reply.model_dump_json(by_alias=True).encode()


def success(request: Request, result: Result = DISK) -> bytes:
    steps = [Step(step="attach", status="done", took_ms=3.0)]
    return encoded(Success(id=UUID(request["id"]), host="kvm1", result=result, steps=steps, took_ms=4.0))


def failure(request: Request, code: ErrorCode, **facts: Any) -> bytes:
    return encoded(
        Failure(
            id=UUID(request["id"]),
            host="kvm1",
            code=code,
            message="vm-1 is open",
            retry=retry_class(code),
            side_effects="none",
            facts=facts,
        )
    )


def connected(request: Request) -> Iterable[bytes]:
    return [success(request)]


def silent(_: Request) -> Iterable[bytes]:
    return []
