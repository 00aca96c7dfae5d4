# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in for mount.nfs comes and goes without a trace, and spares a real one."""

import os
import subprocess
import sys
from pathlib import Path

import mount_helper

WAIT_S = 30.0
IN_A_NAMESPACE_OF_ITS_OWN = """
mount -t overlay overlay -o "lowerdir=/usr/sbin,upperdir=$1/upper,workdir=$1/work" /usr/sbin
rm -f /usr/sbin/mount.nfs
[ -z "$2" ] || echo "$2" >/usr/sbin/mount.nfs
exec "$3" -c "$4" "$1"
"""
STORY = """
import sys
from pathlib import Path
import mount_helper
mount_helper.PLACE = Path(sys.argv[1], "place")

def present():
    return mount_helper.HELPER.read_text() if mount_helper.HELPER.exists() else None

before = None if mount_helper.MARK in (present() or "") else present()
for _ in range(2):
    with mount_helper.mount_helper():
        with mount_helper.mount_helper():
            assert present() == mount_helper.SCRIPT
        assert present() == mount_helper.SCRIPT, "another still needs it"
    assert present() == before
print(before)
"""


def test_where_there_is_none_it_is_installed_while_it_is_needed(tmp_path: Path) -> None:
    assert told(tmp_path, real="") == "None"


def test_a_real_one_is_covered_while_it_is_needed(tmp_path: Path) -> None:
    assert told(tmp_path, real="nfs-common's") == "nfs-common's"


def test_one_that_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    assert told(tmp_path, real=f"#!/bin/sh\n{mount_helper.MARK}") == "None"


def told(directory: Path, real: str) -> str:
    for each in ("upper", "work"):
        (directory / each).mkdir()
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", IN_A_NAMESPACE_OF_ITS_OWN, "sh"]
    arguments = [str(directory), real, sys.executable, STORY]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=WAIT_S
    )
    return ended.stdout.strip()
