# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Images that strangers made, and downloads from strangers: refused before anything is made."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostile_images import IMAGES, LIMIT_BYTES, PACKED, SECRET, UNPACKED_LIMIT_BYTES, qcow2, write_secret
from image_server import WebSite, body, redirect, status, web_site
from integration.agent import copy_jobs
from integration.agent.copies import MIB, Depot, block_hash, disk, running_depot
from integration.agent.refusals import assert_kept_secret, nothing_changes, refused
from storpool_commands.copies import BackupSnapshot, DownloadTemplate, DownloadVolume
from storpool_commands.errors import ErrorCode
from storpool_commands.images import ImageFormat, ImageSource

REPLY_TIMEOUT_S = 240.0
SECRET_WORDS = SECRET.rstrip(b".").decode()


@pytest.fixture(scope="module")
def depot(services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Depot]:
    """In the end the secret is nowhere: StorPool was given nothing in which it could be, but what a test says."""
    files = tmp_path_factory.mktemp("store")
    settings = {"max_image_bytes": LIMIT_BYTES, "web_hosts": ["127.0.0.1"]}
    with running_depot(files, secondary=settings, lanes={"bulk": 4}) as depot:
        yield depot
        assert_kept_secret((SECRET_WORDS,), depot.raw, depot.agent)


@pytest.fixture
def site(services: None) -> Iterator[WebSite]:
    with web_site() as running:
        yield running


@pytest.mark.parametrize("command", [DownloadVolume, DownloadTemplate])
def test_no_hostile_image_gets_to_storpool(depot: Depot, command: Any) -> None:
    expected = {one.name: one.code for one in IMAGES}
    with nothing_changes(depot.stack):
        sent: dict[str, str] = {}
        for one in IMAGES:
            directory = new_directory(depot)
            path = str(one.build(directory).relative_to(depot.files))
            source = ImageSource(store=depot.store, path=path, format=one.declared)
            sent[one.name] = depot.send(command(source=source, template="dev"))
        assert codes(depot, sent) == expected
    depot.assert_nothing_left()


def test_no_packed_file_that_is_damaged_or_too_large_gets_to_storpool(depot: Depot) -> None:
    expected = {one.name: one.code for one in PACKED}
    with nothing_changes(depot.stack):
        sent: dict[str, str] = {}
        for one in PACKED:
            path = str(one.build(new_directory(depot)).relative_to(depot.files))
            source = ImageSource(store=depot.store, path=path, format="raw", compression=one.compression)
            command = DownloadVolume(source=source, template="dev", max_size_bytes=UNPACKED_LIMIT_BYTES)
            sent[one.name] = depot.send(command)
        assert codes(depot, sent) == expected
    depot.assert_nothing_left()


def codes(depot: Depot, sent: dict[str, str]) -> dict[str, str]:
    replies = {name: depot.raw.reply(request_id, REPLY_TIMEOUT_S) for name, request_id in sent.items()}
    return {name: reply.get("code", reply["status"]) for name, reply in replies.items()}


def new_directory(depot: Depot) -> Path:
    directory = depot.files / depot.new_path().partition("/")[0]
    directory.mkdir()
    return directory


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_guests_disk_that_looks_like_an_image_is_backed_up_and_restored_bit_by_bit(
    depot: Depot, image_format: ImageFormat
) -> None:
    """A guest may write to its disk what it likes: a qcow2 header that would have the host read another file."""
    data = disguised(depot)
    target = depot.target(image_format)
    backup = BackupSnapshot(snapshot=depot.snapshot(data), target=target, format=image_format)
    backed_up = depot.reply(depot.send(backup))["result"]
    assert backed_up["blockHash"] == block_hash(data)
    assert depot.read(target.path, image_format) == data
    known = backed_up["blockHash"]
    source = ImageSource(store=target.store, path=target.path, format=image_format, block_hash=known)
    for command in (DownloadVolume(source=source, template="dev"), DownloadTemplate(source=source, template="dev")):
        reply = depot.reply(depot.send(command))
        assert reply["status"] == "success", reply
        assert depot.contents(reply["result"]["globalId"]) == data


