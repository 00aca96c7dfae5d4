# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tags that StorPool's tools and the management plane know objects by."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from storpool_commands.wire import Label, TagName, TagValue, WireModel

Tags = Annotated[dict[TagName, TagValue], Field(max_length=64)]
DiskId = Annotated[int, Field(ge=0, le=9999)]

UUID, KIND, VM, POLICY, TIER, DISK = "uuid", "cs", "cvm", "vc-policy", "qc", "disk"
"""The names of the tags, as StorPool's plugin for Apache CloudStack has set them since 2018: whoever looks for
them finds the objects of both."""

OPERATION = "sp-op"
"""The agent's own: the id of the request that made the object."""

WRITING = "sp-writing"
"""The agent's own: the id of the request that is still writing the volume. Nobody attaches it until then."""

LUKS = "sp-luks"
"""The agent's own: the volume is encrypted, or is to be; and so is what was made of it. The tag says so, never what is
in the volume: a guest can write a header, too."""

NEW, FORMATTING, LUKS1 = "new", "formatting", "luks1"
"""The values of `sp-luks`: encryptVolume is to format it; it has begun to; there is a header, and a key opens it."""


def is_own(tag: str) -> bool:
    """The agent relies on it: no command may set or remove it."""
    return tag in {OPERATION, WRITING, LUKS} or tag.startswith(f"{OPERATION}-")


class VmLabels(WireModel):
    """What a disk of a virtual machine is labelled with while the machine has it."""

    vc_policy: Label | None = None
    """The machine's VolumeCare policy (tag `vc-policy`)."""
    tier: Label | None = None
    """A tier of the service storpool_qos (tag `qc`), which then sets the volume's limits within its period."""
    disk_id: DiskId | None = None
    """The place of the disk in its machine, 0 for the one it boots from (tag `disk`)."""

    def vm_tags(self, vm_uuid: str | None) -> dict[str, str]:
        """The tags that are given, by their names at StorPool."""
        disk = None if self.disk_id is None else str(self.disk_id)
        given = {VM: vm_uuid, POLICY: self.vc_policy, TIER: self.tier, DISK: disk}
        return {name: value for name, value in given.items() if value is not None}


class Labels(VmLabels):
    """What an object that is to be made is labelled with."""

    uuid: Label | None = None
    """What the management plane knows the object by (tag `uuid`)."""
    vm_uuid: Label | None = None
    """The machine that it is for (tag `cvm`)."""
    tags: Tags = {}
    """Any others."""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if own := sorted(filter(is_own, self.tags)):
            raise ValueError(f"the tag {own[0]} is the agent's own")
        if twice := sorted(self.tags.keys() & self._named().keys()):
            raise ValueError(f"the tag {twice[0]} has a field of its own; give it once")
        if not all(self.tags.values()):
            raise ValueError("a tag of a new object has a value")
        return self

    def all_tags(self, kind: str) -> dict[str, str]:
        """The tags of a new object; `kind` is the value of the tag `cs` unless `tags` has another."""
        return {KIND: kind, **self.tags, **self._named()}

    def _named(self) -> dict[str, str]:
        return {**({} if self.uuid is None else {UUID: self.uuid}), **self.vm_tags(self.vm_uuid)}
