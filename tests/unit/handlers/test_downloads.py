# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From images to StorPool: nobody has anything of it before it is whole, and nothing is there unless it is."""

import gzip
import hashlib
import os
from collections.abc import Callable

import pytest

from block_hash_reference import block_hash
from copy_requests import Maker
from copy_scene import CONTENTS, FILE, SIZE, SOURCE, STORE, URL, Scene
from fake_images import QCOW2_MAGIC
from storpool_agent.errors import AgentError, CopyFailed, DownloadFailed, ImageRefused, StorPoolUnavailable
from storpool_commands.catalogue import Command
from storpool_commands.copies import CreateTemplateFromSnapshot, DownloadTemplate, DownloadVolume
from storpool_commands.disks import ConnectPhysicalDisk
from storpool_commands.envelope import Failure
from storpool_commands.errors import ErrorCode
from storpool_commands.images import ImageSource
from storpool_commands.labels import KIND, OPERATION, WRITING

OTHER_HASH = f"sha256-1m:{'0' * 64}"


def volume_of(source: ImageSource, contents: bytes = CONTENTS, **options: object) -> Maker:
    def make(scene: Scene) -> Command:
        put(source, contents, scene)
        return DownloadVolume.model_validate({"source": source, "template": "dev", **options})

    return make


def template_of(source: ImageSource, contents: bytes = CONTENTS, **options: object) -> Maker:
    def make(scene: Scene) -> Command:
        put(source, contents, scene)
        return DownloadTemplate.model_validate({"source": source, "template": "dev", **options})

    return make


def backup_of(source: ImageSource, contents: bytes = CONTENTS, **options: object) -> Maker:
    def make(scene: Scene) -> Command:
        put(source, contents, scene)
        return CreateTemplateFromSnapshot.model_validate(
            {"source": source, "template": "dev", "backup": False, **options}
        )

    return make


def put(source: ImageSource, contents: bytes, scene: Scene) -> None:
    if source.url is not None:
        scene.fakes.images.web[source.url] = contents
    else:
        scene.file(contents)


def said(**what: object) -> ImageSource:
    return ImageSource.model_validate({**SOURCE.model_dump(), **what})


ALL = pytest.mark.parametrize("make_of", [volume_of, template_of, backup_of])
MakerOf = Callable[..., Maker]


@ALL
@pytest.mark.parametrize(
    "source", [SOURCE, ImageSource(url=URL, format="raw")], ids=["a file of a store", "a file of the web"]
)
def test_what_comes_out_has_the_contents_and_is_alone(scene: Scene, make_of: MakerOf, source: ImageSource) -> None:
    made = scene.prepare(make_of(source)).succeed()
    (volume,) = scene.fakes.storpool.volumes.values()
    assert (volume.global_id, volume.snapshot) == (made.global_id, make_of is not volume_of)
    assert volume.size_bytes == made.size_bytes == SIZE
    assert scene.contents(volume.global_id) == CONTENTS
    assert volume.tags == {KIND: "volume" if make_of is volume_of else "template", OPERATION: str(scene.request.id)}
    assert scene.fakes.storpool.attached == {}
    assert scene.fakes.images.zeroed == [True]
    if make_of is not backup_of:
        assert (made.block_hash, made.virtual_size_bytes, made.copies) == (block_hash(CONTENTS), SIZE, 1)


def test_a_volume_that_is_larger_than_the_image_is_zero_beyond(scene: Scene) -> None:
    made = scene.prepare(volume_of(SOURCE, size_bytes=2 * SIZE)).succeed()
    assert (made.size_bytes, made.virtual_size_bytes) == (2 * SIZE, SIZE)
    assert scene.contents(made.global_id) == CONTENTS + bytes(SIZE)


def test_an_image_of_odd_length_gets_whole_sectors(scene: Scene) -> None:
    made = scene.prepare(volume_of(SOURCE, CONTENTS + b"x")).succeed()
    assert (made.size_bytes, made.virtual_size_bytes) == (SIZE + 512, SIZE + 1)
    assert scene.contents(made.global_id) == CONTENTS + b"x" + bytes(511)


