# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A machine that changes between two questions about it. libvirt here is a list of what it is at each."""

from dataclasses import dataclass, field
from typing import cast

import libvirt
import pytest

from storpool_agent.domains import whereabouts
from storpool_agent.domains.model import Presence
from storpool_agent.migration_errors import MigrationUnknown

VM = "00000000-0000-0000-0000-000000000001"
RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED)
SENT = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
OFF = (libvirt.VIR_DOMAIN_SHUTOFF, 0)
State = tuple[int, int]


@dataclass
class Reconnecting:
    """A libvirtd that has just started says `before`; its first question to QEMU is answered when it has made `after`
    of it. None: the machine is gone altogether."""

    before: State
    after: State | None
    persistent: bool = True
    settles_at: str = "jobStats"
    now: State | None = field(init=False)
    undefined: bool = False

    def __post_init__(self) -> None:
        self.now = self.before

    def name(self) -> str:
        return "vm"

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's
        return VM

    def isActive(self) -> bool:  # noqa: N802 - libvirt's
        return self._known() != OFF

    def isPersistent(self) -> bool:  # noqa: N802 - libvirt's
        return self.persistent

    def state(self) -> State:
        return self._known()

    def jobStats(self) -> dict[str, int]:  # noqa: N802 - libvirt's
        self._settle("jobStats")
        self._refuse_when_off()
        return {"type": libvirt.VIR_DOMAIN_JOB_NONE}

    def destroy(self) -> None:
        self._settle("destroy")
        self._refuse_when_off()
        self.now = OFF if self.persistent else None

    def undefineFlags(self, _flags: int) -> None:  # noqa: N802 - libvirt's
        self._known()
        self.undefined = True

    def _settle(self, question: str) -> None:
        if question == self.settles_at:
            self.now = self.after

    def _known(self) -> State:
        if self.now is None:
            raise refusal(libvirt.VIR_ERR_NO_DOMAIN, "no domain with matching uuid")
        return self.now

    def _refuse_when_off(self) -> None:
        if self._known() == OFF:
            raise refusal(libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running")


def refusal(code: int, text: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError("call failed")
    error.err = (code, 10, text)
    return error


def domain(reconnecting: Reconnecting) -> libvirt.virDomain:
    return cast(libvirt.virDomain, reconnecting)


@pytest.mark.parametrize(
    ("after", "seen"),
    [
        (RUNNING, Presence("running", "its migration was given up")),
        (SENT, Presence("paused", "paused by a migration", by_migration=True)),
        (OFF, Presence("off", "only its configuration is here")),
        (None, Presence("absent")),
    ],
    ids=str,
)
def test_how_it_stands_is_said_as_it_is_once_libvirtd_has_come_to_terms_with_it(
    after: State | None, seen: Presence
) -> None:
    assert whereabouts.of(domain(Reconnecting(SENT, after))) == seen


@pytest.mark.parametrize("settles_at", ["jobStats", "destroy"])
@pytest.mark.parametrize(("persistent", "after"), [(True, OFF), (False, None)], ids=["persistent", "transient"])
def test_one_that_libvirtd_ends_meanwhile_is_removed_all_the_same(
    settles_at: str, persistent: bool, after: State | None
) -> None:
    ending = Reconnecting(SENT, after, persistent, settles_at)
    whereabouts.remove(domain(ending))
    assert ending.undefined == persistent


def test_one_that_libvirtd_has_going_on_meanwhile_is_not_removed() -> None:
    going_on = Reconnecting(SENT, RUNNING)
    with pytest.raises(MigrationUnknown, match="running"):
        whereabouts.remove(domain(going_on))
    assert (going_on.now, going_on.undefined) == (RUNNING, False)


def test_what_stands_still_is_removed() -> None:
    still = Reconnecting(SENT, SENT)
    whereabouts.remove(domain(still))
    assert (still.now, still.undefined) == (OFF, True)
