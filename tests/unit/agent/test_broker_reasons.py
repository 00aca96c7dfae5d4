# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why there is no connection, as pika 1.4.4 tells it and as the log does. Real brokers: tests/integration/security."""

import ssl

import pytest
from pika.exceptions import (
    AMQPConnectionError,
    ConnectionClosed,
    IncompatibleProtocolError,
    ProbableAuthenticationError,
    StreamLostError,
)

from storpool_agent.bus.reasons import reason

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
            "StreamLostError: Stream connection lost",
        ),
        (AMQPConnectionError(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version")), "speaks no TLS"),
        (
            AMQPConnectionError(AMQPConnectionError(ConnectionRefusedError(111, "Connection refused"))),
            "Connection refused",
        ),
        (AMQPConnectionError(ProbableAuthenticationError("(403)")), "the broker refused the login"),
        (ConnectionClosed(320, "CONNECTION_FORCED - closed by a test"), "CONNECTION_FORCED - closed by a test (320)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_says_what_to_mend(error: BaseException, says: str) -> None:
    assert says in reason(error)
