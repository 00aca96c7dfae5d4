# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at the steps of encryptVolume: it is run again, takes effect once, and nobody can use what is half done."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from integration.agent.crashing import through_a_crash
from integration.agent.encrypted import HEADER_BYTES, MIB, Vault, running_vault, sectors
from raw_client import raw_client
from storpool_commands.client import CommandFailed
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.encrypting import EncryptVolume
from storpool_commands.encryption import Key
from storpool_commands.errors import ErrorCode

pytestmark = pytest.mark.long

ONCE, AGAIN = 1, 2
CONTENTS = os.urandom(2 * MIB)


@pytest.fixture(scope="module")
def vault(services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """Its agent does not run."""
    with running_vault(tmp_path_factory.mktemp("vault"), start=False) as stopped:
        yield stopped


@pytest.fixture(scope="module")
def key(vault: Vault) -> Key:
    return vault.key("disk", "correct horse battery staple")


@pytest.fixture(scope="module")
def template(vault: Vault) -> str:
    return vault.template(CONTENTS)


@pytest.fixture
def running(vault: Vault) -> Iterator[Vault]:
    vault.stack.agent.start()
    yield vault
    vault.stack.agent.stop()


POINTS = (
    ("release:done", True, ONCE),
    ("noted", False, ONCE),
    ("copy:done", True, AGAIN),
    ("making-attachment", False, AGAIN),
)
"""From the last to the first: when only the reply is missing; when the volume has been verified and cannot be used yet;
when its contents are there and nobody has compared them; before it is attached. No run goes on past the point at which
the next is to die."""


def test_a_volume_is_encrypted_once_whenever_the_agent_dies(vault: Vault, key: Key, template: str) -> None:
    """Each life of the agent finishes one request, and dies of the next; it may not know yet that the broker has its
    reply to the first, which the next life then sends again, byte for byte."""
    points = [f"encryptVolume/{point}" for point, _, _ in POINTS]
    agent = vault.stack.agent
    agent.start(crash_at=points[0])
    with raw_client(vault.stack.amqp_url) as raw:
        for (point, root, copies), after in zip(POINTS, [*points[1:], None], strict=True):
            volume = vault.empty_volume(4 * MIB)
            body = {"command": "encryptVolume", "volume": volume, "key": {"file": key.file}}
            request_id = raw.ask({**body, "sourceSnapshot": template} if root else body)
            agent.wait_crashed()
            agent.start(crash_at=after)
            reply = raw.reply(request_id)
            assert reply["status"] == "success", (point, reply)
            assert_encrypted(vault, volume, reply["result"], copies)
            assert {one.body for one in raw.replies(request_id)} == {raw.replies(request_id)[0].body}
    agent.stop()


def test_a_volume_that_was_marked_and_not_formatted_is_formatted_by_the_next_agent(vault: Vault, key: Key) -> None:
    volume = vault.empty_volume(4 * MIB)
    done = through_a_crash(vault.stack, EncryptVolume(volume=volume, key=key), "encryptVolume/mark:done")
    assert_encrypted(vault, volume, done.model_dump(by_alias=True), AGAIN)


def assert_encrypted(vault: Vault, volume: str, done: dict[str, Any], copies: int) -> None:
    assert (done["copies"], done["payloadSizeBytes"]) == (copies, 6 * MIB - HEADER_BYTES)
    assert (vault.tag(volume), vault.stack.attachments(volume)) == ("luks1", [])
    stored = vault.raw(volume)
    assert done["luksUuid"].encode() in stored[:HEADER_BYTES]
    assert not set(sectors(CONTENTS)).intersection(sectors(stored))


def test_a_passphrase_in_the_command_does_not_outlive_the_agent(vault: Vault, key: Key) -> None:
    """The next agent says so, and takes away what the first had made; another request goes on from there."""
    stack, volume = vault.stack, vault.empty_volume(4 * MIB)
    body = {"command": "encryptVolume", "volume": volume, "key": {"secret": "canary-inline"}}
    stack.agent.start(crash_at="encryptVolume/format:done")
    with raw_client(stack.amqp_url) as raw:
        request_id = raw.ask(body)
        stack.agent.wait_crashed()
        stack.agent.start()
        reply = raw.reply(request_id)
    assert (reply["code"], reply["retry"], reply["sideEffects"]) == ("secret-not-kept", "retryable", "partial")
    assert (vault.tag(volume), stack.attachments(volume)) == ("formatting", [])
    assert refused(vault, ConnectPhysicalDisk(volume=volume)).code is ErrorCode.NOT_ENCRYPTED
    assert stack.call(EncryptVolume(volume=volume, key=key)).copies == ONCE
    stack.agent.stop()
    files = [stack.agent.log_file, *(file for file in stack.agent.state_dir.rglob("*") if file.is_file())]
    assert not any(b"canary-inline" in file.read_bytes() for file in files)


def test_a_volume_with_data_is_not_formatted(running: Vault, key: Key) -> None:
    """However it came there: no agent lets anybody attach the volume before."""
    for place in (3 * MIB, 6 * MIB - 512):
        volume = running.empty_volume(4 * MIB)
        with running.connected(volume) as path, path.open("r+b") as device:
            device.seek(place)
            device.write(b"somebody's")
        failure = refused(running, EncryptVolume(volume=volume, key=key))
        assert (failure.code, failure.side_effects) == (ErrorCode.VOLUME_NOT_EMPTY, "none")
        assert running.stack.attachments(volume) == []


def test_a_volume_that_was_not_made_for_it_is_never_formatted(running: Vault, key: Key) -> None:
    failure = refused(running, EncryptVolume(volume=running.stack.create(), key=key))
    assert (failure.code, failure.side_effects) == (ErrorCode.NOT_ENCRYPTED, "none")


def refused(vault: Vault, command: Any) -> CommandFailed:
    with pytest.raises(CommandFailed) as failure:
        vault.stack.call(command)
    return failure.value
