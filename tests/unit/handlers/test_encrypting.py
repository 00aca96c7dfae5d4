# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""encryptVolume: what is formatted, and what is not."""

import os
from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic import SecretStr

from fake_host import FakeHost
from storpool_agent import retry
from storpool_agent.deadline import Deadline
from storpool_agent.errors import Cancelled, CopyFailed, StorPoolUnavailable
from storpool_agent.images.luks import PAYLOAD_OFFSET_BYTES
from storpool_agent.journal.temporaries import ATTACHMENT, USE, Temporary
from storpool_agent.storpool.model import Volume
from storpool_commands.disks import ConnectPhysicalDisk, Holder, StorpoolResize
from storpool_commands.encrypting import EncryptVolume
from storpool_commands.encryption import Key
from storpool_commands.envelope import Failure, Success
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import TakeSnapshot
from storpool_commands.volumes import CreateVolume, CreateVolumeFromSnapshot, CreateVolumeFromTemplate

MIB = 1 << 20
KEY = Key(file="disk")


@pytest.fixture
def volume(host: FakeHost) -> Volume:
    """One of 4 MiB, to be encrypted."""
    host.keys.known["disk"] = b"geheim"
    return created(host)


def created(host: FakeHost) -> Volume:
    made = host.succeed(CreateVolume(size_bytes=4 * MIB, template="dev", encrypted=True))
    assert (made.size_bytes, made.payload_size_bytes) == (6 * MIB, 6 * MIB - PAYLOAD_OFFSET_BYTES)
    return host.storpool.volumes[made.global_id]


def order(volume: Volume, **options: object) -> EncryptVolume:
    return EncryptVolume(volume=str(volume.reference), key=KEY, **options)  # type: ignore[arg-type]


def tag(host: FakeHost, volume: Volume) -> str | None:
    return host.storpool.volumes[volume.global_id].tags.get("sp-luks")


def test_a_new_volume_is_formatted_and_can_then_be_attached(host: FakeHost, volume: Volume) -> None:
    refused = host.fail(ConnectPhysicalDisk(volume=str(volume.reference)))
    assert (refused.code, refused.side_effects) == (ErrorCode.NOT_ENCRYPTED, "none")
    done = host.succeed(order(volume))
    assert (done.payload_size_bytes, done.cipher, done.block_hash) == (
        6 * MIB - PAYLOAD_OFFSET_BYTES,
        "aes-xts-plain64",
        None,
    )
    assert (tag(host, volume), host.storpool.attached) == ("luks1", {})
    assert host.succeed(ConnectPhysicalDisk(volume=str(volume.reference))).size_bytes == 6 * MIB


def test_a_root_disk_has_the_contents_of_its_template(host: FakeHost) -> None:
    host.keys.known["disk"] = b"geheim"
    template = host.storpool.add(MIB, "debian", snapshot=True)
    made = host.succeed(CreateVolumeFromTemplate(snapshot="debian", size_bytes=2 * MIB, encrypted=True))
    assert (made.size_bytes, made.parent) == (4 * MIB, None)
    volume = host.storpool.volumes[made.global_id]
    done = host.succeed(order(volume, source_snapshot="debian"))
    assert done.snapshot == template.global_id
    assert done.block_hash is not None
    assert (host.images.zeroed, host.storpool.attached) == ([False], {})


@pytest.mark.parametrize("call", ["encrypt", "unlock", "read", "convert", "block_hash"])
def test_what_fails_is_a_failure_and_nobody_can_use_the_volume(host: FakeHost, volume: Volume, call: str) -> None:
    """The Java agent answers success, and the guest gets a disk that is not encrypted, or one that it cannot read."""
    host.storpool.add(MIB, "debian", snapshot=True)
    host.images.failing[call] = CopyFailed("no")
    failure = host.fail(order(volume, source_snapshot="debian"))
    assert failure.code is ErrorCode.COPY_FAILED
    assert tag(host, volume) in {"new", "formatting"}
    assert host.storpool.attached == {}
    assert host.fail(ConnectPhysicalDisk(volume=str(volume.reference))).code is ErrorCode.NOT_ENCRYPTED
    host.images.failing.clear()
    assert host.succeed(order(volume, source_snapshot="debian")).copies == 1
    assert tag(host, volume) == "luks1"


def test_contents_that_arrived_otherwise_are_a_mismatch(host: FakeHost, volume: Volume) -> None:
    host.storpool.add(MIB, "debian", snapshot=True)
    host.images.lost = True
    assert host.fail(order(volume, source_snapshot="debian")).code is ErrorCode.COPY_MISMATCH
    assert tag(host, volume) == "formatting"


def test_one_that_is_encrypted_is_not_formatted_again(host: FakeHost, volume: Volume) -> None:
    host.succeed(order(volume))
    before = host.storpool.disks[volume.global_id].read()
    failure = host.fail(order(volume))
    assert (failure.code, failure.side_effects) == (ErrorCode.ALREADY_ENCRYPTED, "none")
    assert host.storpool.disks[volume.global_id].read() == before


@pytest.mark.parametrize("make", ["plain", "attached here", "attached elsewhere", "a job's"])
def test_what_is_not_new_and_free_is_left_alone(host: FakeHost, volume: Volume, make: str) -> None:
    code = ErrorCode.VOLUME_BUSY
    if make == "plain":
        volume, code = host.storpool.add(6 * MIB), ErrorCode.NOT_ENCRYPTED
    elif make == "attached here":
        host.storpool.attach_elsewhere(volume, host.storpool.our_id)
    elif make == "attached elsewhere":
        host.storpool.attach_elsewhere(volume, 2, "ro")
    else:
        host.journal.temporaries.add(Temporary(str(uuid4()), USE, volume.global_id))
    failure = host.fail(order(volume))
    assert (failure.code, failure.side_effects) == (code, "none")
    assert tag(host, volume) == (None if make == "plain" else "new")


