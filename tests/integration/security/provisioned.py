# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A broker whose users were made by storpool-ctl, and log in by certificates."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.credentials import ExternalCredentials

from pki import Certificate
from private_rabbit import PrivateRabbit
from storpool_commands.client import ManagementClient, Tls, endpoint

VHOST = "storpool"
CTL_TIMEOUT_S = 120.0


class Provisioned:
    """The broker, and a certificate for each user."""

    def __init__(self, broker: PrivateRabbit) -> None:
        self.broker = broker
        self.certificates: dict[str, Certificate] = {}

    @property
    def ca(self) -> Path:
        return self.broker.authority.cert

    def users(self, kind: str, *names: str) -> str:
        """Make users who log in by certificates; what storpool-ctl says."""
        for name in names:
            login = f"host-{name}" if kind == "host" else name
            if login not in self.certificates:
                self.certificates[login] = self.broker.authority.issue(login)
        return self.ctl("provision", kind, *names, "--certificate", "--run", "--vhost", VHOST)

    def objects(self, *hosts: str) -> str:
        """Make exchanges and queues, over AMQP; what storpool-ctl says."""
        mine = self.certificates["provisioner"]
        url = ["--url", f"{self.url('provisioner')}/{VHOST}"]
        files = ["--ca", str(self.ca), "--cert", str(mine.cert), "--key", str(mine.key)]
        return self.ctl(*url, *files, "provision", "objects", *hosts)

    def ctl(self, *arguments: str) -> str:
        """storpool-ctl, on a node of the broker."""
        done = subprocess.run(
            [sys.executable, "-c", "from storpool_commands.client.cli import main; main()", *arguments],
            env={**os.environ, "PATH": f"{self.broker.programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=CTL_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def url(self, login: str) -> str:
        """Without a vhost, as the agent's settings have it."""
        return self.broker.tls_url.replace("://", f"://{login}@")

    def login(self, login: str) -> dict[str, str]:
        """For [amqp] of an agent's settings."""
        mine = self.certificates[login]
        files = {"ca": str(self.ca), "cert": str(mine.cert), "key": str(mine.key)}
        return {"url": self.url(login), "vhost": VHOST, **files}

    def management(self, login: str, reply_to: str | None = None) -> ManagementClient:
        """Not opened yet."""
        return ManagementClient(f"{self.url(login)}/{VHOST}", tls=self.tls(login), reply_to=reply_to, declare=False)

    def endpoints(self, login: str) -> tuple[endpoint.Endpoint, ...]:
        """Of the SDK."""
        return endpoint.parse(f"{self.url(login)}/{VHOST}", None, self.tls(login))

    def tls(self, login: str) -> Tls:
        mine = self.certificates[login]
        return Tls(self.ca, mine.cert, mine.key)

    @contextmanager
    def channel(self, login: str) -> Iterator[BlockingChannel]:
        """In confirm mode, logged in by the user's certificate."""
        mine = self.certificates[login]
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(mine.cert, mine.key)
        parameters = pika.ConnectionParameters(
            host="127.0.0.1",
            port=self.broker.tls_port,
            virtual_host=VHOST,
            credentials=ExternalCredentials(),
            ssl_options=pika.SSLOptions(context, "127.0.0.1"),
        )
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
