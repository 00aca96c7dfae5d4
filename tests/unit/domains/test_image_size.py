# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The size of a disk in a file is what the file says, if it is what it is said to be."""

import subprocess
from pathlib import Path

import pytest

from storpool_agent.domains import image_size
from storpool_agent.domains.model import MirrorTarget
from storpool_agent.errors import BlockJobFailed

SIZE_BYTES = 3 * 1024 * 1024


def test_the_size_of_a_raw_file_is_its_length(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(SIZE_BYTES))
    assert image_size.size_bytes(MirrorTarget(str(tmp_path / "raw"), "raw", device=False)) == SIZE_BYTES


def test_the_size_of_a_qcow2_is_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(SIZE_BYTES)], check=True, timeout=30)
    assert image_size.size_bytes(MirrorTarget(str(path), "qcow2", device=False)) == SIZE_BYTES


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (MirrorTarget("/nowhere", "raw", device=False), "cannot be opened: No such file"),
        (MirrorTarget("/etc/hostname", "qcow2", device=False), "is no qcow2"),
        (MirrorTarget("/dev/null", "qcow2", device=False), "is no file"),
        (MirrorTarget("/etc/hostname", "raw", device=True), "is no block device"),
    ],
    ids=["missing", "another format", "no file", "no device"],
)
def test_what_is_not_what_it_is_said_to_be_is_refused(target: MirrorTarget, why: str) -> None:
    with pytest.raises(BlockJobFailed, match=why):
        image_size.size_bytes(target)
