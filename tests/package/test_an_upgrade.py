# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What was installed earlier becomes what is built now, while commands come. Each test goes on from the last."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from package.host import CONFIG, NAME, UNIT, InstallHost
from package.packages import Package
from raw_client import RawClient, raw_client
from storpool_commands.control import Ping

MIB = 1 << 20
IN_FLIGHT = 20
"""Of each kind; both together are more than the lane has workers: some run and some wait when the upgrade begins."""
HOLD_S = 4
"""How long StorPool takes for each of them: longer than dpkg takes to come to the stop of the agent."""
ANSWERED_S = 120.0
BETWEEN_S = 0.05
SLOW = ("VolumeCreate", "VolumesReassignWait")


def test_an_agent_whose_settings_were_there_first_starts_by_itself(host: InstallHost, earlier_deb: Package) -> None:
    host.make_storpool_host()
    host.debian.write(CONFIG, host.settings(), mode=0o600)
    host.install(earlier_deb.file)
    assert host.property("ActiveState") == "active"
    assert host.call(Ping()).version == earlier_deb.version


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


def test_settings_that_the_admin_has_written_are_kept(host: InstallHost) -> None:
    assert host.debian.path(CONFIG).read_text() == host.settings()
    shown = host.debian.output("stat", "--format=%a %n", CONFIG, f"{CONFIG}.dpkg-dist")
    assert shown.splitlines() == [f"600 {CONFIG}", f"600 {CONFIG}.dpkg-dist"]


def test_an_agent_that_the_admin_has_stopped_stays_so(host: InstallHost, earlier_deb: Package) -> None:
    host.debian.run("systemctl", "stop", UNIT)
    host.install(earlier_deb.file, "--allow-downgrades")
    assert host.property("ActiveState") == "inactive"


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
