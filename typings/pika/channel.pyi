# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Mapping
from typing import Any

from pika.adapters.select_connection import SelectConnection
from pika.frame import Method
from pika.spec import Basic, BasicProperties

_Arguments = Mapping[str, str | int | bool]
_Done = Callable[[Any], object]

class Channel:
    connection: SelectConnection
    @property
    def is_open(self) -> bool: ...
    def add_on_close_callback(self, callback: Callable[[Channel, Exception], object]) -> None: ...
    def add_on_cancel_callback(self, callback: Callable[[Any], object]) -> None: ...
    def add_on_return_callback(
        self, callback: Callable[[Channel, Basic.Return, BasicProperties, bytes], object]
    ) -> None: ...
    def basic_nack(self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True) -> None: ...
    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None: ...
    def basic_cancel(self, consumer_tag: str, callback: _Done | None = None) -> None: ...
    def basic_consume(
        self,
        queue: str,
        on_message_callback: Callable[[Channel, Basic.Deliver, BasicProperties, bytes], object],
        auto_ack: bool = False,
        exclusive: bool = False,
        consumer_tag: str | None = None,
        arguments: _Arguments | None = None,
        callback: _Done | None = None,
    ) -> str: ...
    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None: ...
    def basic_qos(
        self,
        prefetch_size: int = 0,
        prefetch_count: int = 0,
        global_qos: bool = False,
        callback: _Done | None = None,
    ) -> None: ...
    def close(self, reply_code: int = 0, reply_text: str = ...) -> None: ...
    def confirm_delivery(
        self, ack_nack_callback: Callable[[Method[Basic.Ack | Basic.Nack]], object], callback: _Done | None = None
    ) -> None: ...
    def exchange_declare(
        self,
        exchange: str,
        exchange_type: str = ...,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: _Arguments | None = None,
        callback: _Done | None = None,
    ) -> None: ...
    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str | None = None,
        arguments: _Arguments | None = None,
        callback: _Done | None = None,
    ) -> None: ...
    def queue_declare(
        self,
        queue: str,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: _Arguments | None = None,
        callback: Callable[[Method[Any]], object] | None = None,
    ) -> None: ...
