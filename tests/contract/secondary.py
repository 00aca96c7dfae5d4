# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a handler relies on in Secondary: run on the fake and on the real one."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from storpool_agent.errors import (
    FileExists,
    ImageNotFound,
    ImageRefused,
    SecondaryNotAllowed,
    SecondaryUnavailable,
)
from storpool_agent.host import Secondary
from storpool_agent.secondary.model import Part

MIB = 1 << 20
PATH = "template/tmpl/2/201/201.qcow2"
NFS = "nfs://nas.test/export"


@dataclass(frozen=True)
class Stores:
    """The part under test, and what only the test can do."""

    secondary: Secondary
    store: str
    """`file://`, acquired by r1 and r2."""
    files: Path
    """Where its files are."""
    not_allowed: str


@contextmanager
def opened(stores: Stores, path: str = PATH) -> Iterator[int]:
    descriptor = stores.secondary.open_image(stores.store, path)
    yield descriptor
    os.close(descriptor)


def begun(stores: Stores, data: bytes = b"data", path: str = PATH, owner: str = "r1") -> Part:
    part = stores.secondary.create_part(stores.store, path, owner)
    os.write(part.descriptor, data)
    return part


def published(stores: Stores, data: bytes = b"data", path: str = PATH, owner: str = "r1") -> int:
    return stores.secondary.publish(begun(stores, data, path, owner))


def all_files(stores: Stores) -> list[str]:
    return sorted(str(each.relative_to(stores.files)) for each in stores.files.rglob("*") if not each.is_dir())


def is_closed(descriptor: int) -> bool:
    return not Path(f"/proc/self/fd/{descriptor}").exists()


