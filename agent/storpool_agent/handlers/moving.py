# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What all migrations of a volume end with."""

from typing import Literal

from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.handlers.copying import API_TIMEOUT_S
from storpool_agent.host import Host, Pool
from storpool_agent.storpool.model import Volume
from storpool_commands.copies import MigratedVolume, MigrateVolume
from storpool_commands.images import StoredImage
from storpool_commands.references import ID_DIRECTORY

Method = Literal["inPlace", "copyInStorPool", "offline", "live"]
KIND = "volume"


def delete_source(command: MigrateVolume, volume: Volume | None, pool: Pool, attempt: Attempt) -> None:
    """The volume whose contents have moved. Refused while it is attached anywhere."""
    if command.delete_source:
        with attempt.step("delete", changes=True, always=True) as step:
            if volume is None:
                step.earlier()
            else:
                pool.storpool.delete_volume(volume, Deadline.after(API_TIMEOUT_S))


def remove_source(file: StoredImage, host: Host, attempt: Attempt) -> None:
    """The file whose contents have moved."""
    with attempt.step("delete", changes=True, always=True):
        host.secondary.remove(file.store, file.path)


def at_storpool(method: Method, volume: Volume, *, source_deleted: bool = False) -> MigratedVolume:
    """As results show it."""
    return MigratedVolume(
        method=method,
        volume=volume.global_id,
        path=f"{ID_DIRECTORY}{volume.global_id}",
        size_bytes=volume.size_bytes,
        source_deleted=source_deleted,
        virtual_size_bytes=volume.size_bytes,
        block_hash=None,
        copies=0,
    )
