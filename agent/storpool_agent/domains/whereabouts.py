# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How a machine stands on one host, by whichever connection to that host's libvirt.

Facts as of libvirt 9.0. A job that comes in has no statistics, and libvirt says so in an error of its own; a machine
whose migration has come to its end has no job, on either side.
"""

import libvirt

from storpool_agent.deadline import Deadline
from storpool_agent.domains.access import Access
from storpool_agent.domains.model import Presence, Sent, Standing
from storpool_agent.domains.refusals import text_of
from storpool_agent.errors import VmNotFound
from storpool_agent.migration_errors import MigrationUnknown

_RUNNING = {
    libvirt.VIR_DOMAIN_RUNNING_BOOTED: "booted",
    libvirt.VIR_DOMAIN_RUNNING_MIGRATED: "migrated",
    libvirt.VIR_DOMAIN_RUNNING_UNPAUSED: "resumed",
    libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED: "its migration was given up",
}
_PAUSED = {
    libvirt.VIR_DOMAIN_PAUSED_USER: "paused",
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION: "paused by a migration",
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: "paused by an I/O error",
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: "being started",
    libvirt.VIR_DOMAIN_PAUSED_UNKNOWN: "paused, libvirt does not know why",
}
# As libvirt itself forgets a machine that has migrated: what is on disk may be the other host's, too.
_KEEP_FILES = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
_ARRIVES = "available only on the source host"
_ON = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_NOSTATE)


def at(connection: libvirt.virConnect, uuid: str) -> Presence:
    """Raises libvirtError, but not for a machine that is not there."""
    try:
        return of(connection.lookupByUUIDString(uuid))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Presence("absent")
        raise


def of(domain: libvirt.virDomain) -> Presence:
    """As `at`. The job is asked for first: a libvirtd that has just started answers that only when it has come to terms
    with the machine, which may end it or have it go on, and until then says of its state what it was."""
    try:
        if not domain.isActive():
            return Presence("off", "only its configuration is here")
        job = _job(domain)
        state, reason = domain.state()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Presence("absent")
        if _has_ended(error):
            return of(domain)
        raise
    return of(domain) if state == libvirt.VIR_DOMAIN_SHUTOFF else _presence(state, reason, job)


def here(access: Access, uuid: str, deadline: Deadline) -> Presence:
    """On this host. Raises AgentErrors of libvirt's."""
    try:
        with access.calls.turn(uuid, deadline):
            return access.call(uuid, of, deadline)
    except VmNotFound:
        return Presence("absent")


def resume(domain: libvirt.virDomain) -> None:
    """Have it go on, if it stands still. Raises libvirtError."""
    if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()


def remove(domain: libvirt.virDomain) -> None:
    """End a machine that stands still, and forget its configuration here. Raises libvirtError, MigrationUnknown."""
    found = of(domain)
    if found.active:
        if found.standing != "paused":
            raise MigrationUnknown(
                f"{domain.name()} was to be removed while it stood still, and it is {found} by now",
                vm=domain.UUIDString(),
                standing=str(found),
            )
        persistent = domain.isPersistent()
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if _has_ended(error):
                remove(domain)
                return
            raise
        if not persistent:
            return
    if found.standing != "absent":
        domain.undefineFlags(_KEEP_FILES)


def sent(connection: libvirt.virConnect, uuid: str) -> Sent:
    """What the last migration of the machine has taken, as the host knows that it came to."""
    stats = connection.lookupByUUIDString(uuid).jobStats(
        libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
    )
    return Sent(
        memory_bytes=stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PROCESSED),
        downtime_ms=stats.get(libvirt.VIR_DOMAIN_JOB_DOWNTIME),
        total_ms=stats.get(libvirt.VIR_DOMAIN_JOB_TIME_ELAPSED),
    )


def _has_ended(error: libvirt.libvirtError) -> bool:
    """The machine did, between two questions; one without a configuration here is forgotten with it."""
    code = error.get_error_code()
    return code == libvirt.VIR_ERR_NO_DOMAIN or (
        code == libvirt.VIR_ERR_OPERATION_INVALID and "not running" in text_of(error)
    )


def _job(domain: libvirt.virDomain) -> Standing | None:
    """Which migration of it is under way."""
    try:
        stats = domain.jobStats()
    except libvirt.libvirtError as error:
        if _ARRIVES in text_of(error):
            return "arriving"
        raise
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    operation = stats.get(libvirt.VIR_DOMAIN_JOB_OPERATION)
    if operation == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN:
        return "arriving"
    return "leaving" if operation == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT else None


def _presence(state: int, reason: int, job: Standing | None) -> Presence:
    why = (_RUNNING if state in _ON else _PAUSED).get(reason, f"libvirt's state {state}, reason {reason}")
    if job is not None:
        return Presence(job, why)
    if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_STARTING_UP:
        return Presence("arriving", why)
    if state in _ON:
        return Presence("running", why)
    by_migration = state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_MIGRATION
    return Presence("paused", why, by_migration)
