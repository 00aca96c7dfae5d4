# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Secrets are kept in files of their own: for root alone, or a credential that systemd hands over."""

import os
from pathlib import Path

from pydantic import SecretStr

from storpool_agent.settings import SettingsInvalid


def read_secret(path: Path) -> SecretStr:
    """The first line of a file that nobody else may read, or of a credential. Raises SettingsInvalid."""
    file = secret_file(path)
    try:
        return SecretStr(file.read_text(encoding="utf-8").split("\n", 1)[0].strip())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{file}: {getattr(error, 'strerror', None) or 'not text in UTF-8'}") from None


def secret_file(path: Path) -> Path:
    """Where a secret is: a name alone is a credential that systemd hands over (LoadCredential=).

    Raises SettingsInvalid for one that others may read. systemd makes credentials for the unit's user alone; since
    version 254 with the mode 0440, whose group is root's.
    """
    handed_over = credentials_directory()
    if not path.is_absolute() and (len(path.parts) != 1 or handed_over is None):
        raise SettingsInvalid(f"{path}: no absolute path, and systemd has handed over no such credential")
    file = (handed_over or Path("/")) / path
    forbidden = 0o007 if file.parent == handed_over else 0o077
    try:
        if file.stat().st_mode & forbidden:
            raise SettingsInvalid(f"{file}: others may read it; chmod 600 it")
    except OSError as error:
        raise SettingsInvalid(f"{file}: {error.strerror}") from error
    return file


def credentials_directory() -> Path | None:
    """Where systemd has put what LoadCredential= names; None: there is no such line, or no systemd."""
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(handed_over) if handed_over else None
