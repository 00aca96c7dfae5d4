# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Freezing and thawing a guest's file systems through its agent (qemu-guest-agent).

Texts and numbers as of libvirt 9.0 with QEMU 7.2. libvirt first lets the agent prove that it listens, for at most
5 s, and then waits for the answer to the command itself without end, unless somebody has set a limit for that.
"""

import libvirt
import structlog

from storpool_agent.deadline import Deadline
from storpool_agent.domains.access import Access
from storpool_agent.domains.model import Domain
from storpool_agent.domains.refusals import connection_lost, text_of, translated
from storpool_agent.errors import (
    AgentError,
    GuestAgentUnavailable,
    GuestNotFrozen,
    LibvirtTimeout,
    VmNotFound,
)

_SILENT = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED)
_NOT_CONFIGURED = "agent is not configured"
_NOT_RUNNING = "domain is not running"
_IN_FROZEN_STATE = "agent is in frozen state"
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def freeze(access: Access, domain: Domain, deadline: Deadline) -> None:
    with access.guest_calls.turn(domain.uuid, deadline):
        if _prove_that_it_listens(access, domain, deadline):
            return
        try:
            frozen = access.guest_calls.make(domain.uuid, lambda vm: vm.fsFreeze(), deadline)
        except libvirt.libvirtError as error:
            raise _freeze_refused(error, domain) from error
    # The agent then is in thawed state (QEMU guest agent protocol reference, guest-fsfreeze-freeze).
    if frozen == 0:
        raise GuestNotFrozen(f"the guest of {domain.name} has no file system that can be frozen", vm=domain.uuid)


def thaw(access: Access, domain: Domain, deadline: Deadline) -> bool:
    with access.guest_calls.turn(domain.uuid, deadline):
        try:
            return access.guest_calls.make(domain.uuid, lambda vm: vm.fsThaw(), deadline) > 0
        except VmNotFound:
            return False
        except libvirt.libvirtError as error:
            if _NOT_RUNNING in text_of(error):
                return _refuse_paused(access, domain, deadline)
            if error.get_error_code() != libvirt.VIR_ERR_INTERNAL_ERROR:
                raise _unavailable(error, domain) from error
            # Windows ends a freeze by itself after 10 s, and its agent says so in an error of the thaw.
            log.debug("thaw refused", vm=domain.uuid, reason=text_of(error))
        try:
            access.guest_calls.make(domain.uuid, lambda vm: vm.fsThaw(), deadline)
        except libvirt.libvirtError as error:
            raise _unavailable(error, domain) from error
        return False


def _prove_that_it_listens(access: Access, domain: Domain, deadline: Deadline) -> bool:
    """By a question that changes nothing, so that its silence leaves no doubt. True if the guest is frozen already."""
    try:
        access.guest_calls.make(domain.uuid, lambda vm: vm.getTime(), deadline)
    except LibvirtTimeout as error:
        raise GuestAgentUnavailable(f"the agent of {domain.name} does not answer", vm=domain.uuid) from error
    except libvirt.libvirtError as error:
        if _IN_FROZEN_STATE in text_of(error):
            return True
        refusal = _unavailable(error, domain)
        if not isinstance(refusal, GuestAgentUnavailable) and error.get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR:
            return False  # the agent is there, and may not tell the time
        raise refusal from error
    return False


def _freeze_refused(error: libvirt.libvirtError, domain: Domain) -> AgentError:
    if error.get_error_code() in _SILENT:
        return LibvirtTimeout(
            f"the agent of {domain.name} went silent when it was to freeze the guest: {text_of(error)}", vm=domain.uuid
        )
    if error.get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR and not connection_lost(error):
        return GuestNotFrozen(f"the agent of {domain.name} did not freeze the guest: {text_of(error)}", vm=domain.uuid)
    return _unavailable(error, domain)


def _unavailable(error: libvirt.libvirtError, domain: Domain) -> AgentError:
    if error.get_error_code() in _SILENT or _NOT_CONFIGURED in text_of(error):
        return GuestAgentUnavailable(
            f"{domain.name}: {text_of(error)}; does qemu-guest-agent run in the guest, has the machine its channel?",
            vm=domain.uuid,
        )
    return translated(error, vm=domain.uuid)


def _refuse_paused(access: Access, domain: Domain, deadline: Deadline) -> bool:
    """libvirt calls a paused machine, whose guest may well be frozen, not running too."""
    found = access.read(domain.uuid, deadline)
    if found is not None and found.live is not None:
        raise GuestAgentUnavailable(f"{domain.name} is paused: its agent cannot thaw it; resume it", vm=domain.uuid)
    return False