@ALL
def test_while_it_is_written_nobody_else_can_use_it(scene: Scene, make_of: MakerOf) -> None:
    scene.prepare(make_of(SOURCE))
    refusals: list[ErrorCode] = []

    def look() -> None:
        (volume,) = scene.fakes.storpool.volumes.values()
        assert volume.tags[WRITING] == str(scene.request.id)
        refusals.append(scene.fakes.fail(ConnectPhysicalDisk(volume=str(volume.reference))).code)

    scene.meanwhile("convert", look)
    scene.succeed()
    assert refusals == [ErrorCode.VOLUME_INCOMPLETE]


def test_a_volume_that_is_written_by_another_host_is_not_to_be_used(scene: Scene) -> None:
    volume = scene.volume()
    scene.fakes.storpool.volumes[volume.global_id].tags[WRITING] = "request"  # type: ignore[index]
    failure = scene.fakes.fail(ConnectPhysicalDisk(volume=str(volume.reference)))
    assert (failure.code, failure.facts["request"]) == (ErrorCode.VOLUME_INCOMPLETE, "request")


@ALL
@pytest.mark.parametrize(
    ("source", "contents", "code"),
    [
        (said(checksum=f"sha256:{'0' * 64}"), CONTENTS, ErrorCode.CHECKSUM_MISMATCH),
        (said(block_hash=OTHER_HASH), CONTENTS, ErrorCode.CHECKSUM_MISMATCH),
        (SOURCE, QCOW2_MAGIC + CONTENTS, ErrorCode.IMAGE_FORMAT_MISMATCH),
        (said(path="nothing.img"), CONTENTS, ErrorCode.IMAGE_NOT_FOUND),
    ],
    ids=["another checksum", "another block hash", "a qcow2 that is called raw", "no file"],
)
def test_an_image_that_is_not_the_one_that_was_meant_leaves_nothing(
    scene: Scene, make_of: MakerOf, source: ImageSource, contents: bytes, code: ErrorCode
) -> None:
    scene.prepare(make_of(source, contents)).fail(code)


@ALL
@pytest.mark.parametrize("source", [said(checksum=f"sha256:{'0' * 64}"), said(path="nothing.img")], ids=["sum", "file"])
def test_nothing_is_made_at_storpool_for_an_image_that_is_refused(
    scene: Scene, make_of: MakerOf, source: ImageSource
) -> None:
    scene.prepare(make_of(source)).run()
    assert "create_volume" not in scene.fakes.storpool.calls


@ALL
def test_a_raw_disk_may_begin_like_a_qcow2_when_its_contents_are_known(scene: Scene, make_of: MakerOf) -> None:
    contents = QCOW2_MAGIC + CONTENTS[4:]
    made = scene.prepare(make_of(said(block_hash=block_hash(contents)), contents)).succeed()
    assert scene.contents(made.global_id) == contents


@ALL
@pytest.mark.parametrize("call", ["convert", "block_hash", "inspect"])
@pytest.mark.parametrize("error", [CopyFailed, ImageRefused, StorPoolUnavailable])
def test_of_a_copy_that_failed_nothing_is_left(
    scene: Scene, make_of: MakerOf, call: str, error: type[AgentError]
) -> None:
    scene.prepare(make_of(SOURCE))
    scene.fakes.images.failing[call] = error("it failed")
    scene.fail(error.code)


@ALL
def test_a_copy_that_lost_a_byte_is_deleted(scene: Scene, make_of: MakerOf) -> None:
    scene.prepare(make_of(SOURCE))
    scene.fakes.images.lost = True
    scene.fail(ErrorCode.COPY_MISMATCH)


@ALL
def test_a_cancel_in_the_middle_leaves_nothing(scene: Scene, make_of: MakerOf) -> None:
    scene.prepare(make_of(SOURCE))
    scene.meanwhile("convert", scene.cancel)
    scene.fail(ErrorCode.CANCELLED)


