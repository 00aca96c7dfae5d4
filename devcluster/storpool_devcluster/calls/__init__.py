# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The calls of the API, one module a family. A new call is one line in its module's QUERIES."""

from typing import Any

from storpool_devcluster.calls import (
    attachments,
    clients,
    exports,
    groups,
    services,
    snapshots,
    templates,
    volume_reads,
    volumes,
)
from storpool_devcluster.calls.call import Query

_FAMILIES = (volumes, volume_reads, snapshots, groups, exports, attachments, clients, services, templates)

QUERIES: dict[str, Query[Any]] = {query.name: query for family in _FAMILIES for query in family.QUERIES}
