# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""`--devices=files`: what works without root."""

import subprocess
from pathlib import Path

import pytest

from storpool_devcluster import cluster as clusters
from storpool_devcluster.cluster import Options

from .conftest import Caller, Failed


def test_nodes_are_files_of_the_right_size_and_busy_while_open(tmp_path: Path) -> None:
    root = tmp_path / "dev"
    cluster = clusters.start(Options(tmp_path / "state", {1: root}, devices="files"))
    try:
        storpool = Caller(cluster)
        gid = storpool.create("x", size=4096)
        storpool.attach("x")
        node = root / "storpool-byid" / gid
        assert node.readlink() == (root / "storpool" / "x").readlink() == root / "sp-0"
        node.write_bytes(b"data".ljust(4096))
        clone = storpool.create(size=None, parent=f"~{storpool.snapshot('x')}")
        storpool.attach(f"~{clone}")
        assert (root / "storpool-byid" / clone).read_bytes().startswith(b"data")
        # Its own process does not count as an opener: another has to hold the file.
        with node.open("rb") as file, subprocess.Popen(["sleep", "60"], stdin=file) as holder:
            with pytest.raises(Failed, match="'x' is open at client 1"):
                storpool.post("VolumesReassign", [{"volume": "x", "detach": [1]}])
            holder.kill()
        storpool.post("VolumesReassign", [{"volume": "x", "detach": [1]}])
        assert not (root / "sp-0").is_symlink()
    finally:
        cluster.stop()
    assert [path for path in root.rglob("*") if not path.is_dir()] == []