@ALL
def test_a_source_that_is_cut_off_meanwhile_is_refused_though_both_hashes_agree(scene: Scene, make_of: MakerOf) -> None:
    """QEMU reads what is beyond a qcow2's end as zeroes, and so do both who compare."""
    scene.prepare(make_of(SOURCE))
    scene.meanwhile("inspect", lambda: os.truncate(scene.at(FILE), len(CONTENTS) // 2))
    reply = scene.run()
    assert isinstance(reply, Failure), reply
    assert (reply.code, reply.side_effects) == (ErrorCode.COPY_FAILED, "none")
    scene.at(FILE).write_bytes(CONTENTS)
    assert scene.state() == scene.before


@ALL
def test_an_image_that_is_packed_is_unpacked(scene: Scene, make_of: MakerOf) -> None:
    packed = gzip.compress(CONTENTS)
    source = said(compression="gzip", checksum=f"sha256:{hashlib.sha256(packed).hexdigest()}")
    made = scene.prepare(make_of(source, packed)).succeed()
    assert scene.contents(made.global_id) == CONTENTS


@ALL
def test_a_download_that_fails_leaves_nothing(scene: Scene, make_of: MakerOf) -> None:
    scene.prepare(make_of(ImageSource(url=URL, format="raw")))
    scene.fakes.images.failing["fetch"] = DownloadFailed("the connection broke")
    scene.fail(ErrorCode.DOWNLOAD_FAILED)


@ALL
def test_a_host_without_room_for_a_download_says_so(scene: Scene, make_of: MakerOf) -> None:
    scene.prepare(make_of(ImageSource(url=URL, format="raw")))
    scene.fakes.secondary.scratch_full = True
    scene.fail(ErrorCode.SCRATCH_FULL)


def test_a_signature_in_a_url_is_in_no_message(scene: Scene) -> None:
    source = ImageSource(url=f"{URL}?signature=s3cret", format="raw", checksum=f"md5:{'0' * 32}")
    failure = scene.prepare(volume_of(source)).fail(ErrorCode.CHECKSUM_MISMATCH)
    assert "s3cret" not in failure.model_dump_json()
    assert URL in failure.message


def test_a_volume_that_would_lack_the_end_of_the_image_is_not_made(scene: Scene) -> None:
    scene.prepare(volume_of(SOURCE, size_bytes=SIZE - 512)).fail(ErrorCode.WOULD_SHRINK)
    assert "create_volume" not in scene.fakes.storpool.calls


@pytest.mark.parametrize("make_of", [volume_of, template_of])
@pytest.mark.parametrize("source", [SOURCE, said(block_hash=block_hash(CONTENTS))], ids=["looked into", "bytes"])
def test_an_image_that_is_larger_than_the_command_says_is_not_copied(
    scene: Scene, make_of: MakerOf, source: ImageSource
) -> None:
    scene.prepare(make_of(source, max_size_bytes=SIZE - 512)).fail(ErrorCode.IMAGE_TOO_LARGE)


def test_a_store_that_is_not_allowed_is_not_mounted(scene: Scene) -> None:
    scene.prepare(volume_of(SOURCE))
    scene.fakes.secondary.not_allowed.add(STORE)
    scene.fail(ErrorCode.SECONDARY_NOT_ALLOWED)
    assert FILE.store == STORE


def test_a_name_that_is_taken_is_refused_with_nothing_left(scene: Scene) -> None:
    def make(scene: Scene) -> Command:
        scene.fakes.storpool.disk(scene.fakes.storpool.add(SIZE, "taken").global_id)
        return volume_of(SOURCE, name="taken")(scene)

    scene.prepare(make).fail(ErrorCode.NAME_TAKEN)


@ALL
def test_a_volume_that_cannot_be_deleted_is_deleted_later(scene: Scene, make_of: MakerOf) -> None:
    scene.prepare(make_of(SOURCE))
    scene.fakes.images.failing["convert"] = CopyFailed("it failed")
    scene.fakes.storpool.failures["delete_volume"] = [StorPoolUnavailable("away")]
    scene.fail(ErrorCode.COPY_FAILED, "partial")
    assert [one.kind for one in scene.journal.temporaries.of(str(scene.request.id))] == ["volume"]
    scene.sweep()
    assert scene.state() == scene.before
