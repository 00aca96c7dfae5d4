# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From the bare host to the last trace: installed, configured, used, upgraded, removed, purged.

Each test goes on from where the last one has left the host: this is one story, and the host takes long to make.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from booted_debian import Debian
from package.host import CONFIG, NAME, STATE, UNIT, InstallHost
from package.packages import Package
from raw_client import RawClient, raw_client
from storpool_commands.control import ListCommands, Ping
from storpool_commands.copies import CopyVolumeToSecondary
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk, StorpoolResize
from storpool_commands.images import StoredImage
from storpool_commands.volumes import CreateVolume

MIB = 1 << 20
PATTERN = b"written by the host " * 64
WATCHDOG_S = 5
DOCUMENT = "/usr/share/doc/storpool-agent/operating.md"
IN_FLIGHT = 20
"""Of each kind; both together are more than the lane has workers: some run and some wait when the upgrade begins."""
HOLD_S = 4
"""How long StorPool takes for each of them: longer than dpkg takes to come to the stop of the agent."""
RPM = ("rpm", "--force-debian", "--nodeps")
"""Its dependencies are called as other distributions call them; here the Debian package has left the same behind."""
ANSWERED_S = 120.0
BETWEEN_S = 0.05
SLOW = ("VolumeCreate", "VolumesReassignWait")


def test_a_bare_host_gets_what_the_agent_needs_and_is_told_what_is_missing(
    host: InstallHost, earlier_deb: Package
) -> None:
    said = host.install(earlier_deb.file)
    assert "not started: storpool.token_file is not set" in said
    assert host.debian.output("storpool-agent", "--version").endswith(earlier_deb.version)
    assert (host.property("UnitFileState"), host.property("ActiveState")) == ("enabled", "inactive")


def test_the_settings_are_for_root_alone(host: InstallHost) -> None:
    shown = host.debian.output("stat", "--format=%a %U %n", CONFIG, "/etc/storpool-agent")
    assert shown.split("\n") == [f"600 root {CONFIG}", "700 root /etc/storpool-agent"]


def test_its_manual_is_where_an_admin_looks(host: InstallHost) -> None:
    assert host.exists("/usr/share/man/man5/agent.toml.5.gz")
    assert shlex.split(host.property("Documentation")) == ["man:storpool-agent(1)", f"file:{DOCUMENT}"]
    assert host.exists("/usr/share/man/man1/storpool-agent.1.gz")
    assert host.exists(DOCUMENT)


def test_a_configured_agent_starts_and_says_what_it_does(host: InstallHost) -> None:
    host.make_storpool_host()
    host.configure()
    host.debian.run("storpool-agent", "check-config")
    host.debian.run("systemctl", "start", UNIT)
    [ready] = host.events("ready")
    assert ready["broker"]
    assert "kvm1" in host.property("StatusText")
    assert f'Status: "{host.property("StatusText")}"' in host.debian.output("systemctl", "status", UNIT)
    assert host.call(Ping()).host == "kvm1"


def test_a_volume_is_attached_grown_and_detached(host: InstallHost) -> None:
    volume = host.call(CreateVolume(size_bytes=64 * MIB, template="dev")).path
    connected = host.call(ConnectPhysicalDisk(volume=volume))
    assert host.debian.output("blockdev", "--getsize64", connected.path) == str(64 * MIB)
    assert host.call(StorpoolResize(volume=volume, new_size_bytes=96 * MIB)).device_size_bytes == 96 * MIB
    assert host.debian.output("blockdev", "--getsize64", connected.path) == str(96 * MIB)
    assert host.call(DisconnectPhysicalDisk(volume=volume)).detached_now
    assert not host.exists(connected.path)


def test_a_copy_works_with_the_tools_that_were_installed_with_it(host: InstallHost) -> None:
    volume = host.call(CreateVolume(size_bytes=16 * MIB, template="dev")).path
    device = Path(host.call(ConnectPhysicalDisk(volume=volume)).path)
    data = PATTERN.ljust(16 * MIB, b"\0")
    device.write_bytes(data)
    host.call(DisconnectPhysicalDisk(volume=volume))
    target = StoredImage(store=f"file://{host.images}", path="disk.qcow2")
    assert host.call(CopyVolumeToSecondary(volume=volume, target=target)).block_hash
    host.debian.run("qemu-img", "convert", "-O", "raw", f"{host.images}/disk.qcow2", f"{host.images}/disk.raw")
    assert (host.images / "disk.raw").read_bytes() == data


