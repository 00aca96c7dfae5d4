# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is said to do about a volume: the right thing for each case, by commands that there are."""

import re
import shlex
from typing import Any

import click
import pytest

from storpool_agent import advice
from storpool_agent.cli.program import main
from storpool_commands.client.cli.app import program
from storpool_commands.disks import AttachedTo, Holder
from storpool_commands.explaining import ExplainedVolume, SeenDisk, SeenJob, SeenUnplug
from unit.commands.host_samples import EXPLAINED, JOB, NOW, VM

OTHER = "11111111-2222-3333-4444-555555555555"
FREE: dict[str, Any] = {
    "attachments": [],
    "device": None,
    "link": None,
    "holders": [],
    "disks": [],
    "jobs": [],
    "recent": [],
    "pending_unplug": None,
    "writing": None,
    "temporaries": [],
    "not_known": [],
}
HERE: dict[str, Any] = {"attachments": EXPLAINED.attachments, "device": EXPLAINED.device, "link": EXPLAINED.link}
DISK = EXPLAINED.disks[0]
OFF = DISK.model_copy(update={"running": False, "live": False})
RUNNING = EXPLAINED.jobs[0]
WAITING = SeenJob(id=JOB, body_command="attachDisk", state="queued", received_at=NOW)
UNPLUG = SeenUnplug(vm=VM, request=str(JOB), since=NOW)
STRANGE = "web 1; rm -rf"


def seen(**changes: Any) -> ExplainedVolume:
    return EXPLAINED.model_copy(update={**FREE, **changes})


def elsewhere(mode: Any = "rw") -> list[AttachedTo]:
    return [AttachedTo(client=2, mode=mode)]


def disk(name: str) -> SeenDisk:
    return DISK.model_copy(update={"name": name})


CASES = [
    pytest.param(seen(), "attached nowhere, and nothing", ["connect-physical-disk --volume"], id="free"),
    pytest.param(seen(**HERE), "attached here (rw), and nothing", ["disconnect-physical-disk --volume"], id="idle"),
    pytest.param(
        seen(**HERE, disks=[DISK]),
        "Machine web-1 runs with it as vdb",
        ["detach-disk --vm"],
        id="a machine runs with it",
    ),
    pytest.param(
        seen(**HERE, disks=[OFF]), "nothing on this host uses it", ["virsh start web-1"], id="a machine is off"
    ),
    pytest.param(
        seen(**HERE, disks=[DISK], pending_unplug=UNPLUG),
        "Machine web-1 runs with it as vdb. Its guest was asked to let go of it, and has not yet.",
        ["as soon as the guest of web-1 lets go", "virsh shutdown web-1"],
        id="a guest has not let go",
    ),
    pytest.param(
        seen(**HERE, holders=[Holder(kind="process", name="dd", pid=7)]),
        "Process dd (pid 7) has it open",
        ["ps -fp 7"],
        id="a process has it open",
    ),
    pytest.param(
        seen(**HERE, holders=[Holder(kind="mount", name="/mnt/a b", pid=None)]),
        "It is mounted at /mnt/a b",
        ["umount '/mnt/a b'"],
        id="it is mounted",
    ),
    pytest.param(
        seen(**HERE, holders=[Holder(kind="mount", name="/mnt", pid=9)]),
        "in the mount namespace of process 9",
        ["nsenter -t 9 -m umount /mnt"],
        id="it is mounted elsewhere",
    ),
    pytest.param(
        seen(**HERE, holders=[Holder(kind="device", name="vg-lv", pid=None)]),
        "Device vg-lv is made on top",
        ["lsblk /dev/sp-1"],
        id="something is on top",
    ),
    pytest.param(
        seen(**HERE, holders=[Holder(kind="vm", name="ghost", pid=9)]),
        "QEMU of machine ghost (pid 9)",
        ["ps -fp 9"],
        id="a QEMU that libvirt does not know has it",
    ),
    pytest.param(
        seen(**HERE, jobs=[RUNNING, WAITING]),
        "detachDisk 8a6214d1 is at work on it",
        [f"Wait for detachDisk: `storpool-agent job {JOB}`", "1 request waits for it; the next is attachDisk"],
        id="requests",
    ),
    pytest.param(
        seen(**{**HERE, "attachments": [*EXPLAINED.attachments, *elsewhere()]}, disks=[DISK]),
        "Machine web-1 runs",
        ["right only while a machine migrates"],
        id="two writers",
    ),
    pytest.param(
        seen(attachments=elsewhere()),
        "not attached here, but to client 2 (rw)",
        ["storpool-agent why", "Only if that host is dead", "fence-volumes --volumes"],
        id="attached elsewhere",
    ),
    pytest.param(
        seen(writing=str(JOB), jobs=[RUNNING]), "at work on it", [f"storpool-agent cancel {JOB}"], id="being written"
    ),
    pytest.param(
        seen(writing=OTHER), "attached nowhere", ["does not run on this host", "query-command --id"], id="half written"
    ),
    pytest.param(
        seen(attachments=EXPLAINED.attachments), "attached here", ["systemctl status storpool_block"], id="no device"
    ),
    pytest.param(seen(link="/dev/storpool-byid/d.n.a1"), "nowhere", ["A link is left"], id="a link is left"),
    pytest.param(seen(volume=None), "StorPool has no volume or snapshot", ["Is it spelt right"], id="no such"),
    pytest.param(seen(volume=None, disks=[OFF]), "no volume", ["names it as a disk all the same"], id="a dead disk"),
    pytest.param(
        seen(volume=None, not_known=["StorPool: it is down"]),
        "Nothing that could be asked knows",
        ["StorPool did not say"],
        id="StorPool is silent",
    ),
    pytest.param(seen(disks=[DISK]), "StorPool does not list it as attached here", [], id="used and not attached"),
    pytest.param(seen(**HERE, disks=[disk(STRANGE)], pending_unplug=UNPLUG), STRANGE, [], id="a strange name"),
]


