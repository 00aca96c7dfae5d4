# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every setting as it takes effect, for people to look at."""

from typing import cast
from urllib.parse import urlsplit

from storpool_agent.broker_access import broker_address, login, tls_context
from storpool_agent.settings import Section, Settings, scratch_dir
from storpool_agent.storpool_access import pool_token, storpool_access


def effective(settings: Settings) -> dict[str, str]:
    """Every setting as `section.name`, secrets hidden. Raises SettingsInvalid for what could not be used."""
    access = storpool_access(settings.storpool)
    tls_context(settings.amqp)
    login(settings.amqp)
    host, port = broker_address(settings.amqp)
    found: dict[str, str] = {"host": settings.host, "state_dir": str(settings.state_dir)}
    found["control_socket"] = str(settings.control_socket)
    for section, values in settings:
        if isinstance(values, Section):
            found |= {f"{section}.{name}": _shown(value) for name, value in values}
    for name, pool in settings.pools.items():
        found |= {f"pools.{name}.{key}": _shown(value) for key, value in pool}
        found[f"pools.{name}.token"] = str(pool_token(name, pool))
    found["amqp.url"] = f"{urlsplit(settings.amqp.url.get_secret_value()).scheme}://{host}:{port}"
    found |= {"storpool.api": access.api, "storpool.our_id": str(access.our_id), "storpool.token": str(access.token)}
    found["storpool.cluster_id"] = _shown(access.cluster_id)
    found["secondary.scratch_dir"] = str(scratch_dir(settings))
    return found


def _shown(value: object) -> str:
    if isinstance(value, list):
        return str([str(each) for each in cast("list[object]", value)])
    return "" if value is None else str(value)