def test_commands_can_be_sent_from_a_shell(host: InstallHost, ctl_deb: Package) -> None:
    host.install(ctl_deb.file)
    sent = host.debian.output("storpool-ctl", "--url", host.amqp_url, "--host", "kvm1", "--json", "ping")
    assert json.loads(sent)["result"]["host"] == "kvm1"


@pytest.mark.parametrize(
    ("program", "typed", "completed"),
    [("storpool-agent", "check", "check-config"), ("storpool-ctl", "connect-p", "connect-physical-disk")],
)
def test_a_shell_completes_them(host: InstallHost, program: str, typed: str, completed: str) -> None:
    script = f"""
        . /usr/share/bash-completion/completions/{program}
        COMP_WORDS=({program} {typed}) COMP_CWORD=1
        $(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {program} {typed} {program}
        echo "${{COMPREPLY[@]}}"
    """
    assert host.debian.output("bash", "-c", script) == completed


def test_an_agent_that_hangs_is_started_again(host: InstallHost) -> None:
    assert host.property("WatchdogUSec") not in {"0", "infinity"}
    with short_watchdog(host):
        began = host.property("WatchdogTimestampMonotonic")
        host.debian.wait_for(lambda: host.property("WatchdogTimestampMonotonic") != began, "a sign of life")
        hanging = host.property("MainPID")
        host.debian.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
        host.debian.wait_for(lambda: host.property("NRestarts") == "1", "another start")
        assert host.call(Ping()).host == "kvm1"
        assert host.property("MainPID") not in {"0", hanging}


def test_no_command_is_lost_or_done_twice(host: InstallHost, agent_deb: Package) -> None:
    volumes = [host.storpool.create(MIB, template="dev") for _ in range(IN_FLIGHT)]
    before = set(host.volumes())
    with raw_client(host.amqp_url, NAME) as sender, slow_storpool(host):
        creates = [sender.ask({"command": "createVolume", "sizeBytes": MIB, "template": "dev"}) for _ in volumes]
        connects = [sender.ask({"command": "connectPhysicalDisk", "volume": f"~{each}"}) for each in volumes]
        host.debian.wait_for(lambda: host.running() > 0, "a command that runs")
        upgrade = host.start_install(agent_deb.file)
        late = list(ask_until(sender, lambda: upgrade.poll() is not None))
        said, _ = upgrade.communicate()
        assert upgrade.returncode == 0, said
        host.storpool.sim.clear_faults()
        asked = [*creates, *connects, *late]
        replies = [sender.reply(each, ANSWERED_S) for each in asked]
        sender.settle()
        assert {reply["status"] for reply in replies} == {"success"}
        assert sender.answered_twice() == {}
    assert [event["requests"] for event in host.events("recovering")] != [], "nothing waited: the test proves little"
    assert {str(reply["result"]["globalId"]) for reply in replies[: len(creates)]} == set(host.volumes()) - before
    assert all(host.attached(each) == [(1, "rw")] for each in volumes)
    assert host.call(Ping()).version == agent_deb.version


def test_what_is_upgraded_is_as_it_was_built(host: InstallHost) -> None:
    assert host.debian.output("dpkg", "--verify", "storpool-agent").split() == ["??5??????", "c", CONFIG]


def test_settings_that_the_admin_has_written_are_kept(host: InstallHost) -> None:
    assert f'device_root = "{host.devices}"' in host.debian.path(CONFIG).read_text()
    shown = host.debian.output("stat", "--format=%a %n", CONFIG, f"{CONFIG}.dpkg-dist")
    assert shown.splitlines() == [f"600 {CONFIG}", f"600 {CONFIG}.dpkg-dist"]


def test_an_agent_that_the_admin_has_stopped_stays_so(host: InstallHost, earlier_deb: Package) -> None:
    host.debian.run("systemctl", "stop", UNIT)
    host.install(earlier_deb.file, "--allow-downgrades")
    assert host.property("ActiveState") == "inactive"


def test_a_removed_agent_ends_and_leaves_its_settings_and_its_journal(host: InstallHost) -> None:
    host.debian.run("systemctl", "start", UNIT)
    settings, stops = host.debian.path(CONFIG).read_text(), len(host.events("stopped"))
    host.debian.run("apt-get", "remove", "--yes", "storpool-agent")
    assert len(host.events("stopped")) == stops + 1
    assert not host.exists("/opt/storpool-agent")
    assert not host.exists("/usr/bin/storpool-agent")
    assert host.debian.path(CONFIG).read_text() == settings
    assert host.exists(f"{STATE}/journal.db")
    assert host.debian.run("systemctl", "is-active", UNIT, check=False).stdout == "inactive\n"


