# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How this host reaches its cluster and its pools: the settings over StorPool's own configuration of the host."""

from dataclasses import dataclass

from pydantic import SecretStr

from storpool_agent.secret_files import read_secret
from storpool_agent.settings import Pool, SettingsInvalid, StorPool
from storpool_agent.storpool_conf import ConfError, read_conf


@dataclass(frozen=True)
class StorPoolAccess:
    """How this host reaches its cluster."""

    api: str
    token: SecretStr
    our_id: int
    cluster_id: str | None


def storpool_access(storpool: StorPool) -> StorPoolAccess:
    """The settings over StorPool's own configuration of the host. Raises SettingsInvalid for what neither has."""
    try:
        conf = read_conf()
    except ConfError as error:
        raise SettingsInvalid(str(error)) from error
    token = storpool.token or (read_secret(storpool.token_file) if storpool.token_file else conf.token)
    our_id = storpool.our_id or conf.our_id
    if token is None:
        raise SettingsInvalid("storpool.token_file is not set, and /etc/storpool.conf has no SP_AUTH_TOKEN")
    if our_id is None:
        raise SettingsInvalid("storpool.our_id is not set, and /etc/storpool.conf has no SP_OURID for this host")
    return StorPoolAccess(storpool.api or conf.api, token, our_id, storpool.cluster_id or conf.cluster_id)


def pool_token(name: str, pool: Pool) -> SecretStr:
    """Raises SettingsInvalid."""
    token = pool.token or (read_secret(pool.token_file) if pool.token_file else None)
    if token is None or not token.get_secret_value():
        raise SettingsInvalid(f"pools.{name}: neither token_file nor token is set, or it is empty")
    return token
