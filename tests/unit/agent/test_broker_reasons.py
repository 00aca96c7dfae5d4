# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why there is no connection, as pika 1.4.4 tells it and as the log does. Real brokers: tests/integration/security."""

import re
import ssl
from socket import gaierror

import pytest
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosed,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from storpool_agent.bus.reasons import reason
from storpool_commands.client.reasons import Login
from storpool_commands.client.reasons import reason as clients_reason

LOGIN = Login("b:5672", "storpool", "host-kvm1")
LOST = "StreamLostError: (\"Stream connection lost: SSLError(1, '[SSL: {}] sslv3 alert (_ssl.c:2580)')\",)"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (IncompatibleProtocolError(LOST.format("TLSV13_ALERT_CERTIFICATE_REQUIRED")), "wants a client certificate"),
        (
            IncompatibleProtocolError(LOST.format("TLSV1_ALERT_UNKNOWN_CA")),
            "does not know the authority that signed our",
        ),
        (
            IncompatibleProtocolError(LOST.format("SSLV3_ALERT_CERTIFICATE_EXPIRED")),
            "our certificate (cert) has expired",
        ),
        (IncompatibleProtocolError(LOST.format("SSLV3_ALERT_BAD_CERTIFICATE")), "refuses our certificate"),
        (
            IncompatibleProtocolError("StreamLostError: ('Transport indicated EOF',)"),
            "does it want a client certificate",
        ),
        (
            StreamLostError("Stream connection lost: ConnectionResetError(104)"),
            "b:5672 ended the connection",
        ),
        (AMQPConnectionError(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version")), "speaks no TLS"),
        (
            AMQPConnectionError(AMQPConnectionError(ConnectionRefusedError(111, "Connection refused"))),
            "nothing listens at b:5672",
        ),
        (
            StreamLostError("Stream connection lost: ConnectionResetError(104, 'Connection reset by peer')"),
            "the connection to b:5672 was lost: Connection reset by peer",
        ),
        (gaierror(-2, "Name or service not known"), "the broker's name cannot be looked up (b:5672)"),
        (AMQPConnectionError(TimeoutError("timed out")), "b:5672 does not answer in time"),
        (
            AMQPConnectionError(ProbableAuthenticationError("(403)")),
            "the broker refused the login of user host-kvm1 (for vhost storpool)",
        ),
        (ProbableAccessDeniedError("(530) vhost storpool not found"), "has no vhost storpool: `vhost` in `[amqp]`"),
        (
            ProbableAccessDeniedError("(530) access to vhost 'storpool' refused for user 'host-kvm1'"),
            "user host-kvm1 has no access to vhost storpool",
        ),
        (
            ChannelClosedByBroker(403, "ACCESS_REFUSED - access to exchange 'storpool.commands' refused"),
            "`storpool-ctl provision` makes them, set `declare = false`",
        ),
        (
            ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'storpool.commands' in vhost 'storpool'"),
            "`storpool-ctl provision objects` makes it",
        ),
        (ConnectionClosed(320, "CONNECTION_FORCED - closed by a test"), "CONNECTION_FORCED - closed by a test (320)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_says_what_to_mend(error: BaseException, says: str) -> None:
    said = reason(error, LOGIN)
    assert says in said
    assert not re.search(r"[A-Z]\w+(Error|Exception|Closed|Timeout)\b", said)


def test_a_certificate_is_named_where_it_is_the_login() -> None:
    refused = ProbableAuthenticationError("(403)")
    assert "by our certificate (cert)" in reason(refused, Login("b:5671", "storpool", None))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'storpool.commands' in vhost '/'"), "that the URL names"),
        (ProbableAccessDeniedError("(530) 'NOT_ALLOWED - vhost storpool not found'"), "the path of the URL names it"),
    ],
    ids=["exchange", "vhost"],
)
def test_a_client_is_told_of_its_url(error: BaseException, says: str) -> None:
    assert says in clients_reason(error, LOGIN)
