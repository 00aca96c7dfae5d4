# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Foreign images are looked into by the child, and by the real qemu-img."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostile_images import CLUSTER, IMAGES, LIMIT_BYTES, MIB, SIZE, Hostile, extension, qcow2, with_data
from image_files import Watched
from opened import watched as opens
from storpool_agent.errors import AgentError, Cancelled, ImageRefused, ImageTooLarge
from storpool_agent.images import child, inspection
from storpool_agent.images.child import Command
from storpool_agent.images.model import Image, Look
from storpool_commands.images import ImageFormat

BACKED = [
    image for image in IMAGES if "backing file" in image.name or "data file" in image.name or "VMDK" in image.name
]
CREATED = {
    "as qemu-img makes them": (),
    "version 2": ("compat=0.10",),
    "small clusters": ("cluster_size=512",),
    "large clusters": ("cluster_size=2M",),
    "subclusters": ("extended_l2=on",),
    "lazy reference counts": ("lazy_refcounts=on",),
    "wide reference counts": ("refcount_bits=64",),
    "zstd": ("compression_type=zstd",),
    "metadata written": ("preallocation=metadata",),
    "all written": ("preallocation=full",),
}


@contextmanager
def opened(path: Path, image_format: ImageFormat) -> Generator[Image]:
    with path.open("rb") as file:
        yield Image(file.fileno(), image_format, name=path.name)


def look(path: Path, image_format: ImageFormat, job: Watched, limit: int = LIMIT_BYTES) -> Look:
    with opened(path, image_format) as image:
        return inspection.inspect(image, job.task, max_size_bytes=limit)


def qemu_img(*arguments: object) -> str:
    return subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("options", CREATED.values(), ids=CREATED)