def test_installed_again_it_starts_and_knows_what_it_has_answered(host: InstallHost, agent_deb: Package) -> None:
    host.install(agent_deb.file)
    assert "connectPhysicalDisk" in {each.body_command for each in host.control(ListCommands(limit=1000)).commands}


def test_a_purge_leaves_no_trace_and_keeps_off_what_is_mounted(host: InstallHost) -> None:
    mounted = "/run/storpool-agent/mounts/nas1"
    host.debian.run("systemctl", "stop", UNIT)  # it would unmount it
    host.debian.run("mkdir", "--parents", mounted)
    host.debian.run("mount", "-t", "tmpfs", "somebodys", mounted)
    host.debian.write(f"{mounted}/disk.qcow2", "an image")
    host.debian.write("/etc/storpool-agent/amqp-password", "secret", mode=0o600)
    host.debian.run("apt-get", "purge", "--yes", "storpool-agent")
    assert host.debian.output("cat", f"{mounted}/disk.qcow2") == "an image"
    host.debian.run("umount", mounted)
    host.debian.run("rm", "--recursive", "/run/storpool-agent")
    assert traces(host.debian) == []


def test_the_rpm_waits_for_the_admin(host: InstallHost, agent_rpm: Package) -> None:
    host.install("rpm")
    host.debian.run(*RPM, "--install", str(agent_rpm.file))
    assert host.property("ActiveState") == "inactive"
    assert host.debian.output("storpool-agent", "--version").endswith(agent_rpm.version)
    assert host.debian.output("stat", "--format=%a %U", CONFIG, "/etc/storpool-agent").splitlines() == [
        "600 root",
        "700 root",
    ]


def test_an_upgrade_of_the_rpm_starts_what_it_has_stopped(host: InstallHost, agent_rpm: Package) -> None:
    host.configure()
    host.debian.run("systemctl", "start", UNIT)
    settings, before = host.debian.path(CONFIG).read_text(), host.property("MainPID")
    host.debian.run(*RPM, "--upgrade", "--force", str(agent_rpm.file))
    assert host.property("ActiveState") == "active"
    assert host.property("MainPID") != before
    assert host.debian.path(CONFIG).read_text() == settings
    assert host.call(Ping()).version == agent_rpm.version


def test_erasing_the_rpm_ends_the_agent_and_keeps_its_settings_and_its_journal(host: InstallHost) -> None:
    stops = len(host.events("stopped"))
    host.debian.run("rpm", "--erase", "storpool-agent")
    assert len(host.events("stopped")) == stops + 1
    assert not host.exists("/opt/storpool-agent")
    assert host.debian.output("stat", "--format=%a", f"{CONFIG}.rpmsave") == "600"
    assert host.exists(f"{STATE}/journal.db")


@contextmanager
def short_watchdog(host: InstallHost) -> Iterator[None]:
    """systemd notices within seconds; the unit's own patience is for loaded hosts."""
    directory = f"/run/systemd/system/{UNIT}.d"
    host.debian.write(f"{directory}/watchdog.conf", f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    host.debian.run("systemctl", "daemon-reload")
    host.debian.run("systemctl", "restart", UNIT)
    try:
        yield
    finally:
        host.debian.run("rm", "--recursive", directory)
        host.debian.run("systemctl", "daemon-reload")
        host.debian.run("systemctl", "restart", UNIT)


def ask_until(sender: RawClient, ended: Callable[[], bool]) -> Iterator[str]:
    """Send one command after the other; their ids."""
    while not ended():
        yield sender.ask({"command": "ping"})
        sender.listen_for(BETWEEN_S)


@contextmanager
def slow_storpool(host: InstallHost) -> Iterator[None]:
    for query in SLOW:
        host.storpool.sim.fault({"kind": "delay", "seconds": HOLD_S}, times=None, query=query)
    try:
        yield
    finally:
        host.storpool.sim.clear_faults()


def traces(debian: Debian) -> list[str]:
    """What is called after the agent, but for the logs of what was done and the archives that it came from."""
    found = debian.output("find", "/etc", "/opt", "/run", "/usr", "/var", "-xdev", "-name", "*storpool-agent*")
    return [line for line in found.splitlines() if not line.startswith(("/var/log/", "/var/cache/apt/archives/"))]
