# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What every refusal owes its sender, and what it owes everybody else: nothing changed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agent_process import AgentProcess, Stack
from raw_client import RawClient
from storpool_commands.errors import ErrorCode, retry_class

READS = ("VolumesGet", "Volume", "VolumesList", "Snapshot", "SnapshotsList", "AttachmentsList", "ClientConfigWait")


@dataclass(frozen=True)
class Scene:
    """A stack, and a sender that keeps every message it gets."""

    stack: Stack
    raw: RawClient
    secrets: tuple[str, ...]
    """What must appear nowhere."""

    def send(self, command: Mapping[str, Any], **envelope: Any) -> dict[str, Any]:
        """The reply to a command."""
        return self.raw.reply(self.raw.ask(command, **envelope))


@contextmanager
def nothing_changes(stack: Stack, *, undone: bool = False) -> Iterator[None]:
    """StorPool has what it had, and was asked to change nothing; `undone`: or it was changed back."""
    before = _picture(stack)
    seen = len(stack.storpool.sim.requests())
    yield
    after = _picture(stack)
    assert after == before, f"{before} became {after}"
    changes = [one["query"] for one in stack.storpool.sim.requests()[seen:] if one["method"] == "POST"]
    assert undone or not changes, changes


def refused(
    reply: Mapping[str, Any],
    code: ErrorCode,
    *,
    says: tuple[str, ...] = (),
    facts: Mapping[str, Any] | None = None,
    side_effects: str = "none",
    hosts: tuple[str, ...] = ("kvm1",),
) -> None:
    """The reply is this failure, in full: the class of its retry, its side effects, and words for a person."""
    assert (reply["status"], reply.get("code")) == ("failure", code), reply
    assert (reply["retry"], reply["sideEffects"]) == (retry_class(code), side_effects), reply
    assert reply["host"] in hosts, reply
    assert not [word for word in says if word not in reply["message"]], reply
    assert {key: reply["facts"].get(key) for key in facts or {}} == dict(facts or {}), reply


def assert_kept_secret(secrets: tuple[str, ...], raw: RawClient, agent: AgentProcess) -> None:
    """Neither the bus, nor the log, nor the journal has them."""
    files = [agent.log_file, *agent.state_dir.glob("journal.db*")]
    said = [file.read_bytes() for file in files] + [one.body for one in raw.received]
    found = [secret for secret in secrets for text in said if secret.encode() in text]
    assert not found, "a secret is in a reply, the log or the journal"


def _picture(stack: Stack) -> dict[str, Any]:
    state = stack.storpool.sim.state()
    return {key: state[key] for key in ("volumes", "attachments", "clients")}
