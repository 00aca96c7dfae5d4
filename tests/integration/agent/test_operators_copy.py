# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A copy as who sits at a terminal has it: storpool-ctl shows how far it is, and Ctrl-C has the agent stop it."""

from integration.agent.copy_lab import CopyLab
from integration.client.terminal import CTRL_C, Terminal
from storpool_commands.references import parse

SLOW = str(1 << 20)
"""Bytes a second: the copy is not over before the keys are pressed."""


def backup(lab: CopyLab, snapshot: str, path: str, *further: str) -> Terminal:
    where = ("--url", lab.stack.client_url, "--host", lab.stack.host)
    what = ("--snapshot", str(parse(snapshot)), "--target-store", lab.nfs.url, "--target-path", path, "--format", "raw")
    return Terminal(*where, "backup-snapshot", *what, *further)


def test_ctrl_c_asks_and_then_nothing_is_left_of_the_copy(lab: CopyLab) -> None:
    snapshot = lab.snapshot(b"\x5a" * (16 << 20))
    with backup(lab, snapshot, "cancelled.raw", "--bandwidth-bytes-s", SLOW) as terminal:
        shown = terminal.until("MiB/s")
        assert "copy" in shown
        assert "%" in shown
        assert lab.temporary()
        terminal.press(CTRL_C)
        terminal.until("[y/N/d=detach]")
        terminal.press("y\n")
        assert terminal.end() == 1
    assert "cancelled" in terminal.shown
    assert (lab.temporary(), lab.stack.attachments(snapshot)) == (set(), [])
    assert "cancelled.raw" not in lab.nfs.names()


def test_a_copy_that_is_let_go_on_is_finished(lab: CopyLab) -> None:
    data = b"\xa5" * (4 << 20)
    snapshot = lab.snapshot(data)
    with backup(lab, snapshot, "finished.raw", "--bandwidth-bytes-s", SLOW) as terminal:
        terminal.until("copy")
        terminal.press(CTRL_C)
        terminal.until("[y/N/d=detach]")
        terminal.press("n\n")
        assert terminal.end() == 0
    assert lab.nfs.disk("finished.raw") == data
