# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Members that several requests share."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from storpool_devcluster.calls.call import Body
from storpool_devcluster.names import PlacementName, Seconds, Tags
from storpool_devcluster.records import Policy

LimitInput = Annotated[int, Field(ge=0)] | Literal["-"]
Replication = Annotated[int, Field(ge=1, le=3)]
OnAttached = Literal["fail", "detach", "detachForce", "export"]


class PolicyBody(Body):
    place_all: PlacementName | None = None
    place_tail: PlacementName | None = None
    place_head: PlacementName | None = None
    replication: Replication | Literal["-"] | None = None
    bw: LimitInput | None = None
    iops: LimitInput | None = None
    limit_type: Literal["total", "perGiB"] | None = None
    reuse_server: bool | None = None
    tags: Tags = Field(default_factory=dict)

    def policy_over(self, policy: Policy) -> Policy:
        """What was asked for, the rest as before."""
        wanted: dict[str, Any] = {
            "place_all": self.place_all,
            "place_tail": self.place_tail,
            "place_head": self.place_head,
            "replication": self.replication,
            "bw": self.bw,
            "iops": self.iops,
            "limit_type": self.limit_type,
            "reuse_server": self.reuse_server,
        }
        return replace(policy, **{key: value for key, value in wanted.items() if value is not None})


class Appointment(Body):
    """When a snapshot is to be deleted by itself; 0 means never."""

    target_delete_date: Seconds | None = None
    delete_after: Seconds | None = None

    def delete_at_s(self, now_s: int, before: int = 0) -> int:
        if self.delete_after is not None:
            return now_s + self.delete_after if self.delete_after else 0
        return before if self.target_delete_date is None else self.target_delete_date


def merged_tags(tags: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    """Tags that are not named stay; an empty value removes one."""
    return {key: value for key, value in (tags | changes).items() if value}