@pytest.mark.parametrize(("volume", "who", "what"), CASES)
def test_each_case_has_its_sentence_and_its_advice(volume: ExplainedVolume, who: str, what: list[str]) -> None:
    said = advice.what_to_do(volume, "kvm1")
    assert who in advice.summary(volume, "~d.n.a1")
    assert said
    assert [one for one in what if not any(one in each for each in said)] == []


@pytest.mark.parametrize(("volume", "_who", "_what"), CASES)
def test_every_command_in_it_is_one_that_there_is(volume: ExplainedVolume, _who: str, _what: list[str]) -> None:
    for text in advice.what_to_do(volume, "kvm1"):
        for command in re.findall(r"`([^`]+)`", text):
            words = shlex.split(command)
            assert ";" not in words, "a name was not quoted"
            if words[0] == "storpool-ctl":
                taken(program, words[1:])
            if words[0] == "storpool-agent":
                taken(main, words[1:])


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (
            seen(**HERE, not_known=["libvirt: it is down"]),
            "attached here (rw). It is not known which machines",
        ),
        (seen(not_known=["libvirt: y"]), "It is attached nowhere. It is not known which machines have it."),
        (
            seen(not_known=["StorPool: x", "libvirt: y"]),
            "knows who has it. It is not known where it is attached, nor which machines have it.",
        ),
        (seen(attachments=elsewhere(), not_known=["libvirt: y"]), "client 2 (rw). It is not known which machines"),
        (
            seen(**HERE, disks=[DISK], not_known=["the journal: y"]),
            "as vdb. It is not known which requests",
        ),
    ],
    ids=["libvirt", "free", "both", "elsewhere", "journal"],
)
def test_what_nobody_has_said_is_not_taken_for_a_no(volume: ExplainedVolume, said: str) -> None:
    told = advice.summary(volume, "disk-1")
    assert said in told
    assert "nothing on this host uses it" not in told


def test_nothing_is_detached_that_a_machine_may_use() -> None:
    """What could not be asked may have it."""
    for told in (seen(**HERE, not_known=["libvirt: down"]), seen(**HERE, disks=[OFF]), seen(**HERE, jobs=[WAITING])):
        assert not [one for one in advice.what_to_do(told, "kvm1") if "disconnect-physical-disk" in one]


def taken(group: click.Group, words: list[str]) -> None:
    """The program takes these arguments; nothing is run."""
    context = group.make_context(group.name, list(words))
    at = next(place for place, word in enumerate(words) if word in group.list_commands(context))
    command = group.get_command(context, words[at])
    assert command is not None
    command.make_context(words[at], words[at + 1 :], parent=context)


def test_a_machine_that_is_shown_needs_no_pid() -> None:
    assert advice.strangers(seen(disks=[DISK], holders=[Holder(kind="vm", name="web-1", pid=1)])) == []