def test_what_qemu_img_makes_is_taken(options: tuple[str, ...], job: Watched, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", *(part for option in options for part in ("-o", option)), path, 5 * MIB)
    assert look(path, "qcow2", job) == Look(virtual_size_bytes=5 * MIB)


@pytest.mark.parametrize("options", CREATED.values(), ids=CREATED)
@pytest.mark.parametrize("compressed", [(), ("-c",)], ids=["plain", "compressed"])
def test_what_qemu_img_converts_is_taken(
    options: tuple[str, ...], compressed: tuple[str, ...], job: Watched, tmp_path: Path
) -> None:
    """The last cluster is a part of one, and the file may end with it."""
    if compressed and any("preallocation" in option for option in options):
        options = ()
    raw, path = tmp_path / "disk.raw", tmp_path / "image.qcow2"
    raw.write_bytes(os.urandom(CLUSTER) + bytes(3 * CLUSTER) + os.urandom(2 * MIB + 512))
    option_list = [part for option in options for part in ("-o", option)]
    qemu_img("convert", "-q", *compressed, "-f", "raw", "-O", "qcow2", *option_list, raw, path)
    assert look(path, "qcow2", job) == Look(virtual_size_bytes=raw.stat().st_size)


def test_an_image_that_has_been_lived_in_is_taken(job: Watched, tmp_path: Path) -> None:
    """Written to, snapshots made and deleted, grown and shrunk, with a bitmap."""
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "100G")
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 1 90G 4k", "-c", "write -P 2 1M 70k", path],
        check=True,
        capture_output=True,
    )
    qemu_img("snapshot", "-c", "moment", path)
    with pytest.raises(ImageRefused, match="internal snapshots"):
        look(path, "qcow2", job)
    qemu_img("snapshot", "-d", "moment", path)
    qemu_img("resize", "-q", "-f", "qcow2", "--shrink", path, "10M")
    qemu_img("bitmap", "--add", "-f", "qcow2", path, "since")
    assert look(path, "qcow2", job) == Look(virtual_size_bytes=10 * MIB)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(qcow2(), id="empty"),
        pytest.param(with_data(), id="with data"),
        pytest.param(qcow2(version=2), id="version 2"),
        pytest.param(qcow2(incompatible=1), id="not closed"),
        pytest.param(qcow2(l1=(0,) * 32), id="L1 larger than needed"),
        pytest.param(
            qcow2(extensions=extension(0x6803F857, b"\0\0dirty bit".ljust(48, b"\0"))), id="names of features"
        ),
    ],
)
def test_what_the_tests_take_for_good_qemu_img_does_too(image: bytes, job: Watched, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    path.write_bytes(image)
    assert look(path, "qcow2", job) == Look(virtual_size_bytes=SIZE)


@pytest.mark.parametrize("hostile", IMAGES, ids=lambda image: image.name)
def test_a_hostile_image_is_refused_and_nothing_behind_it_opened(
    hostile: Hostile, job: Watched, tmp_path: Path
) -> None:
    path = hostile.build(tmp_path)
    with opens(tmp_path / "secret") as secret_opened:
        with pytest.raises(AgentError, match=r"^hostile\.img: ") as refused:
            look(path, hostile.declared, job)
        assert not secret_opened
    assert refused.value.code == hostile.code
    assert job.reports == []


def test_qemu_img_itself_would_open_what_is_behind_them(tmp_path: Path) -> None:
    """So the images are hostile, and the watch sees it."""
    fooled = []
    for image in BACKED:
        path = image.build(tmp_path)
        with opens(tmp_path / "secret") as secret_opened:
            subprocess.run(
                ["qemu-img", "convert", "-O", "raw", path, tmp_path / "stolen"], check=False, capture_output=True
            )
            if secret_opened:
                fooled.append(image.name)
    assert {"qcow2 with a backing file in JSON", "qcow2 with a data file", "VMDK with a flat extent"} <= {*fooled}


def test_what_is_said_of_an_image_by_qemu_img_opens_nothing_either(job: Watched, tmp_path: Path) -> None:
    """Had our own parser overlooked it: qemu-img is told that there is no backing file, and then says that there is."""
    path = tmp_path / "hostile.img"
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))
    path.write_bytes(qcow2(backing=str(secret).encode()))
    with opened(path, "qcow2") as image, opens(secret) as secret_opened:
        info = inspection._info(image, job.task)
        found = {"virtual_size_bytes": SIZE, "cluster_bytes": CLUSTER, "dirty": False, "version": 3}
        with pytest.raises(ImageRefused, match="do not say the same about its backing file"):
            inspection._compare(image, {**found, "extended_l2": False, "compression": "zlib"}, info)
        assert not secret_opened


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("format", "raw", id="another format"),
        pytest.param("virtual-size", SIZE + 512, id="another size"),
        pytest.param("backing-filename", "/etc/shadow", id="a backing file"),
        pytest.param("full-backing-filename", "/etc/shadow", id="a full backing file"),
        pytest.param("dirty-flag", True, id="not closed"),
        pytest.param("encrypted", True, id="encrypted"),
        pytest.param("snapshots", [{"id": "1"}], id="snapshots"),
        pytest.param("data-file", "/etc/shadow", id="a data file"),
        pytest.param("corrupt", True, id="corrupt"),
        pytest.param("extended-l2", True, id="subclusters"),
        pytest.param("compression-type", "zstd", id="another compression"),
    ],
)
def test_two_who_read_it_differently_are_not_trusted(key: str, value: object, job: Watched, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    path.write_bytes(qcow2())
    with opened(path, "qcow2") as image:
        info = dict(inspection._info(image, job.task))
        specific = info["format-specific"]["data"]
        (specific if key in {"data-file", "corrupt", "extended-l2", "compression-type"} else info)[key] = value
        found = {"virtual_size_bytes": SIZE, "cluster_bytes": CLUSTER, "dirty": False, "version": 3}
        with pytest.raises(ImageRefused, match="do not say the same"):
            inspection._compare(image, {**found, "extended_l2": False, "compression": "zlib"}, info)


def test_an_image_that_was_cut_off_would_become_a_disk_with_holes(job: Watched, tmp_path: Path) -> None:
    """qemu-img 7.2 converts it, and says that all went well."""
    raw, path, copy = tmp_path / "disk.raw", tmp_path / "image.qcow2", tmp_path / "copy.raw"
    raw.write_bytes(os.urandom(4 * MIB))
    qemu_img("convert", "-q", "-f", "raw", "-O", "qcow2", raw, path)
    os.truncate(path, 2 * MIB)
    qemu_img("convert", "-q", "-f", "qcow2", "-O", "raw", path, copy)
    assert copy.read_bytes()[3 * MIB :] == bytes(MIB)
    with pytest.raises(ImageRefused, match="cut off"):
        look(path, "qcow2", job)


def test_tables_that_take_too_long_are_out_of_proportion(
    job: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four million times the same L2 table of 64 KiB: 256 GiB to look through, in a file of 33 MiB."""
    monkeypatch.setattr(inspection, "CPU_S", 2)
    monkeypatch.setattr(inspection, "CPU_S_PER_TIB", 0)
    path = tmp_path / "image.qcow2"
    entries = (1 << 22) - 1
    end = (3 * CLUSTER + entries * 8 + CLUSTER - 1) // CLUSTER * CLUSTER
    path.write_bytes(
        qcow2(size=entries * 8192 * CLUSTER, l1=(1 << 63 | end,) * entries)[: 1 << 26].ljust(end + CLUSTER, b"\0")
    )
    with pytest.raises(ImageRefused, match="out of all proportion"):
        look(path, "qcow2", job, limit=1 << 62)


def test_a_file_without_a_name_is_looked_into(job: Watched) -> None:
    descriptor = os.memfd_create("scratch")
    try:
        os.write(descriptor, qcow2())
        assert inspection.inspect(
            Image(descriptor, "qcow2", name="download"), job.task, max_size_bytes=LIMIT_BYTES
        ) == Look(SIZE)
    finally:
        os.close(descriptor)


def test_an_image_that_a_machine_has_open_is_looked_into_all_the_same(job: Watched, tmp_path: Path) -> None:
    """Whether somebody writes to it is for others to ask."""
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(b"length\n")
        assert b"1 MiB" in holder.stdout.readline()
        assert look(path, "qcow2", job) == Look(MIB)
        holder.stdin.write(b"quit\n")


def test_its_children_get_no_new_privileges(job: Watched) -> None:
    said = child.output(Command(("cat", "/proc/self/status"), "testing"), job.task, max_bytes=1 << 16)
    assert "NoNewPrivs:\t1" in said


def test_too_large_says_both_sizes(job: Watched, tmp_path: Path) -> None:
    path = tmp_path / "image.raw"
    path.write_bytes(bytes(1025))
    with pytest.raises(ImageTooLarge, match=r"image\.raw: it has 1025 bytes, and no more than 1024") as refused:
        look(path, "raw", job, limit=1024)
    assert refused.value.facts == {"size_bytes": 1025, "max_size_bytes": 1024}


def test_an_interrupt_comes_through(job: Watched, tmp_path: Path) -> None:
    path = tmp_path / "image.raw"
    path.write_bytes(bytes(512))
    job.interrupt.set(Cancelled("by its sender"))
    with pytest.raises(Cancelled):
        look(path, "raw", job)
