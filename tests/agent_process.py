# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent as a process of its own, on a real broker and a development StorPool, for tests of the whole.

with running_stack() as stack:
    disk = stack.call(CreateVolume(size_bytes=MIB, template="dev"))
    stack.agent.kill()
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from devcluster_process import DevclusterProcess, running_devcluster
from rabbit import new_vhost, vhost_of
from storpool_commands.client import ManagementClient
from storpool_commands.wire import CommandModel

R = TypeVar("R")

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 90.0
CALL_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 10.0
CRASH_VARIABLE = "STORPOOL_AGENT_CRASH_AT"


class AgentProcess:
    """Started, killed and restarted over one state directory."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], *, within: Sequence[str] = ()) -> None:
        """`within` is the beginning of a command whose rest it runs in its own place, such as nsenter."""
        self.directory = directory
        self._within = list(within)
        self.state_dir = directory / "state"
        self.config = directory / "agent.toml"
        self.log_file = directory / "agent.log"
        self.environment: Mapping[str, str] = {}
        """Over this process's own, from the next start on."""
        self.configure(settings)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write agent.toml; a running agent does not look at it again."""
        settings = {
            "control_socket": str(self.directory / "control.sock"),
            **settings,
        }  # the default is for one a machine
        lines = [f"{key} = {_toml(value)}" for key, value in settings.items() if not isinstance(value, Mapping)]
        for section, values in settings.items():
            if isinstance(values, Mapping):
                lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
        self.config.touch(mode=0o600)
        self.config.write_text("\n".join(lines) + "\n")

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self, *, crash_at: str | None = None, wait: bool = True) -> None:
        environment = {**os.environ, **self.environment, **({CRASH_VARIABLE: crash_at} if crash_at else {})}
        before = len(self.events("ready"))
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, sys.executable, "-m", "storpool_agent", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for whoever started it, who then ends it in the right order
            )
        if wait:
            self._wait_ready(before)

    def wait_crashed(self, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Until the crash point has killed it."""
        assert self._process is not None
        assert self._process.wait(timeout_s) == -signal.SIGKILL
        self._process = None

    def wait_ended(self, timeout_s: float = CALL_TIMEOUT_S) -> int:
        """Until it has ended by itself; its exit status."""
        assert self._process is not None
        status = self._process.wait(timeout_s)
        self._process = None
        return status

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def restart_to_crash_at(self, point: str) -> None:
        self.stop()
        self.start(crash_at=point)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What it has logged, all of its lives together."""
        text = self.log_file.read_text() if self.log_file.exists() else ""
        whole, _, _being_written = text.rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if name in (None, line["event"])]

    @property
    def metrics_address(self) -> str:
        """Where it serves them; `metrics = {"listen": "127.0.0.1:0"}` has it choose."""
        return str(self.events("metrics served")[-1]["address"])

    def probe(self, path: str) -> tuple[int, dict[str, Any]]:
        """The status, and what /healthz or /readyz says."""
        connection = http.client.HTTPConnection(self.metrics_address, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def _wait_ready(self, before: int) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while len(self.events("ready")) == before:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"storpool-agent did not start: {self.log_file.read_text()[-4000:]}")
            time.sleep(0.02)

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@dataclass
class Stack:
    """A management plane, a broker, an agent, and StorPool."""

    storpool: DevclusterProcess
    agent: AgentProcess
    management: ManagementClient
    amqp_url: str
    device_root: Path
    settings: dict[str, Any]
    directory: Path

    @contextmanager
    def second_agent(self, *, start: bool = True) -> Iterator[AgentProcess]:
        """The agent of another host, kvm2, on the same broker and StorPool, set up as the first."""
        directory = self.directory / "kvm2"
        directory.mkdir()
        own = {"host": "kvm2", "state_dir": str(directory / "state")}
        storpool = {"our_id": 2, "device_root": str(directory / "dev")}
        values = {**self.settings, **own, "storpool": {**self.settings["storpool"], **storpool}}
        agent = AgentProcess(directory, values)
        try:
            if start:
                agent.start()
            yield agent
        finally:
            agent.kill()

    @property
    def client_url(self) -> str:
        """The URL with its vhost, as AMQP clients take it."""
        return client_url(self.amqp_url)

    @property
    def host(self) -> str:
        return str(self.settings["host"])

    def call(self, command: CommandModel[R], **options: Any) -> R:
        """Have the agent do it; its result, or CommandFailed."""
        options.setdefault("timeout_s", CALL_TIMEOUT_S)
        return self.management.call(command, host=self.host, **options)

    def create(self, size: int = 16 << 20) -> str:
        """A new volume's reference."""
        return f"~{self.storpool.create(size, template='dev')}"

    def attachments(self, volume: str) -> list[tuple[int, str]]:
        """(client, rights) of a volume, as StorPool lists them."""
        listed = self.storpool.call("GET", "AttachmentsList")
        return [(one["client"], one["rights"]) for one in listed if f"~{one['globalId']}" == volume]

    def link(self, volume: str) -> Path:
        return self.device_root / "storpool-byid" / volume.removeprefix("~")


@contextmanager
def running_stack(
    *,
    start: bool = True,
    device_root: Path | None = None,
    cluster_id: str = "d.n",
    vhost: str | None = None,
    storpool_options: Sequence[str] = (),
    **settings: Mapping[str, Any],
) -> Iterator[Stack]:
    """Everything in a vhost and directories of its own; `settings` are sections over the defaults.

    `storpool_options` are further ones of `storpool-devcluster serve`.
    A device root that others use too needs a cluster id of its own: global ids begin with it.

    Leaves no process, device, vhost or file behind.
    """
    directory = Path(tempfile.mkdtemp(prefix="agent-"))
    root = device_root or directory / "dev"
    try:
        with new_vhost(vhost) as url, _devcluster(root, cluster_id, storpool_options) as storpool:
            values = agent_settings(directory, url, storpool, root)
            for section, changes in settings.items():
                values[section] = {**values.get(section, {}), **changes}
            agent = AgentProcess(directory, values)
            with ManagementClient(client_url(url)) as management:
                try:
                    if start:
                        agent.start()
                    yield Stack(storpool, agent, management, url, root, values, directory)
                finally:
                    agent.kill()
    finally:
        shutil.rmtree(directory)


def _toml(value: object) -> str:
    """A value; a table is written in one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def _devcluster(root: Path, cluster_id: str, options: Sequence[str]) -> AbstractContextManager[DevclusterProcess]:
    return running_devcluster({1: root, 2: None}, options=["--cluster-id", cluster_id, *options])


def client_url(url: str) -> str:
    base, _, vhost = url.rpartition("/")
    return f"{base}/{quote(vhost, safe='')}"


def agent_settings(directory: Path, url: str, storpool: DevclusterProcess, root: Path) -> dict[str, Any]:
    """For kvm1, client 1 of StorPool."""
    token_file = directory / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(storpool.token)
    return {
        "host": "kvm1",
        "state_dir": str(directory / "state"),
        "amqp": {"url": url.rpartition("/")[0], "vhost": vhost_of(url)},
        "storpool": {
            "api": storpool.api,
            "token_file": str(token_file),
            "our_id": 1,
            "device_root": str(root),
        },
        "metrics": {"listen": ""},  # several agents run side by side
        "log": {"level": "debug", "format": "json"},
    }
