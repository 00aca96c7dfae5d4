# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A development StorPool as a process of its own, for tests of whoever talks to it.

with running_devcluster({1: tmp_path / "dev", 2: None}) as storpool:
    ...storpool.api, storpool.token...
    storpool.sim.fault({"kind": "close_after"}, query="VolumeCreate")
"""

import contextlib
import http.client
import json
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TOKEN = "development-token"
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 30.0
HTTP_TIMEOUT_S = 60.0


class ApiError(Exception):
    """The API answered with an error envelope."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.name = str(error.get("name"))
        self.descr = str(error.get("descr"))
        self.transient = bool(error.get("transient"))


def ask(api: str, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request on a connection of its own; the status and the decoded answer."""
    connection = http.client.HTTPConnection(api, timeout=HTTP_TIMEOUT_S)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Authorization": f"Storpool v1:{token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Sim:
    """What tests do to the cluster behind the API's back."""

    def __init__(self, process: "DevclusterProcess") -> None:
        self._process = process

    def fault(self, action: Mapping[str, Any], *, skip: int = 0, times: int | None = 1, **match: str | int) -> None:
        """Post one rule. `match` names: method, query, arg_re, body_re, client; without any the rule has no match."""
        self.faults([{"match": match or None, "skip": skip, "times": times, "action": dict(action)}])

    def faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        self._ask("POST", "faults", list(rules))

    def fired(self) -> int:
        """How many requests the rules have hit."""
        return sum(rule["fired"] for rule in self._ask("GET", "faults"))

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")

    def requests(self, query: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "requests")
        return [entry for entry in found if query in (None, entry["query"])]

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._ask("GET", "state")
        return state

    def reset(self) -> None:
        self._ask("POST", "reset")

    def client_down(self, client: int) -> None:
        self._ask("POST", f"client/{client}/down")

    def client_up(self, client: int) -> None:
        self._ask("POST", f"client/{client}/up")

    def wait_for_removals(self, timeout_s: float = 10.0) -> None:
        """Until no loop device is on its way out."""
        deadline = time.monotonic() + timeout_s
        while self.state()["removals"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"loop devices still there after {timeout_s} s")
            time.sleep(0.02)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = ask(self._process.api, self._process.token, method, f"/sim/{path}", body)
        if status != 200:
            raise AssertionError(f"/sim/{path}: {status} {answer}")
        return answer


class DevclusterProcess:
    """Started, killed and restarted over one state directory; keeps its address over restarts."""

    def __init__(self, state: Path, clients: Mapping[int, Path | None], options: Sequence[str], token: str) -> None:
        self.state = state
        self.token = token
        self.api = "127.0.0.1:0"
        self.sim = Sim(self)
        self._clients = [f"{client}={root}" if root else str(client) for client, root in clients.items()]
        self._options = list(options)
        self._process: subprocess.Popen[str] | None = None

    @property
    def port(self) -> int:
        return int(self.api.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    def call(self, method: str, query: str, body: Any = None, *, prefix: str = "MultiCluster/") -> Any:
        """The `data` of the answer, or ApiError."""
        status, answer = ask(self.api, self.token, method, f"/ctrl/1.0/{prefix}{query}", body)
        if status != 200 or "error" in answer:
            raise ApiError(status, answer["error"])
        return answer["data"]

    def create(self, size: int = 1 << 20, **members: Any) -> str:
        """A new volume's global id."""
        return str(self.call("POST", "VolumeCreate", {"size": size, **members})["globalId"])

    def reassign(self, *items: Mapping[str, Any], attach_timeout_s: int = 10) -> Any:
        return self.call("POST", "VolumesReassignWait", {"reassign": items, "attachTimeout": attach_timeout_s})

    def attach(self, gid: str, client: int = 1, rights: str = "rw") -> None:
        self.reassign({"volume": f"~{gid}", rights: [client]})

    def detach(self, gid: str, client: int = 1, *, force: bool = False) -> None:
        self.reassign({"volume": f"~{gid}", "detach": [client], "force": force})

    def start(self) -> None:
        command = [sys.executable, "-m", "storpool_devcluster", "serve", "--state", str(self.state)]
        command += ["--listen", self.api, "--token-file", str(self._token_file())]
        for client in self._clients:
            command += ["--client", client]
        self._process = subprocess.Popen(
            [*command, *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for whoever started it, who then ends it in the right order
        )
        try:
            self.api = self._ready_line()["api"]
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """kill -9: nodes, links and loop devices stay behind."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """The exit status; state is kept, devices are gone."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again after `kill` or `stop`, at the same address."""
        self.stop()
        self.start()

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with process:
            process.send_signal(how)
            try:
                return process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def _ready_line(self) -> dict[str, str]:
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], READY_TIMEOUT_S)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            raise RuntimeError(f"storpool-devcluster was not ready within {READY_TIMEOUT_S} s")
        ready: dict[str, str] = json.loads(line)
        return ready

    def _token_file(self) -> Path:
        file = self.state / "token"
        file.write_text(self.token)
        file.chmod(0o600)
        return file


@contextlib.contextmanager
def running_devcluster(
    clients: Mapping[int, Path | None] | None = None,
    *,
    options: Sequence[str] = (),
    token: str = TOKEN,
) -> Iterator[DevclusterProcess]:
    """Client ids with their device directories (None: bookkeeping only). Leaves no device, file or process behind.

    Without `clients`: client 1 with a device directory below the state directory, `<state>/dev1`.
    """
    state = Path(tempfile.mkdtemp(prefix="devcluster-"))
    process = DevclusterProcess(state, clients or {1: state / "dev1"}, options, token)
    try:
        process.start()
        yield process
    finally:
        try:
            _take_down(process)
        finally:
            shutil.rmtree(state)


def _take_down(process: DevclusterProcess) -> None:
    """A killed one is started once more: only it knows which devices are its own."""
    if process._process is None or process._process.poll() is not None:
        process.kill()
        process.start()
    process.stop()
