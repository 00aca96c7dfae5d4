# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""TLS, ended by a proxy before the real broker."""

import ssl
import subprocess
from pathlib import Path
from time import monotonic

import pytest

from integration.client.answers import DISK, connected
from integration.client.proxy import Proxy
from integration.client.stand_in import StandInAgent
from storpool_commands.client import BrokerUnreachable, ManagementClient, Tls
from storpool_commands.disks import ConnectPhysicalDisk

COMMAND = ConnectPhysicalDisk(volume="~a.b.c")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, and a certificate that signs itself."""
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    made_too = made.with_suffix(".crt")
    wanted = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=broker"
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(made), "-out", str(made_too)]
    subprocess.run(["openssl", *wanted.split(), *named], check=True, capture_output=True, timeout=60)
    made.write_text(made.read_text() + made_too.read_text())
    return made


@pytest.fixture
def broker(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def test_a_call_goes_over_tls(url: str, host: str, broker: ssl.SSLContext, pem: Path) -> None:
    with (
        StandInAgent(url, host, connected),
        Proxy(broker) as proxy,
        ManagementClient(proxy.through(url), tls=Tls(ca=pem)) as client,
    ):
        assert client.call(COMMAND, host=host) == DISK


def test_a_broker_that_nobody_vouches_for_is_refused_at_once(url: str, broker: ssl.SSLContext) -> None:
    started = monotonic()
    with Proxy(broker) as proxy, pytest.raises(BrokerUnreachable, match="certificate is refused: self-signed"):
        ManagementClient(proxy.through(url)).open(timeout_s=60)
    assert monotonic() - started < 20


def test_a_broker_with_the_certificate_of_another_is_refused(url: str, broker: ssl.SSLContext, pem: Path) -> None:
    with Proxy(broker) as proxy, pytest.raises(BrokerUnreachable, match="localhost"):
        ManagementClient(proxy.through(url).replace("127.0.0.1", "localhost"), tls=Tls(ca=pem)).open(timeout_s=60)


def test_the_client_certificate_is_shown(url: str, broker: ssl.SSLContext, pem: Path) -> None:
    broker.verify_mode = ssl.CERT_REQUIRED
    broker.load_verify_locations(pem)
    with Proxy(broker) as proxy:
        # The broker itself sees no certificate and so offers no such login: we have come past the proxy.
        with pytest.raises(BrokerUnreachable, match="offers no login by EXTERNAL"):
            ManagementClient(proxy.through(url), tls=Tls(ca=pem, cert=pem)).open(timeout_s=60)
        with pytest.raises(BrokerUnreachable):
            ManagementClient(proxy.through(url), tls=Tls(ca=pem)).open(timeout_s=2)
