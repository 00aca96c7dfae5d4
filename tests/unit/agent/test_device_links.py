# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which volume a name stands for, when only the links can say."""

from pathlib import Path

from storpool_agent.devices.tree import DeviceTree


def test_a_name_stands_for_the_volume_whose_link_leads_to_the_same_node(tmp_path: Path) -> None:
    for directory in ("storpool", "storpool-byid"):
        (tmp_path / directory).mkdir()
    for number, (name, global_id) in enumerate([("disk-1", "d.n.a1"), ("disk-2", "d.n.a2")]):
        (tmp_path / f"sp-{number}").touch()
        (tmp_path / "storpool" / name).symlink_to(f"../sp-{number}")
        (tmp_path / "storpool-byid" / global_id).symlink_to(f"../sp-{number}")
    (tmp_path / "storpool" / "gone").symlink_to("../sp-9")
    (tmp_path / "storpool-byid" / "d.n.a9").symlink_to("../sp-9")
    tree = DeviceTree(tmp_path)
    found = [tree.linked_as(name) for name in ("disk-1", "disk-2", "gone", "never")]
    assert found == ["d.n.a1", "d.n.a2", None, None]
