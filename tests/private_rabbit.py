# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of a test's own, with TLS and logins by certificate. By TLS nobody is let in who has none.

with private_rabbit() as broker:
    broker.ctl("add_vhost", "storpool")
    url = broker.tls_url
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pki import Authority, Certificate

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
READY_TIMEOUT_S = 90.0
CTL_TIMEOUT_S = 60.0
EXIT_TIMEOUT_S = 20.0
STARTED = "Server startup complete"

CONF = """\
listeners.tcp.1 = 127.0.0.1:{plain}
listeners.ssl.1 = 127.0.0.1:{tls}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {cert}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
"""
SHIM = """\
#!/bin/sh
exec env HOME={home} {program} --node {node} "$@"
"""


class PrivateRabbit:
    """Not thread safe: the test that owns it drives it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authority = Authority(root / "pki", "authority of a test")
        self.plain_port, self.tls_port, self._dist_port = free_ports(3)
        self.node = f"test-{uuid4().hex[:12]}@localhost"
        self.log_file = root / "rabbit.log"
        self.programs = root / "bin"
        """To be put on PATH: its rabbitmqctl talks to this node."""
        self._process: subprocess.Popen[bytes] | None = None
        self._configure(self.authority.issue("broker", address="IP:127.0.0.1"))

    @property
    def tls_url(self) -> str:
        """Without a user."""
        return f"amqps://127.0.0.1:{self.tls_port}"

    def start(self) -> None:
        """Until it serves."""
        with self.log_file.with_suffix(".out").open("ab") as out:
            self._process = subprocess.Popen(
                [PROGRAMS / "rabbitmq-server"],
                env=self._environment(),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        give_up_at = time.monotonic() + READY_TIMEOUT_S
        while not (self.log_file.exists() and STARTED in self.log_file.read_text()):
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"RabbitMQ did not start: {self.log_file.with_suffix('.out').read_text()[-4000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """kill -9: there is nothing in it that anybody needs."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(EXIT_TIMEOUT_S)

    def ctl(self, *arguments: str) -> str:
        """rabbitmqctl on this node."""
        done = subprocess.run(
            [self.programs / "rabbitmqctl", "--quiet", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=CTL_TIMEOUT_S,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def _configure(self, certificate: Certificate) -> None:
        conf = CONF.format(
            plain=self.plain_port,
            tls=self.tls_port,
            ca=self.authority.cert,
            cert=certificate.cert,
            key=certificate.key,
        )
        (self.root / "rabbitmq.conf").write_text(conf)
        (self.root / "enabled_plugins").write_text("[rabbitmq_auth_mechanism_ssl].\n")
        self.programs.mkdir()
        shim = self.programs / "rabbitmqctl"
        shim.write_text(SHIM.format(home=self.root, program=PROGRAMS / "rabbitmqctl", node=self.node))
        shim.chmod(0o755)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_BASE": str(self.root),
            "RABBITMQ_MNESIA_BASE": str(self.root / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.root),
            "RABBITMQ_LOGS": str(self.log_file),
            "RABBITMQ_CONFIG_FILE": str(self.root / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.root / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_PID_FILE": str(self.root / "pid"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
        }


@contextmanager
def private_rabbit() -> Iterator[PrivateRabbit]:
    """It runs, and goes with everything in it."""
    root = Path(tempfile.mkdtemp(prefix="rabbit-"))
    broker = PrivateRabbit(root)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(root)


def free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to who connects somewhere: they are bound only seconds later."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = random.sample(range(10_000, lowest), 50 * count)
    return [port for port in candidates if _is_free(port)][:count]


def _is_free(port: int) -> bool:
    with socket.socket() as trying:
        try:
            trying.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
