# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

from pika import ConnectionParameters
from pika.connection import Connection

class IOLoop:
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def call_later(self, delay: float, callback: Callable[[], object]) -> object: ...
    def remove_timeout(self, timeout_handle: object) -> None: ...
    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None: ...

class SelectConnection(Connection):
    ioloop: IOLoop
    def __init__(
        self,
        parameters: ConnectionParameters,
        on_open_callback: Callable[[SelectConnection], object] | None = None,
        on_open_error_callback: Callable[[SelectConnection, BaseException], object] | None = None,
        on_close_callback: Callable[[SelectConnection, BaseException], object] | None = None,
        custom_ioloop: IOLoop | None = None,
    ) -> None: ...
