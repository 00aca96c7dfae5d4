# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
import ssl
from collections.abc import Mapping

from pika.adapters.blocking_connection import BlockingConnection as BlockingConnection
from pika.credentials import ExternalCredentials
from pika.credentials import PlainCredentials as PlainCredentials
from pika.spec import BasicProperties as BasicProperties

class SSLOptions:
    def __init__(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None: ...

class ConnectionParameters:
    credentials: PlainCredentials | ExternalCredentials
    heartbeat: int
    blocked_connection_timeout: float | None
    def __init__(
        self,
        *,
        host: str = ...,
        port: int = ...,
        virtual_host: str = ...,
        credentials: PlainCredentials | ExternalCredentials = ...,
        heartbeat: int | None = ...,
        socket_timeout: float = ...,
        stack_timeout: float = ...,
        blocked_connection_timeout: float | None = ...,
        connection_attempts: int = ...,
        ssl_options: SSLOptions | None = ...,
        client_properties: Mapping[str, str] = ...,
        tcp_options: Mapping[str, int] = ...,
    ) -> None: ...

class URLParameters(ConnectionParameters):
    def __init__(self, url: str) -> None: ...
