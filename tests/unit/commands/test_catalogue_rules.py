# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands on volumes, snapshots and tags refuse before an agent looks at anything."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from storpool_commands.catalogue import Command
from storpool_commands.volumes import CreateVolume

COMMAND: TypeAdapter[Any] = TypeAdapter(Command)
MIB = 1 << 20


def create(**fields: object) -> dict[str, object]:
    return {"command": "createVolume", "sizeBytes": MIB, "template": "dev", **fields}


def about(command: str, **fields: object) -> dict[str, object]:
    return {"command": command, "volume": "~d.n.a1", **fields}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(create(template=None), "give a template, or a pool", id="no template and no pool"),
        pytest.param(create(tier="gold", iops=5), "a tier sets the limits", id="a tier and a limit"),
        pytest.param(create(tier="gold", bandwidthKibSec=0), "a tier sets the limits", id="a tier and no limit"),
        pytest.param(create(tier=""), "String should match pattern", id="an empty tier of a new volume"),
        pytest.param(create(diskId=-1), "greater than or equal to 0", id="a disk below the first"),
        pytest.param(create(sizeBytes=MIB + 1), "multiple of 512", id="half a sector"),
        pytest.param(create(clusterId="d.n.a"), "String should match pattern", id="a global id as the cluster"),
        pytest.param(create(name="../etc"), "String should match pattern", id="a path as the name"),
        pytest.param(create(uuid="u", tags={"uuid": "v"}), "has a field of its own", id="a tag said twice"),
        pytest.param(create(tags={"x": ""}), "has a value", id="an empty tag of a new volume"),
        pytest.param(create(tags={"sp-op": "1"}), "the agent's own", id="the tag of the operation"),
        pytest.param(create(tags={"sp-op-revert": "1"}), "the agent's own", id="the tag of reverts"),
        pytest.param(create(tags={"sp-writing": "1"}), "the agent's own", id="the tag of a volume that is written"),
        pytest.param(about("deleteVolume", detachForce=True), "needs a reason", id="a forced delete for no reason"),
        pytest.param(about("deleteVolume", deleteAfterS=0), "greater than or equal to 1", id="kept for no time"),
        pytest.param(about("updateVolume"), "give iops", id="an update of nothing"),
        pytest.param(about("updateVolume", tier="gold", iops=1), "a tier sets the limits", id="an update of both"),
        pytest.param(about("updateVolume", iops="-"), "valid integer", id="StorPool's own spelling of no limit"),
        pytest.param(about("setQosTier"), "Field required", id="no tier"),
        pytest.param(about("revertSnapshot"), "Field required", id="no snapshot to revert to"),
        pytest.param(
            {"command": "deleteSnapshot", "snapshot": "~d.n.a1", "detachForce": True, "reason": ""},
            "at least 1 character",
            id="an empty reason",
        ),
        pytest.param(
            {"command": "deleteTemplate", "snapshot": "~d.n.a1", "detachForce": True, "reason": "x"},
            "Extra inputs",
            id="a template by force",
        ),
        pytest.param(
            {"command": "fenceVolumes", "volumes": ["~d.n.a1"], "confirmFenced": False, "reason": "x"},
            "Input should be True",
            id="a fence that nobody vouches for",
        ),
        pytest.param(
            {"command": "fenceVolumes", "volumes": [], "confirmFenced": True, "reason": "x"},
            "at least 1 item",
            id="a fence of nothing",
        ),
        pytest.param(
            {"command": "StorPoolCreateTagsCmd", "volumes": ["~d.n.a1"], "set": {"x": ""}},
            "String should match pattern",
            id="an empty tag set",
        ),
        pytest.param(
            {"command": "StorPoolCreateTagsCmd", "volumes": ["~d.n.a1"], "set": {"sp-op": "1"}},
            "the agent's own",
            id="the agent's tag set",
        ),
        pytest.param(
            {"command": "StorPoolDeleteTagsCmd", "volumes": ["~d.n.a1"], "remove": ["sp-op-reverting"]},
            "the agent's own",
            id="the agent's tag removed",
        ),
        pytest.param(
            {"command": "StorPoolDeleteTagsCmd", "volumes": ["~d.n.a1"], "remove": ["sp-writing"]},
            "the agent's own",
            id="a volume called complete that is written",
        ),
        pytest.param(
            about("connectPhysicalDisk", vcPolicy="daily"), "give vmUuid", id="a policy of a machine that is not named"
        ),
        pytest.param(
            {"command": "connectPhysicalDisk", "snapshot": "~d.n.a1", "vmUuid": "vm-1"},
            "no disk of a machine",
            id="a snapshot for a machine",
        ),
    ],
)
def test_it_is_refused_with_the_reason(body: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        COMMAND.validate_python(body)
    assert why in str(refusal.value)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(create(template=None, pool="fast"), id="a pool instead of a template"),
        pytest.param(create(iops=0), id="no limit, said"),
        pytest.param(create(tags={"sp-writings": "1", "sp-operator": "2"}), id="tags that only look like the agent's"),
        pytest.param(about("updateVolume", tier="", iops=5), id="limits in place of a tier"),
        pytest.param(
            about("deleteVolume", detachForce=True, reason="host is gone"), id="a forced delete with a reason"
        ),
    ],
)
def test_it_is_taken(body: dict[str, object]) -> None:
    assert COMMAND.validate_python(body).command == body["command"]


def test_the_tag_cs_may_be_another() -> None:
    command = CreateVolume(size_bytes=MIB, template="dev", vm_uuid="vm-1", disk_id=0, tags={"cs": "template"})
    assert command.all_tags("volume") == {"cs": "template", "cvm": "vm-1", "disk": "0"}
