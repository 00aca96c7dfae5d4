# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs of the benchmark in processes of their own: a line of JSON in, a line of JSON out."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
READY_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 120.0
END_TIMEOUT_S = 10.0


class Child:
    """It says one line when it is ready, then answers each line with one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._read(READY_TIMEOUT_S)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._read(ANSWER_TIMEOUT_S)

    def _read(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            raise RuntimeError(f"{self._process.args!r} said nothing within {timeout_s} s")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def running(
    program: str, *arguments: str, python: Path | str = sys.executable, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """A program of this directory, ended with the block."""
    command = [str(python), str(HERE / program), *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    with process:
        try:
            yield Child(process)
        finally:
            process.terminate()
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
