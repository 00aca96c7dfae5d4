# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The fake machines keep the contract that libvirt's are held to."""

from itertools import count

import pytest

from domains_contract import DEVICE_BYTES, DomainsContract, Lab
from fakes_domains import FakeDomains, FakeMachine
from storpool_agent.domains.model import Domain
from storpool_agent.host import Domains


class FakeLab:
    def __init__(self) -> None:
        self.fake = FakeDomains()
        self.domains: Domains = self.fake
        self.told: list[str | None] = []
        self.fake.on_disks_changed(self.told.append)
        self._numbers = count()

    def machine(
        self, *, running: bool = True, persistent: bool = True, answers: bool = False, slots: int = 4
    ) -> Domain:
        machine = FakeMachine(f"vm-{next(self._numbers)}", running=running, persistent=persistent, slots=slots)
        machine.answers = answers
        return self.fake.add(machine)

    def guest_with_agent(self, *, file_system: bool = True) -> Domain:
        return self.fake.add(FakeMachine(f"vm-{next(self._numbers)}", guest_agent=True, freezable=file_system))

    def stop_agent(self, machine: Domain) -> None:
        self.fake.machines[machine.uuid].guest_agent = False

    def device(self, size_bytes: int = DEVICE_BYTES) -> str:
        path = f"/dev/storpool/volume-{next(self._numbers)}"
        self.fake.sizes[path] = size_bytes
        return path

    def encrypted(self, passphrase: bytes) -> str:
        return self.device()

    def other_path(self, device: str) -> str:
        other = f"/dev/sp-{next(self._numbers)}"
        self.fake.links[other] = device
        self.fake.sizes[other] = self.fake.sizes[device]
        return other

    def grow(self, device: str, size_bytes: int) -> None:
        self.fake.sizes[device] = size_bytes

    def silence(self, machine: Domain) -> None:
        self.fake.machines[machine.uuid].answers = False

    def wake(self, machine: Domain) -> None:
        self.fake.machines[machine.uuid].answers = True
        self.fake.let_go(machine.uuid)

    def end(self, machine: Domain) -> None:
        self.fake.stop(machine.uuid)


@pytest.fixture
def lab() -> Lab:
    return FakeLab()


class TestFakeDomains(DomainsContract):
    pass
