# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The unit is one that systemd takes, and keeps what the agent counts on; the example has every setting."""

import configparser
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from storpool_agent import app, cli, liveness
from storpool_agent.settings import Pool, Secondary, Settings, load
from storpool_agent.stop import RELOAD_SIGNAL

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "storpool-agent.service"
EXAMPLE = SYSTEMD / "agent.toml.example"
VERIFY_TIMEOUT_S = 30.0
SETTING = re.compile(r"^#(\w+ = .+|\[[\w.]+\])$", re.MULTILINE)
MOST_EXPOSED = 33
"""Ten times the level that systemd-analyze gives; the unit says why what is open has to be."""
HOST_NAME = "host"
"""The one setting whose default depends on the machine."""
EXAMPLE_POOL = "fast"
"""There are none by default."""
TABLES = {"allowed_publishers"}
"""Settings whose keys are the admin's."""


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    """A key that it does not know is a warning, and no error."""
    verified = analyze(tmp_path, "verify", "--man=no")
    assert (verified.returncode, about(UNIT.name, verified.stderr)) == (0, []), verified.stderr


def test_systemd_finds_no_more_open_than_the_unit_gives_reasons_for(tmp_path: Path) -> None:
    analyzed = analyze(tmp_path, "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}")
    assert analyzed.returncode == 0, analyzed.stdout


def test_a_stuck_loop_is_named_before_systemd_strikes() -> None:
    assert float(service()["WatchdogSec"]) >= 3 * liveness.STUCK_S


def test_a_reload_is_the_signal_that_the_agent_takes_for_one() -> None:
    assert service()["ExecReload"] == f"/bin/kill -{RELOAD_SIGNAL.name.removeprefix('SIG')} $MAINPID"


def test_what_is_mounted_below_the_runtime_directory_outlives_a_stop() -> None:
    mount_dir = Secondary.model_fields["mount_dir"].default
    assert mount_dir.is_relative_to(Path("/run") / service()["RuntimeDirectory"])
    assert service()["RuntimeDirectoryPreserve"] == "yes"


def test_systemd_waits_longer_than_the_agent_takes_to_stop() -> None:
    assert float(service()["TimeoutStopSec"]) > app.DRAIN_S + app.END_COPIES_S + 5 * app.FLUSH_S


def test_settings_that_cannot_be_used_are_not_tried_again() -> None:
    assert service()["RestartPreventExitStatus"] == str(cli.EX_CONFIG)


def test_the_state_is_where_the_agent_looks_for_it_and_for_root_alone() -> None:
    assert Path("/var/lib") / service()["StateDirectory"] == Settings.model_fields["state_dir"].default
    assert service()["StateDirectoryMode"] == "0700"


def test_the_example_as_it_stands_is_the_defaults() -> None:
    assert load(EXAMPLE) == Settings()


def test_the_example_has_every_setting_and_no_other() -> None:
    assert set(flat(shown())) == set(flat(defaults(Settings)))


def test_the_example_tells_the_defaults_as_they_are() -> None:
    told = flat(shown())
    having_one = {name: value for name, value in flat(defaults(Settings)).items() if value is not None}
    assert {name: told[name] for name in having_one if name != HOST_NAME} == {
        name: value for name, value in having_one.items() if name != HOST_NAME
    }


def test_the_example_loads_with_every_setting_set(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(uncommented().replace("amqp://", "amqps://"))  # certificates need TLS
    assert load(file).amqp.cert == Path("/etc/storpool-agent/agent.pem")


def analyze(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = directory / "storpool-agent"
    program.touch(mode=0o755)
    copy = directory / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/bin/storpool-agent", str(program)))
    return subprocess.run(
        ["systemd-analyze", *arguments, copy], capture_output=True, text=True, check=False, timeout=VERIFY_TIMEOUT_S
    )


def uncommented() -> str:
    return SETTING.sub(r"\1", EXAMPLE.read_text())


def shown() -> dict[str, Any]:
    return tomllib.loads(uncommented())


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """As TOML would have them."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name == "pools":
            found[name] = {EXAMPLE_POOL: dict.fromkeys(Pool.model_fields)}
        elif isinstance(field.default, BaseModel):
            found[name] = defaults(type(field.default))
        elif isinstance(field.default, SecretStr):
            found[name] = field.default.get_secret_value()
        else:
            found[name] = str(field.default) if isinstance(field.default, Path) else field.default
    return found


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """By `section.name`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        is_section = isinstance(value, dict) and name not in TABLES
        found |= {f"{name}.{key}": one for key, one in flat(value).items()} if is_section else {name: value}
    return found


def about(name: str, text: str) -> list[str]:
    """Lines of systemd-analyze on this unit: it also reads, and complains of, other units of the machine."""
    return [line for line in text.splitlines() if name in line]


def service() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return dict(parser["Service"])