def test_a_guests_disk_that_looks_like_an_image_is_no_raw_template_without_its_hash(depot: Depot) -> None:
    source = depot.image(disguised(depot))
    with nothing_changes(depot.stack):
        reply = depot.reply(depot.send(DownloadTemplate(source=source, template="dev")))
    refused(reply, ErrorCode.IMAGE_FORMAT_MISMATCH, says=("qcow2",), facts={"declared": "raw", "found": "qcow2"})


def disguised(depot: Depot) -> bytes:
    """A disk of a guest that wants the host's secret."""
    header = qcow2(backing=str(write_secret(depot.stack.directory)).encode())
    data = disk()
    return header + data[len(header) :]


@pytest.mark.parametrize("command", [DownloadVolume, DownloadTemplate])
def test_a_file_with_another_checksum_gets_no_further(depot: Depot, command: Any) -> None:
    source = depot.image(disk())
    wrong = source.model_copy(update={"checksum": f"sha256:{hashlib.sha256(b'other').hexdigest()}"})
    with nothing_changes(depot.stack):
        reply = depot.reply(depot.send(command(source=wrong, template="dev")))
    refused(reply, ErrorCode.CHECKSUM_MISMATCH, facts={"expected": wrong.checksum})


@pytest.mark.parametrize("make", [copy_jobs.download_volume, copy_jobs.download_template])
def test_an_image_whose_contents_have_another_hash_is_taken_back(depot: Depot, make: copy_jobs.Make) -> None:
    job = make(depot)
    source = job.command.source.model_copy(update={"block_hash": block_hash(b"other")})
    reply = depot.reply(depot.send(job.command.model_copy(update={"source": source})))
    refused(reply, ErrorCode.CHECKSUM_MISMATCH, facts={"expected": source.block_hash, "found": block_hash(job.data)})
    job.assert_not_done()


def test_an_image_from_the_web_is_downloaded_checked_and_unpacked(depot: Depot, site: WebSite) -> None:
    """The connection breaks once, and is taken up where it broke."""
    data = disk()
    packed = gzip.compress(data)
    site.serve("/image.gz", body(packed, breaks_after=len(packed) // 2), body(packed))
    source = of_the_web(site.url("/image.gz"), packed, compression="gzip")
    reply = depot.reply(depot.send(DownloadVolume(source=source, template="dev")))
    assert reply["status"] == "success", reply
    assert depot.contents(reply["result"]["globalId"]) == data
    assert site.ranges() == [None, f"bytes={len(packed) // 2}-"]


FAILING = [
    pytest.param(
        [redirect("http://169.254.169.254/latest/meta-data/")], ErrorCode.SECONDARY_NOT_ALLOWED, id="redirect"
    ),
    pytest.param([status(404)], ErrorCode.IMAGE_NOT_FOUND, id="not there"),
    pytest.param([status(500)], ErrorCode.DOWNLOAD_FAILED, id="a server that fails"),
    pytest.param([body(bytes(MIB), breaks_after=0)], ErrorCode.DOWNLOAD_FAILED, id="a connection that always breaks"),
    pytest.param([body(bytes(4 * MIB))], ErrorCode.IMAGE_TOO_LARGE, id="more than is allowed"),
    pytest.param([body(b"another")], ErrorCode.CHECKSUM_MISMATCH, id="another file"),
]


@pytest.mark.parametrize(("answers", "code"), FAILING)
def test_a_download_that_fails_leaves_nothing(depot: Depot, site: WebSite, answers: list[Any], code: ErrorCode) -> None:
    site.serve("/image", *answers)
    source = of_the_web(site.url("/image"), bytes(MIB))
    with nothing_changes(depot.stack):
        command = DownloadVolume(source=source, template="dev", max_size_bytes=2 * MIB)
        refused(depot.reply(depot.send(command)), code)


@pytest.mark.parametrize("url", ["http://127.0.0.2:1/image", "http://[::1]:1/image", "http://10.0.0.1/image"])
def test_an_address_that_the_settings_do_not_allow_is_not_connected_to(depot: Depot, url: str) -> None:
    with nothing_changes(depot.stack):
        reply = depot.reply(depot.send(DownloadVolume(source=of_the_web(url, b""), template="dev")))
    refused(reply, ErrorCode.SECONDARY_NOT_ALLOWED)


def of_the_web(url: str, contents: bytes, **more: Any) -> ImageSource:
    return ImageSource(url=url, format="raw", checksum=f"sha256:{hashlib.sha256(contents).hexdigest()}", **more)
