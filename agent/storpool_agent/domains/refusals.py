# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""libvirt's errors in the agent's words.

libvirt reports most of what QEMU says under one number (internal error), so that the text has to tell. Texts as
of libvirt 9.0 with QEMU 7.2.
"""

import libvirt

from storpool_agent.encryption_errors import WrongKey
from storpool_agent.errors import (
    AgentError,
    DiskConflict,
    DiskInUseByVm,
    GuestNotNotified,
    LibvirtRefused,
    LibvirtTimeout,
    LibvirtUnavailable,
    NoHotplugSlot,
    TargetTaken,
    VmBusy,
    VmNotFound,
    VmNotRunning,
)
from storpool_commands.wire import Fact

_BY_NUMBER: dict[int | None, type[AgentError]] = {
    libvirt.VIR_ERR_NO_DOMAIN: VmNotFound,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: VmBusy,  # "cannot acquire state change lock (held by ...)"
    libvirt.VIR_ERR_BLOCK_COPY_ACTIVE: VmBusy,
}
_BY_TEXT: tuple[tuple[str, type[AgentError]], ...] = (
    ("Invalid password, cannot unlock any keyslot", WrongKey),
    ("domain is not running", VmNotRunning),
    ("already exists", TargetTaken),  # "target vdb already exists"
    ("No more available PCI", NoHotplugSlot),
    ("no more available PCI", NoHotplugSlot),
    ('Failed to get "write" lock', DiskInUseByVm),  # QEMU's own lock: the opener is a QEMU or qemu-img
    ('Failed to get shared "write" lock', DiskInUseByVm),
    ("Cannot grow device files", GuestNotNotified),  # the host's device is smaller than that
    ("was not found in the domain config", GuestNotNotified),
    ("' is in use", VmBusy),  # "Device '(null)' is in use": a block job
    ("block job", VmBusy),
    ("non unique alias", DiskConflict),
)
_NO_SUCH_DEVICE = ("no device found with alias", "device not found", "DeviceNotFound", " not found")
_ASKED_ALREADY = ("already in the process of unplug", "guest is busy", "power indicator")


def translated(error: libvirt.libvirtError, **facts: Fact) -> AgentError:
    """The agent's error for one of libvirt."""
    text = f"libvirt: {text_of(error)}"
    if connection_lost(error):
        return LibvirtTimeout(text, **facts) if "keepalive" in text else LibvirtUnavailable(text, **facts)
    refusal = _BY_NUMBER.get(error.get_error_code())
    if refusal is None:
        refusal = next((named for fragment, named in _BY_TEXT if fragment in text), None)
    if refusal is None:
        return LibvirtRefused(text, **facts, number=error.get_error_code(), text=text_of(error))
    return refusal(text, **facts)


def connection_lost(error: libvirt.libvirtError) -> bool:
    """It is about the connection, not about what was asked."""
    return error.get_error_domain() == libvirt.VIR_FROM_RPC or error.get_error_code() == libvirt.VIR_ERR_NO_CONNECT


def no_such_device(error: libvirt.libvirtError) -> bool:
    """The device that was to be taken out is not there (by alias libvirt says so as an internal error)."""
    if error.get_error_code() == libvirt.VIR_ERR_DEVICE_MISSING:
        return True
    return any(fragment in text_of(error) for fragment in _NO_SUCH_DEVICE)


def asked_already(error: libvirt.libvirtError) -> bool:
    """The guest has been asked to let go before, or cannot be asked just now (it has just been given the disk)."""
    return any(fragment in text_of(error) for fragment in _ASKED_ALREADY)


def text_of(error: libvirt.libvirtError) -> str:
    """What libvirt says, without what libvirt-python puts around it."""
    return error.get_error_message() or str(error)
