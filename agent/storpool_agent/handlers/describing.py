# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""describeMachine: what another host has to have for a machine of this one."""

from storpool_agent import disk_paths
from storpool_agent.attempt import Attempt
from storpool_agent.deadline import Deadline
from storpool_agent.domains.model import MachineDisk
from storpool_agent.host import Host
from storpool_commands.migration import DescribedDisk, DescribedMachine, DescribeMachine, MachineState

LOOK_TIMEOUT_S = 30.0


def describe(command: DescribeMachine, host: Host, attempt: Attempt) -> DescribedMachine:
    """Changes nothing."""
    deadline = Deadline.after(LOOK_TIMEOUT_S)
    with attempt.step("machine"):
        seen = host.domains.portray(command.vm, deadline)
    with attempt.step("volumes"):
        disks = [_described(disk, host, deadline) for disk in seen.disks]
    state: MachineState = "stopped" if not seen.domain.running else "paused" if seen.paused else "running"
    return DescribedMachine(
        vm=seen.domain.uuid,
        name=seen.domain.name,
        state=state,
        persistent=seen.domain.persistent,
        cpu=seen.cpu,
        arch=seen.arch,
        machine_type=seen.machine_type,
        domain_type=seen.domain_type,
        memory_bytes=seen.memory_bytes,
        vcpus=seen.vcpus,
        disks=disks,
    )


def _described(disk: MachineDisk, host: Host, deadline: Deadline) -> DescribedDisk:
    return DescribedDisk(
        target=disk.target,
        global_id=disk_paths.global_id(host, disk.path, deadline) if disk.path else None,
        path=disk.path,
        format=disk.format,
        mode=disk.mode,
        encrypted=disk.encrypted,
        device=disk.device,
        cache=disk.cache,
    )
