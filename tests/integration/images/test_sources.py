# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The way of a template: downloaded, unpacked, looked into, converted."""

import gzip
import os
import subprocess
import tempfile
from pathlib import Path

from image_files import Watched
from image_server import body, web_site
from storpool_agent.host import Images
from storpool_agent.images.model import Image, Look
from storpool_agent.images.tools import ImageTools

MIB = 1 << 20


def test_a_packed_qcow2_of_a_web_server_becomes_the_disk_that_was_put_into_it(job: Watched, tmp_path: Path) -> None:
    raw, qcow2 = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(os.urandom(2 * MIB) + bytes(3 * MIB))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    tools: Images = ImageTools(allowed_hosts=["127.0.0.0/8"])
    with web_site() as site, tempfile.TemporaryFile() as download, tempfile.TemporaryFile() as unpacked:
        url = site.serve("/disk.qcow2.gz", body(gzip.compress(qcow2.read_bytes()), breaks_after=MIB))
        tools.fetch(url, download.fileno(), job.task, max_bytes=10 * MIB)
        packed = Image(download.fileno(), "raw", name="the download")
        tools.unpack(packed, "gzip", unpacked.fileno(), job.task, max_bytes=10 * MIB)
        image = Image(unpacked.fileno(), "qcow2", name="what was unpacked")
        assert tools.inspect(image, job.task, max_size_bytes=10 * MIB) == Look(5 * MIB)
        with tempfile.TemporaryFile() as disk:
            tools.convert(image, Image(disk.fileno(), "raw", name="the disk"), job.task)
            assert disk.read() == raw.read_bytes()
