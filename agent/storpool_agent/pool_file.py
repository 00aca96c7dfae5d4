# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The storage pools that were added by command, with their tokens, in a file that the agent alone may read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationError, field_serializer

from storpool_agent.errors import JournalUnavailable
from storpool_agent.settings import SettingsInvalid
from storpool_agent.storpool.address import Address
from storpool_commands.wire import ClusterId, PoolName, TemplateName

DIRECTORY = "pools"
NAME = "added.json"
_NEXT = "added.json.next"
"""Becomes the file by its rename; one that is found is of a write that the agent did not survive."""


class KeptPool(BaseModel):
    """One pool as it is kept. The only place where a token is written."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api: Annotated[str, AfterValidator(lambda text: str(Address.parse(text)))]
    template: TemplateName
    cluster_id: ClusterId | None
    token: SecretStr

    @field_serializer("token", when_used="json")
    def _token(self, token: SecretStr) -> str:
        return token.get_secret_value()


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    version: Literal[1] = 1
    pools: dict[PoolName, KeptPool]


class PoolFile:
    """Replaced as a whole, so that it is always the old one or the new one. One thread at a time may use it."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / DIRECTORY
        self._file = self._directory / NAME

    def read(self) -> dict[str, KeptPool]:
        """Nothing when there never was one. Raises SettingsInvalid for one that is damaged or that others may read."""
        try:
            (self._directory / _NEXT).unlink(missing_ok=True)
            if not self._file.exists():
                return {}
            for path in (self._directory, self._file):
                _require_private(path)
            return _Content.model_validate_json(self._file.read_bytes()).pools
        except OSError as error:
            raise SettingsInvalid(f"{error.filename}: {error.strerror}") from error
        except ValidationError as error:
            where = error.errors(include_input=False, include_url=False, include_context=False)[0]["msg"]
            raise SettingsInvalid(
                f"{self._file}: it is damaged ({where}); move it away, start the agent, and add its pools again"
            ) from None

    def write(self, pools: Mapping[str, KeptPool]) -> None:
        """On the disk when it returns. Raises JournalUnavailable; then the pools of before are kept."""
        content = _Content(pools=dict(pools)).model_dump_json(indent=1).encode()
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            _require_private(self._directory)
            self._replace(content)
        except (OSError, SettingsInvalid) as error:
            raise JournalUnavailable(
                f"the pools cannot be written to {self._file}: {error}", path=str(self._file)
            ) from error

    def _replace(self, content: bytes) -> None:
        following = self._directory / _NEXT
        following.unlink(missing_ok=True)
        handle = os.open(following, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        following.replace(self._file)
        for directory in (self._directory, self._directory.parent):
            _sync(directory)


def _require_private(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        right = 700 if path.is_dir() else 600
        raise SettingsInvalid(
            f"{path}: others may read it, and it has tokens in it; chmod {right} it, and have the tokens changed"
        )


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
