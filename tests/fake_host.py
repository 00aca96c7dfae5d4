# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A host of fakes that keep state and obey the real rules, over a real journal, for tests of handlers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from fake_images import FakeImages
from fake_keys import FakeKeys
from fake_pools import FakePools
from fake_secondary import FakeSecondary
from fakes import FakeDevices, FakeStorPool
from fakes_domains import FakeDomains, FakeMachine
from storpool_agent import dispatch
from storpool_agent.attempt import Attempt
from storpool_agent.dry_run.attempt import DryAttempt
from storpool_agent.dry_run.host import dry
from storpool_agent.host import Host
from storpool_agent.journal.journal import Arrival, Journal
from storpool_commands.catalogue import Command
from storpool_commands.envelope import Failure, Request, Success


@dataclass
class FakeHost:
    """Runs commands one by one, as the agent would."""

    journal: Journal
    directory: Path = Path("/nonexistent")
    """For the files of secondary storage, of those that copy anything."""
    storpool: FakeStorPool = field(default_factory=FakeStorPool)
    domains: FakeDomains = field(default_factory=FakeDomains)

    def __post_init__(self) -> None:
        self.devices = FakeDevices(self.storpool)
        self.pools = FakePools(self.storpool)
        self.images = FakeImages()
        self.secondary = FakeSecondary(self.directory)
        self.keys = FakeKeys()
        self.host = Host(
            "kvm1", self.storpool, self.devices, self.domains, self.pools, self.images, self.secondary, self.keys
        )

    def run(self, command: Command, *, request_id: UUID | None = None, attempt: int = 1) -> Success | Failure:
        request = Request(id=request_id or uuid4(), protocol=1, body=command)
        if attempt == 1:
            self.journal.accept([Arrival(str(request.id), command.command, b"", None, None)])
        return dispatch.execute(request, self.host, Attempt(request, self.journal, attempt))

    def plan(self, command: Command) -> Success | Failure:
        """Run it as a request with dryRun."""
        request = Request(id=uuid4(), protocol=1, dry_run=True, body=command)
        return dispatch.execute(request, dry(self.host), DryAttempt(request, self.journal, 1))

    def succeed(self, command: Command) -> Any:
        reply = self.run(command)
        assert isinstance(reply, Success), reply
        return reply.result

    def fail(self, command: Command) -> Failure:
        reply = self.run(command)
        assert isinstance(reply, Failure), reply
        return reply

    def machine(self, **settings: Any) -> FakeMachine:
        machine = FakeMachine(f"vm-{len(self.domains.machines)}", **settings)
        self.domains.add(machine)
        return machine
