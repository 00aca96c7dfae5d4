# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a reload puts into effect, what it leaves to a restart, and what it does about a file that cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from storpool_agent import storpool_access as access_module
from storpool_agent.reloading import Reloading
from storpool_agent.settings import Settings, load
from storpool_agent.storpool_conf import StorPoolConf

MINIMAL = '[storpool]\napi = "127.0.0.1:81"\ntoken = "canary-token"\nour_id = 7\n'


@pytest.fixture(autouse=True)
def _no_storpool_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(access_module, "read_conf", lambda: StorPoolConf(files=()))


class Office:
    """A file of settings, and who looks at it again."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "agent.toml"
        self.write("")
        self.levels: list[str] = []
        self.told: list[tuple[str, ...]] = []
        self.reloading = Reloading(
            self.file, load(self.file), {"log.level": self._set_level}, lambda *lines: self.told.append(lines)
        )

    def write(self, text: str) -> None:
        self.file.write_text(text + "\n" + MINIMAL)

    @contextmanager
    def reloaded(self) -> Iterator[list[Any]]:
        with capture_logs() as said:
            self.reloading.reload()
        yield said

    def _set_level(self, settings: Settings) -> None:
        self.levels.append(settings.log.level)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_what_can_change_does_and_what_cannot_is_named_until_a_restart(office: Office) -> None:
    office.write(
        'state_dir = "/elsewhere"\n[log]\nlevel = "debug"\nformat = "json"\n'
        '[pools.p]\napi = "h:1"\ntemplate = "t"\ntoken = "x"\n'
    )
    with office.reloaded() as said:
        waiting = ["state_dir", "pools", "log.format"]
        assert said == [
            {"event": "reloaded", "changed": ["log.level"], "log_level": "info"},
            {"event": "restart needed", "settings": waiting, "log_level": "warning"},
        ]
    with office.reloaded() as said:
        assert [(line["event"], line.get("changed")) for line in said] == [("reloaded", []), ("restart needed", None)]
    assert office.levels == ["debug", "debug"]
    office.write("")
    with office.reloaded() as said:
        assert [line["event"] for line in said] == ["reloaded"]


@pytest.mark.parametrize(
    "text",
    ["[log]\nlevel = 'loud'", "[logs]\nlevel = 'debug'", "no toml", "[amqp]\npassword_file = '/nonexistent'"],
    ids=["a value", "an unknown section", "no TOML", "a secret that cannot be read"],
)
def test_a_file_that_cannot_be_used_changes_nothing(office: Office, text: str) -> None:
    office.write(text)
    with office.reloaded() as said:
        ((line),) = said
        assert (line["event"], line["log_level"]) == ("not reloaded", "error")
        assert "canary" not in str(line)
    assert (office.levels, office.reloading.failed) == ([], True)
    office.write("[log]\nlevel = 'debug'")
    with office.reloaded():
        assert (office.levels, office.reloading.failed) == (["debug"], False)


def test_a_file_that_is_gone_changes_nothing(office: Office) -> None:
    office.file.unlink()
    with office.reloaded() as said:
        assert "no such file" in said[0]["reason"]


def test_systemd_is_told_when_it_begins_and_when_it_is_over(office: Office) -> None:
    for text in ("", "no toml"):
        office.write(text)
        office.told.clear()
        with office.reloaded():
            (begun, (over,)) = office.told
        assert (begun[0], over) == ("RELOADING=1", "READY=1")
        assert begun[1].removeprefix("MONOTONIC_USEC=").isdigit()
