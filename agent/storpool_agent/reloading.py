# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings that change while the agent runs (SIGHUP). A file that cannot be used changes nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import CLOCK_MONOTONIC, clock_gettime_ns

import structlog
from pydantic import BaseModel

from storpool_agent.effective import effective
from storpool_agent.notify import notify
from storpool_agent.settings import Settings, SettingsInvalid, load

log = structlog.get_logger()

Apply = Callable[[Settings], None]


class Reloading:
    """For the main thread."""

    def __init__(
        self, file: Path, settings: Settings, live: Mapping[str, Apply], tell: Callable[..., None] = notify
    ) -> None:
        """`live`: by its name, such as `log.level`, what puts a setting into effect. All others take a restart."""
        self._file = file
        self._started_with = settings
        self._present = settings
        self._live = live
        self._tell = tell
        self.failed = False
        """The file could not be used at the last reload."""

    def reload(self) -> None:
        """Read the file again, and put into effect what can be. systemd calls this state `reloading`."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")
        try:
            self._take(self._usable())
            self.failed = False
        except SettingsInvalid as error:
            self.failed = True
            log.error("not reloaded", reason=str(error))  # noqa: TRY400 - one line, for the admin
        finally:
            self._tell("READY=1")

    def _usable(self) -> Settings:
        """Also as far as only a restart would show it."""
        settings = load(self._file)
        effective(settings)
        return settings

    def _take(self, settings: Settings) -> None:
        changed = [name for name in differing(self._present, settings) if name in self._live]
        waiting = [name for name in differing(self._started_with, settings) if name not in self._live]
        for apply in self._live.values():
            apply(settings)
        self._present = settings
        log.info("reloaded", changed=changed)
        if waiting:
            log.warning("restart needed", settings=waiting)


def differing(before: BaseModel, after: BaseModel) -> list[str]:
    """The settings that are not the same, by name. Of a section of pools all is one."""
    found: list[str] = []
    for name in type(before).model_fields:
        one, other = getattr(before, name), getattr(after, name)
        if isinstance(one, BaseModel) and isinstance(other, BaseModel):
            found += [f"{name}.{inner}" for inner in differing(one, other)]
        elif one != other:
            found.append(name)
    return found
