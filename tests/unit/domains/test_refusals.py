# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What libvirt 9.0 and QEMU 7.2 say, word for word, and what the agent makes of it."""

import libvirt
import pytest

from storpool_agent.domains import refusals
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

QEMU = "internal error: unable to execute QEMU command "
SAID: list[tuple[int, int, str, type[AgentError]]] = [
    (42, 10, "Domain not found: no domain with matching uuid '269f' (vm)", VmNotFound),
    (55, 20, "Requested operation is not valid: domain is not running", VmNotRunning),
    (55, 10, "Requested operation is not valid: target vdb already exists", TargetTaken),
    (1, 20, "internal error: No more available PCI slots", NoHotplugSlot),
    (1, 10, QEMU + "'device_add': Failed to get \"write\" lock", DiskInUseByVm),
    (1, 10, QEMU + "'block_resize': Cannot grow device files", GuestNotNotified),
    (8, 10, "invalid argument: disk '/dev/x' was not found in the domain config", GuestNotNotified),
    (1, 10, QEMU + "'block_resize': Device '(null)' is in use", VmBusy),
    (68, 10, "Timed out during operation: cannot acquire state change lock (held by monitor=x)", VmBusy),
    (83, 10, "block copy still active: disk 'vdb' already in active block job", VmBusy),
    (83, 10, "block copy still active: block job 'copy-vda-libvirt-1-format' not ready for pivot yet", VmBusy),
    (55, 10, "Requested operation is not valid: block job on disk 'vda' is still being ended", VmBusy),
    (1, 10, QEMU + "'blockdev-mirror': Failed to get \"write\" lock", DiskInUseByVm),
    (1, 10, QEMU + "'blockdev-add': Could not open '/x': No such file or directory", LibvirtRefused),
    (67, 20, "unsupported configuration: non unique alias detected: ua-a", DiskConflict),
    (1, 7, "internal error: connection closed due to keepalive timeout", LibvirtTimeout),
    (1, 7, "internal error: client socket is closed", LibvirtUnavailable),
    (38, 7, "Failed to connect socket to '/run/libvirt-sock': No such file or directory", LibvirtUnavailable),
    (9, 0, "operation failed: something new", LibvirtRefused),
]


def said(number: int, domain: int, text: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError("call failed")
    error.err = (number, domain, text)
    return error


@pytest.mark.parametrize(("number", "domain", "text", "refusal"), SAID, ids=[text for _, _, text, _ in SAID])
def test_libvirts_words_become_ours(number: int, domain: int, text: str, refusal: type[AgentError]) -> None:
    ours = refusals.translated(said(number, domain, text), vm="u")
    assert type(ours) is refusal
    assert text in str(ours)
    assert ours.facts["vm"] == "u"


def test_what_has_no_code_of_its_own_keeps_number_and_text() -> None:
    ours = refusals.translated(said(9, 0, "operation failed: something new"))
    assert ours.facts == {"number": 9, "text": "operation failed: something new"}


@pytest.mark.parametrize(
    "error",
    [
        said(1, 20, "internal error: no device found with alias ua-1"),
        said(99, 10, "device not found: no target device vdz"),
        said(9, 10, "operation failed: disk vdb not found"),
    ],
    ids=["by alias", "by target", "by an older libvirt"],
)
def test_a_device_that_is_gone_is_known_as_such(error: libvirt.libvirtError) -> None:
    assert refusals.no_such_device(error)


@pytest.mark.parametrize(
    "text",
    [
        "Device ua-1 is already in the process of unplug",
        "Hot-unplug failed: guest is busy (power indicator blinking)",
    ],
)
def test_a_guest_that_has_been_asked_is_known_as_such(text: str) -> None:
    assert refusals.asked_already(said(1, 10, f"{QEMU}'device_del': {text}"))
    assert not refusals.no_such_device(said(1, 10, text))