def test_what_somebody_has_open_is_not_formatted(
    host: FakeHost, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that has outlived the agent that started it, say."""
    monkeypatch.setattr(retry, "BUSY_S", 0.0)
    host.storpool.openers[volume.global_id] = [Holder(kind="process", name="qemu-img", pid=7)]
    failure = host.fail(order(volume))
    assert (failure.code, tag(host, volume)) == (ErrorCode.VOLUME_BUSY, "new")
    assert "qemu-img (pid 7)" in failure.message


def test_one_with_data_in_it_is_not_formatted(host: FakeHost, volume: Volume) -> None:
    os.pwrite(host.storpool.disk(volume.global_id), b"data", 5 * MIB)
    failure = host.fail(order(volume))
    assert (failure.code, failure.side_effects) == (ErrorCode.VOLUME_NOT_EMPTY, "none")
    assert tag(host, volume) == "new"


def test_a_template_that_does_not_fit_behind_the_header_is_refused(host: FakeHost, volume: Volume) -> None:
    host.storpool.add(5 * MIB, "debian", snapshot=True)
    failure = host.fail(order(volume, source_snapshot="debian"))
    assert (failure.code, failure.side_effects) == (ErrorCode.WOULD_SHRINK, "none")


def test_the_snapshot_of_an_encrypted_volume_is_no_template(host: FakeHost, volume: Volume) -> None:
    snapshot = host.storpool.add(MIB, "secret", snapshot=True)
    host.storpool.volumes[snapshot.global_id] = replace(snapshot, tags={"sp-luks": "luks1"})
    assert host.fail(order(volume, source_snapshot="secret")).code is ErrorCode.ENCRYPTED_UNSUPPORTED
    made = CreateVolumeFromTemplate(snapshot="secret", encrypted=True)
    assert host.fail(made).code is ErrorCode.ENCRYPTED_UNSUPPORTED


def test_a_key_that_is_not_there_is_told_before_anything_is_done(host: FakeHost, volume: Volume) -> None:
    host.keys.known.clear()
    failure = host.fail(order(volume))
    assert (failure.code, failure.side_effects, tag(host, volume)) == (ErrorCode.KEY_NOT_FOUND, "none", "new")


def test_a_second_run_of_a_request_repeats_its_success(host: FakeHost, volume: Volume) -> None:
    """The agent died when the volume could be used, and had not answered. Its template has been deleted since."""
    request_id = uuid4()
    template = host.storpool.add(MIB, "debian", snapshot=True)
    first = host.run(order(volume, source_snapshot="debian"), request_id=request_id)
    del host.storpool.volumes[template.global_id]
    again = host.run(order(volume, source_snapshot="debian"), request_id=request_id, attempt=2)
    assert isinstance(first, Success)
    assert isinstance(again, Success)
    assert again.result == first.result


def test_a_run_that_was_overtaken_does_not_call_the_other_ones_volume_its_own(host: FakeHost, volume: Volume) -> None:
    """It died after it had verified the volume; then another formatted it, with another key."""
    request_id = uuid4()
    first = FailsAt(host, 2)
    assert isinstance(host.run(order(volume), request_id=request_id), Failure)
    first.over()
    assert tag(host, volume) == "formatting"
    other = host.succeed(EncryptVolume(volume=str(volume.reference), key=Key(secret=SecretStr("other"))))
    again = host.run(order(volume), request_id=request_id, attempt=2)
    assert isinstance(again, Failure)
    assert again.code is ErrorCode.ALREADY_ENCRYPTED
    assert other.luks_uuid


class FailsAt:
    """The n-th update of a volume fails."""

    def __init__(self, host: FakeHost, number: int) -> None:
        self._host, self._real, self._left = host, host.storpool.update_volume, number
        host.storpool.update_volume = self._update  # type: ignore[method-assign]

    def _update(self, volume: Volume, change: object, deadline: Deadline) -> None:
        self._left -= 1
        if self._left == 0:
            raise StorPoolUnavailable("no")
        self._real(volume, change, deadline)  # type: ignore[arg-type]

    def over(self) -> None:
        self._host.storpool.update_volume = self._real  # type: ignore[method-assign]


def test_a_cancelled_one_is_detached(host: FakeHost, volume: Volume) -> None:
    host.images.failing["encrypt"] = Cancelled("cancelled while it ran")
    assert host.fail(order(volume)).code is ErrorCode.CANCELLED
    assert (host.storpool.attached, host.journal.temporaries.with_target(ATTACHMENT, volume.global_id)) == ({}, [])


def test_while_it_is_formatted_its_size_stays(host: FakeHost, volume: Volume) -> None:
    host.storpool.volumes[volume.global_id] = replace(volume, tags={"sp-luks": "formatting"})
    resize = StorpoolResize(volume=str(volume.reference), new_size_bytes=8 * MIB)
    assert host.fail(resize).code is ErrorCode.VOLUME_INCOMPLETE


def test_a_volume_from_an_encrypted_snapshot_has_its_header_already(host: FakeHost, volume: Volume) -> None:
    """The Java plugin's volume is smaller than its parent by the header that it does not add (its bug 22)."""
    host.succeed(order(volume))
    taken = host.succeed(TakeSnapshot(volume=str(volume.reference)))
    assert taken.tags["sp-luks"] == "luks1"
    made = host.succeed(CreateVolumeFromSnapshot(snapshot=f"~{taken.global_id}"))
    assert (made.size_bytes, made.payload_size_bytes) == (6 * MIB, 6 * MIB - PAYLOAD_OFFSET_BYTES)
    assert made.tags["sp-luks"] == "luks1"
