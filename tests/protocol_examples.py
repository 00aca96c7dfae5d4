# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/protocol.md, sent to a real agent in the order in which they stand there.

`python -m protocol_examples` (`make protocol`) writes the replies that it gets into the document.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from agent_process import Stack, running_stack
from devcluster_process import DevclusterProcess, running_devcluster
from guest import Guest
from raw_client import RawClient, raw_client
from storpool_commands import catalogue, topology

DOCUMENT = Path(__file__).parents[1] / "docs" / "protocol.md"
EXAMPLE = re.compile(r"^```json\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
STORY = "## Commands\n"
"""What stands before it shows shapes of messages, and is not sent."""

MACHINE, MACHINE_UUID = "web-1", "e5f570c2-4e43-4630-b2e0-8657bee8bbc2"
TEMPLATE = "debian-12"
OWN_API = "10.0.0.1:81"
STORE = "nfs://10.0.0.6/secondary"
OTHER_API, OTHER_TOKEN = "10.0.0.5:81", "s3cret"
ANY_NODE = re.compile(r"/dev/sp-\d+")
ANY_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")

NOT_PLAYED = frozenset({"cancelCommand", "migrateVm", "finishMigration"})
"""What it answers depends on how far another request is; or it takes two hosts."""

PASSING = frozenset(
    {
        "tookMs",
        "time",
        "receivedAt",
        "version",
        "pid",
        "address",
        "realDevice",
        "libvirt",
        "libvirtVersion",
        "qemuVersion",
        "machineType",
        "qemu",
        "capacityBytes",
        "freeBytes",
        "fileSizeBytes",
        "finishedAt",
        "device",
        "process",
        "journal",
        "unsentReplies",
        "oldestUnsent",
        "luksUuid",
    }
)
"""Fields that are not the same in two runs."""


@dataclass(frozen=True)
class Example:
    """A request of the document, and where the reply that it shows is, or would be."""

    request: dict[str, Any]
    reply: dict[str, Any] | None
    at: tuple[int, int]


def examples(document: str) -> list[Example]:
    """Each request of the story, with the reply that follows it."""
    begin = document.index(STORY)
    blocks = [(json.loads(match[1]), match.span()) for match in EXAMPLE.finditer(document, begin)]
    found: list[Example] = []
    for number, (block, (_, end)) in enumerate(blocks):
        if "body" not in block or block["body"]["command"] in NOT_PLAYED:
            continue
        following, at = blocks[number + 1] if number + 1 < len(blocks) else ({}, (end, end))
        shown = following.get("status") is not None and following["id"] == block["id"]
        found.append(Example(block, following if shown else None, at if shown else (end, end)))
    return found


@contextmanager
def stage() -> Iterator["Stage"]:
    """An agent, its StorPool with a template and a volume that was left attached, a second StorPool, a machine."""
    with ExitStack() as parts:
        directory = Path(parts.enter_context(TemporaryDirectory(prefix="protocol-")))
        directory.chmod(0o755)  # QEMU enters it
        store = directory / "secondary"
        store.mkdir()
        secondary = {"directories": [str(store)], "mount_dir": str(directory / "mounts")}
        encryption = {"key_directory": str(directory), "iteration_ms": 100}
        key = directory / "vault1"
        key.touch(mode=0o600)
        key.write_text("correct horse battery staple")
        root, log = directory / "dev", {"level": "info"}
        stack = parts.enter_context(
            running_stack(device_root=root, log=log, secondary=secondary, encryption=encryption)
        )
        other = parts.enter_context(running_devcluster({1: None}, options=["--cluster-id", "e.f"]))
        origin = stack.storpool.create(2 << 30, template="dev")
        body = {"name": TEMPLATE, "tags": {"cs": "template"}}
        stack.storpool.call("POST", f"VolumeSnapshot/~{origin}", body)
        stack.storpool.attach(stack.storpool.create(1 << 30, template="dev", name="left1"))
        guest = parts.enter_context(Guest())
        client = parts.enter_context(raw_client(stack.amqp_url))
        yield Stage(stack, other, guest, client, store)


@dataclass(frozen=True)
class Stage:
    """Where the story is played; the names of the document stand for what is here."""

    stack: Stack
    other: DevclusterProcess
    guest: Guest
    client: RawClient
    store: Path
    """A directory in the place of an NFS server: the agent knows the difference, the document need not."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply, in the document's words."""
        command = request["body"]["command"]
        text = json.dumps(request)
        for ours, shown in self._names():
            text = text.replace(shown, ours)
        exchange = topology.COMMANDS if command in _names(catalogue.Command) else topology.CONTROL
        self.client.publish(text.encode(), exchange=exchange)
        reply = self.client.reply(request["id"])
        said = json.dumps({**reply, "steps": []} if not request.get("dryRun") else reply)
        for ours, shown in [*self._names(), (f"{self.stack.device_root}/", "/dev/")]:
            said = said.replace(ours, shown)
        return dict(json.loads(said))

    def _names(self) -> list[tuple[str, str]]:
        """What is called otherwise here, and how the document calls it."""
        return [
            (self.guest.uuid, MACHINE_UUID),
            (self.guest.name, MACHINE),
            (self.other.api, OTHER_API),
            (self.other.token, OTHER_TOKEN),
            (self.stack.storpool.api, OWN_API),
            (str(self.stack.agent.state_dir), "/var/lib/storpool-agent"),
            (f"file://{self.store}", STORE),
        ]


def lasting(value: Any) -> Any:
    """Without what differs from run to run."""
    if isinstance(value, dict):
        return {key: None if key in PASSING else lasting(each) for key, each in value.items()}
    if isinstance(value, list):
        return [lasting(each) for each in value]
    return ANY_NODE.sub("", ANY_TIME.sub("", value)) if isinstance(value, str) else value


def wrapped(message: dict[str, Any]) -> str:
    """JSON in lines of at most 118 columns, broken between members."""
    solid = re.sub(r'"(?:[^"\\]|\\.)*"(: )?', lambda match: match[0].replace(" ", "\0"), json.dumps(message))
    lines = textwrap.wrap(solid, 118, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def rewrite() -> None:
    """Play the story and write what was said; what is as it was but for passing fields stays as it is."""
    document = DOCUMENT.read_text()
    with stage() as played:
        said = [(example, played.ask(example.request)) for example in examples(document)]
    for example, reply in reversed(said):
        if example.reply is not None and lasting(example.reply) == lasting(reply):
            continue
        begin, end = example.at
        lead = "" if example.reply is not None else "\n"
        document = f"{document[:begin]}{lead}```json\n{wrapped(reply)}\n```\n{document[end:]}"
    DOCUMENT.write_text(document)


def _names(union: Any) -> set[str]:
    return {str(model.model_fields["command"].default) for model in get_args(get_args(union)[0])}


if __name__ == "__main__":
    rewrite()
