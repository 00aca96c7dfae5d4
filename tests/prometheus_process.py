# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A Prometheus of a test's own, which looks often.

with running_prometheus(["127.0.0.1:9639"], rules=Path("alerts.yml")) as prometheus:
    prometheus.query("up")
"""

import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

SCRAPE_S = 0.5
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 10.0
LISTENS = re.compile(r'msg="Listening on" address=(\S+)')


class Prometheus:
    """Answers by its HTTP API."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/api/v1"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query answers now; an expression that is none raises HTTPError."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def values(self, expression: str) -> list[float]:
        return [float(one["value"][1]) for one in self.query(expression)]

    def rules(self) -> list[dict[str, Any]]:
        """With the `health` of each."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
        give_up_at = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < give_up_at, "Prometheus has not seen it"
            time.sleep(SCRAPE_S / 2)

    def wait_for_scrapes(self, count: int = 2) -> None:
        """So many more, of every target."""
        scrapes = "min(count_over_time(up[1h]))"
        before = self.values(scrapes) or [0.0]
        self.wait_until(lambda: self.values(scrapes) >= [before[0] + count])

    def _get(self, path: str, **parameters: str) -> Any:
        with urlopen(f"{self._url}/{path}?{urlencode(parameters)}", timeout=ANSWER_TIMEOUT_S) as answer:  # noqa: S310
            return json.load(answer)["data"]


@contextmanager
def running_prometheus(targets: Sequence[str], rules: Path) -> Iterator[Prometheus]:
    """Leaves no process and no file behind."""
    directory = Path(tempfile.mkdtemp(prefix="prometheus-"))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={_configured(directory, targets, rules)}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
        )
    try:
        yield Prometheus(_address(process, log))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)
        shutil.rmtree(directory)


def _configured(directory: Path, targets: Sequence[str], rules: Path) -> Path:
    """JSON is YAML."""
    interval = f"{SCRAPE_S * 1000:.0f}ms"
    path = directory / "prometheus.yml"
    path.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
                "rule_files": [str(rules)],
                "scrape_configs": [{"job_name": "storpool-agent", "static_configs": [{"targets": list(targets)}]}],
            }
        )
    )
    return path


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while not (found := LISTENS.search(log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        time.sleep(0.05)
    return found[1]