class SecondaryContract:
    """Inherit, and give a fixture `stores`."""

    def test_a_published_file_is_found_with_what_was_written(self, stores: Stores) -> None:
        assert not stores.secondary.exists(stores.store, PATH)
        assert published(stores, b"x" * MIB) == MIB
        assert stores.secondary.exists(stores.store, PATH)
        with opened(stores) as descriptor:
            assert os.pread(descriptor, 2 * MIB, 0) == b"x" * MIB
        assert all_files(stores) == [PATH]

    def test_others_may_read_a_published_file(self, stores: Stores) -> None:
        published(stores)
        stores.secondary.write_text(stores.store, "template.properties", "id=1\n")
        modes = [(stores.files / each).stat().st_mode & 0o777 for each in (PATH, "template.properties")]
        assert modes == [0o644, 0o644]

    def test_a_part_can_be_read_and_written_and_opened_anew(self, stores: Stores) -> None:
        part = begun(stores, b"0123456789")
        assert os.pread(part.descriptor, 4, 3) == b"3456"
        again = os.open(f"/proc/self/fd/{part.descriptor}", os.O_RDWR)
        with closing(os.fdopen(again, "r+b")) as file:
            file.write(b"x")
        stores.secondary.publish(part)
        assert (stores.files / PATH).read_bytes() == b"x123456789"

    def test_before_it_is_published_there_is_no_such_file(self, stores: Stores) -> None:
        part = begun(stores)
        assert not stores.secondary.exists(stores.store, PATH)
        with pytest.raises(ImageNotFound):
            stores.secondary.open_image(stores.store, PATH)
        stores.secondary.publish(part)

    def test_publishing_closes_the_part(self, stores: Stores) -> None:
        part = begun(stores)
        stores.secondary.publish(part)
        assert is_closed(part.descriptor)

    def test_a_discarded_part_leaves_nothing(self, stores: Stores) -> None:
        part = begun(stores)
        stores.secondary.discard_part(stores.store, PATH, "r1")
        assert is_closed(part.descriptor)
        assert all_files(stores) == []
        stores.secondary.discard_part(stores.store, PATH, "r1")
        stores.secondary.discard_part(stores.store, "no/such/directory", "r1")

    def test_discarding_does_not_touch_what_is_published_or_anothers(self, stores: Stores) -> None:
        published(stores, path="a")
        part = begun(stores, path="b", owner="r2")
        stores.secondary.discard_part(stores.store, "a", "r1")
        stores.secondary.discard_part(stores.store, "b", "r1")
        stores.secondary.publish(part)
        assert all_files(stores) == ["a", "b"]

    def test_a_part_that_is_begun_again_is_empty(self, stores: Stores) -> None:
        first = begun(stores, b"half of it")
        second = begun(stores, b"new")
        assert second.descriptor == first.descriptor or is_closed(first.descriptor)
        stores.secondary.publish(second)
        assert (stores.files / PATH).read_bytes() == b"new"
        assert all_files(stores) == [PATH]

    def test_a_file_that_is_there_is_not_begun_again(self, stores: Stores) -> None:
        published(stores, b"first")
        with pytest.raises(FileExists) as caught:
            stores.secondary.create_part(stores.store, PATH, "r2")
        assert caught.value.facts["path"] == PATH
        assert (stores.files / PATH).read_bytes() == b"first"

    def test_of_two_that_publish_one_name_the_first_has_it(self, stores: Stores) -> None:
        first, second = begun(stores, b"first"), begun(stores, b"second", owner="r2")
        stores.secondary.publish(first)
        with pytest.raises(FileExists):
            stores.secondary.publish(second)
        assert (stores.files / PATH).read_bytes() == b"first"
        assert is_closed(second.descriptor)
        assert all_files(stores) == [PATH]

    def test_a_part_that_somebody_removed_is_not_published(self, stores: Stores) -> None:
        part = begun(stores)
        for each in all_files(stores):
            (stores.files / each).unlink()
        with pytest.raises(SecondaryUnavailable):
            stores.secondary.publish(part)
        assert all_files(stores) == []

    @pytest.mark.parametrize("length", [200, 254, 255])
    def test_names_may_be_as_long_as_the_kernel_lets_them(self, stores: Stores, length: int) -> None:
        owner = "6e8742a9-3c7f-46ae-91a3-e2d90a4d9a15"
        names = ["x" * (length - 1) + ending for ending in "ab"]
        parts = [begun(stores, name.encode(), name, owner) for name in names]
        for part in parts:
            stores.secondary.publish(part)
        assert [(stores.files / name).read_text() for name in names] == names

    def test_a_file_that_is_missing_is_not_found(self, stores: Stores) -> None:
        published(stores)
        for path in ("none", "none/none", f"{Path(PATH).parent}/none"):
            assert not stores.secondary.exists(stores.store, path)
            with pytest.raises(ImageNotFound):
                stores.secondary.open_image(stores.store, path)

    @pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo", "hard link"])
    def test_what_is_no_file_of_one_name_is_no_image(self, stores: Stores, kind: str) -> None:
        make(stores.files, kind)
        with pytest.raises(ImageRefused):
            stores.secondary.open_image(stores.store, "odd")
        assert stores.secondary.exists(stores.store, "odd")
        with pytest.raises(FileExists):
            stores.secondary.create_part(stores.store, "odd", "r1")

    def test_no_symbolic_link_is_followed_on_the_way(self, stores: Stores) -> None:
        published(stores)
        (stores.files / "way").symlink_to(stores.files / "template")
        path = PATH.replace("template/", "way/", 1)
        for refused in (stores.secondary.open_image, stores.secondary.exists, stores.secondary.remove):
            with pytest.raises(ImageRefused):
                refused(stores.store, path)
        with pytest.raises(ImageRefused):
            stores.secondary.create_part(stores.store, f"{path}.new", "r1")
        with pytest.raises(ImageRefused):
            stores.secondary.write_text(stores.store, f"{path}.new", "text")
        with pytest.raises(ImageRefused):
            stores.secondary.local_path(stores.store, path)
        assert all_files(stores) == [PATH]

    def test_a_file_is_no_directory(self, stores: Stores) -> None:
        published(stores)
        with pytest.raises(ImageRefused):
            stores.secondary.create_part(stores.store, f"{PATH}/x", "r1")

    def test_text_is_written_over_text(self, stores: Stores) -> None:
        for text in ("first, and longer", "second"):
            stores.secondary.write_text(stores.store, "a/template.properties", text)
            assert (stores.files / "a/template.properties").read_text() == text
        assert all_files(stores) == ["a/template.properties"]

    def test_text_is_not_written_over_a_directory(self, stores: Stores) -> None:
        (stores.files / "a").mkdir()
        with pytest.raises(ImageRefused):
            stores.secondary.write_text(stores.store, "a", "text")
        assert all_files(stores) == []

    def test_a_removed_file_is_gone(self, stores: Stores) -> None:
        published(stores)
        stores.secondary.remove(stores.store, PATH)
        stores.secondary.remove(stores.store, PATH)
        stores.secondary.remove(stores.store, "no/such/directory")
        assert all_files(stores) == []

    @pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
    def test_only_files_are_removed(self, stores: Stores, kind: str) -> None:
        make(stores.files, kind)
        with pytest.raises(ImageRefused):
            stores.secondary.remove(stores.store, "odd")
        assert os.path.lexists(stores.files / "odd")

    def test_a_machine_may_have_a_file_of_a_local_store(self, stores: Stores) -> None:
        published(stores)
        assert Path(stores.secondary.local_path(stores.store, PATH)).samefile(stores.files / PATH)
        missing = Path(stores.secondary.local_path(stores.store, "not/yet"))
        assert (missing.name, missing.exists()) == ("yet", False)

    def test_a_machine_may_not_have_what_is_no_file(self, stores: Stores) -> None:
        make(stores.files, "link")
        with pytest.raises(ImageRefused):
            stores.secondary.local_path(stores.store, "odd")

    def test_a_machine_may_not_have_a_file_of_a_store_that_is_mounted_for_copies(self, stores: Stores) -> None:
        with pytest.raises(SecondaryNotAllowed):
            stores.secondary.local_path(NFS, PATH)

    def test_what_the_settings_do_not_allow_is_refused(self, stores: Stores) -> None:
        stores.secondary.check(stores.store)
        for refused in (stores.secondary.check, lambda store: stores.secondary.acquire(store, "r1")):
            with pytest.raises(SecondaryNotAllowed):
                refused(stores.not_allowed)
        with pytest.raises(SecondaryNotAllowed):
            stores.secondary.local_path(stores.not_allowed, "x")

    def test_a_store_is_usable_until_the_last_owner_has_released_it(self, stores: Stores) -> None:
        stores.secondary.acquire(stores.store, "r1")
        stores.secondary.release(stores.store, "r1")
        stores.secondary.release(stores.store, "r1")
        stores.secondary.release(stores.store, "somebody")
        assert not stores.secondary.exists(stores.store, PATH)
        stores.secondary.release(stores.store, "r2")
        with pytest.raises(SecondaryUnavailable):
            stores.secondary.exists(stores.store, PATH)
        with pytest.raises(SecondaryUnavailable):
            stores.secondary.create_part(stores.store, PATH, "r1")
        stores.secondary.acquire(stores.store, "r3")
        assert not stores.secondary.exists(stores.store, PATH)

    def test_scratch_is_empty_writable_and_has_no_name(self, stores: Stores) -> None:
        descriptor = stores.secondary.scratch("r1")
        assert os.fstat(descriptor).st_size == 0
        assert os.fstat(descriptor).st_nlink == 0
        with open(f"/proc/self/fd/{descriptor}", "r+b") as file:  # noqa: PTH123 - as a child does
            file.write(b"data")
        assert os.pread(descriptor, 9, 0) == b"data"
        os.close(descriptor)


def make(files: Path, kind: str) -> None:
    """Something named `odd`."""
    odd = files / "odd"
    match kind:
        case "link":
            (files / "target").write_bytes(b"secret")
            odd.symlink_to("target")
        case "dangling":
            odd.symlink_to("nowhere")
        case "directory":
            odd.mkdir()
        case "fifo":
            os.mkfifo(odd)
        case "hard link":
            (files / "target").write_bytes(b"secret")
            odd.hardlink_to(files / "target")
        case _:
            raise AssertionError(kind)
