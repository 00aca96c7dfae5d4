# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
from typing import Any

class BasicProperties:
    content_type: str | None
    reply_to: str | None
    correlation_id: str | None
    message_id: str | None
    delivery_mode: int | None
    user_id: str | None
    headers: dict[str, Any] | None
    def __init__(
        self,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        delivery_mode: int | None = None,
        priority: int | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expiration: str | None = None,
        message_id: str | None = None,
        timestamp: int | None = None,
        type: str | None = None,
        user_id: str | None = None,
    ) -> None: ...

class Basic:
    class Deliver:
        consumer_tag: str
        delivery_tag: int
        redelivered: bool
        exchange: str
        routing_key: str

    class Return:
        reply_code: int
        reply_text: str
        exchange: str
        routing_key: str

    class Ack:
        delivery_tag: int
        multiple: bool

    class Nack:
        delivery_tag: int
        multiple: bool
        requeue: bool
