# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Agent and management plane by certificates, with the permissions that storpool-ctl gives; and what is refused."""

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_process import AgentProcess, Stack, running_stack
from integration.agent.refusals import nothing_changes
from integration.client.proxy import Proxy
from integration.security.provisioned import VHOST, Provisioned
from pki import EXPIRED, Authority, Certificate
from real_lab import wait_for
from storpool_commands import topology
from storpool_commands.client import CommandFailed
from storpool_commands.control import Drain, Ping
from storpool_commands.disks import ConnectPhysicalDisk, DisconnectPhysicalDisk
from storpool_commands.errors import ErrorCode
from storpool_commands.snapshots import TakeSnapshot
from storpool_commands.volumes import DeleteVolume
from storpool_commands.wire import CommandModel

WAIT_S = 30.0
TRIES = 3
"""So often it has to be said, so that it is known to be tried again."""
ALLOWED = {"cloud": ["all"], "backup": ["read", "takeSnapshot"]}
LINKS = {"in", "out"}
ALERT_LOST = "the broker ended the connection at its beginning: does it want a client certificate"
"""What is said in its place: the broker closes as soon as it has sent its alert, and may be faster than we read."""


@pytest.fixture(scope="module")
def mine(provisioned: Provisioned, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that the agent's settings name; what is in them is each test's to say."""
    directory = tmp_path_factory.mktemp("agent")
    return {name: directory / f"{name}.pem" for name in ("ca", "cert", "key")}


@pytest.fixture(scope="module")
def stack(provisioned: Provisioned, mine: dict[str, Path]) -> Iterator[Stack]:
    """Its agent is on the provisioned broker; `stack.management` is not."""
    put(provisioned.ca, provisioned.certificates["host-kvm1"], mine)
    files = {name: str(path) for name, path in mine.items()}
    amqp = {**provisioned.login("host-kvm1"), **files, "declare": False, "allowed_publishers": ALLOWED}
    with running_stack(amqp=amqp) as running:
        yield running


def put(ca: Path, certificate: Certificate, mine: dict[str, Path]) -> None:
    certificate.put_over(Certificate(mine["cert"], mine["key"]))
    mine["ca"].write_bytes(ca.read_bytes())


def audited(stack: Stack, request_id: object) -> list[dict[str, Any]]:
    return [line for line in stack.agent.events() if line.get("audit") and line["request"] == str(request_id)]


def test_a_command_is_served_by_certificates_alone(provisioned: Provisioned, stack: Stack) -> None:
    volume = stack.create()
    with provisioned.management("cloud") as client:
        assert client.control(Ping(), host="kvm1").host == "kvm1"
        disk = client.call(ConnectPhysicalDisk(volume=volume), host="kvm1")
        assert stack.attachments(volume) == [(1, "rw")]
        assert disk.attached_now
        reply = client.ask(DisconnectPhysicalDisk(volume=volume), host="kvm1")
    assert [(line["event"], line["publisher"]) for line in audited(stack, reply.id)] == [
        ("accepted", "cloud"),
        ("done", "cloud"),
    ]
    assert [line for line in stack.agent.events() if line["level"] in {"warning", "error"}] == []


def test_a_publisher_may_send_what_it_is_allowed_and_nothing_else(provisioned: Provisioned, stack: Stack) -> None:
    volume = stack.create()
    provisioned.broker.ctl("purge_queue", "--vhost", VHOST, topology.DEAD_LETTERS)
    with provisioned.management("backup") as client:
        client.call(TakeSnapshot(volume=volume), host="kvm1")
        commands: tuple[CommandModel[Any], ...] = (DeleteVolume(volume=volume), Drain(on=True))
        for command in commands:
            with nothing_changes(stack), pytest.raises(CommandFailed) as refusal:
                client.call(command, host="kvm1")
            assert (refusal.value.code, refusal.value.side_effects) == (ErrorCode.NOT_AUTHORIZED, "none")
            name = type(command).model_fields["command"].default
            assert f"backup may not send {name}" in refusal.value.message
            assert dead_letter(provisioned) == (ErrorCode.NOT_AUTHORIZED, name)
            (line,) = audited(stack, refusal.value.reply.id)
            assert (line["event"], line["publisher"], line["command"]) == ("refused", "backup", name)
        client.call(Ping(), host="kvm1")


def dead_letter(provisioned: Provisioned) -> tuple[str, str]:
    """Its code, and the command in it."""
    with provisioned.channel("provisioner") as channel:
        found: list[tuple[str, str]] = []

        def arrived() -> bool:
            method, properties, body = channel.basic_get(topology.DEAD_LETTERS, auto_ack=True)
            if method is not None:
                found.append((properties.headers["code"], json.loads(body)["body"]["command"]))
            return bool(found)

        wait_for(arrived, WAIT_S)
        return found[0]


Bad = Callable[[Provisioned, Path], tuple[Path, Certificate]]
"""In a directory of its own: an authority to believe, and a certificate to show."""


def right(provisioned: Provisioned, _: Path) -> tuple[Path, Certificate]:
    return provisioned.ca, provisioned.certificates["host-kvm1"]


def another_authority_to_believe(provisioned: Provisioned, directory: Path) -> tuple[Path, Certificate]:
    return Authority(directory / "other", "another").cert, provisioned.certificates["host-kvm1"]


def signed_by_another_authority(provisioned: Provisioned, directory: Path) -> tuple[Path, Certificate]:
    return provisioned.ca, Authority(directory / "other", "another").issue("host-kvm1")


def expired(provisioned: Provisioned, _: Path) -> tuple[Path, Certificate]:
    return provisioned.ca, provisioned.broker.authority.issue("host-kvm1", file="expired", days=EXPIRED)


def of_nobody(provisioned: Provisioned, _: Path) -> tuple[Path, Certificate]:
    return provisioned.ca, provisioned.broker.authority.issue("host-kvm9")


def with_a_key_of_another(provisioned: Provisioned, _: Path) -> tuple[Path, Certificate]:
    mine, other = provisioned.certificates["host-kvm1"], provisioned.certificates["host-kvm2"]
    return provisioned.ca, Certificate(mine.cert, other.key)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (another_authority_to_believe, "the broker's certificate is refused"),
        (signed_by_another_authority, "the broker does not know the authority that signed our certificate"),
        (expired, "the broker says that our certificate (cert) has expired"),
        (of_nobody, "the broker refused the login"),
        (with_a_key_of_another, "ca, cert or key"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_until_it_is_mended(
    provisioned: Provisioned, stack: Stack, mine: dict[str, Path], tmp_path: Path, bad: Bad, reason: str
) -> None:
    seen = len(stack.agent.events())
    put(*bad(provisioned, tmp_path), mine)
    provisioned.broker.ctl("close_all_user_connections", "host-kvm1", "closed by a test")
    wait_for(lambda: tries(stack.agent, seen, reason) >= TRIES, WAIT_S)
    put(*right(provisioned, tmp_path), mine)
    wait_for(lambda: connected(stack.agent, seen) == LINKS, WAIT_S)
    with provisioned.management("cloud") as client:
        client.call(Ping(), host="kvm1")


def tries(agent: AgentProcess, seen: int, reason: str) -> int:
    """How often the log has this reason why there is no connection, since then. There must be no other."""
    said = [line["reason"] for line in agent.events()[seen:] if line["event"] == "broker unreachable"]
    assert [text for text in said if reason not in text and ALERT_LOST not in text] == []
    return len(said)


def connected(agent: AgentProcess, seen: int) -> set[str]:
    """The links that have connected since then."""
    return {line["link"] for line in agent.events()[seen:] if line["event"] == "broker connected"}


@pytest.fixture
def another(stack: Stack, tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Start one more agent, which does not come in, with other settings of the broker."""
    made: list[AgentProcess] = []

    def start(*without: str, **amqp: str) -> AgentProcess:
        kept = {name: value for name, value in stack.settings["amqp"].items() if name not in without}
        own = {"state_dir": str(tmp_path / "state"), "amqp": {**kept, **amqp}}
        made.append(AgentProcess(tmp_path, {**stack.settings, **own}))
        made[0].start(wait=False)
        return made[0]

    yield start
    for agent in made:
        agent.kill()


def refused_again_and_again(agent: AgentProcess, reason: str) -> None:
    wait_for(lambda: tries(agent, 0, reason) >= TRIES, WAIT_S)
    assert connected(agent, 0) == set()


def test_without_a_client_certificate_nobody_comes_in(
    stack: Stack, another: Callable[..., AgentProcess], tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("guest")
    url = stack.settings["amqp"]["url"].replace("host-kvm1@", "guest@")
    agent = another("cert", "key", url=url, password_file=str(password))
    refused_again_and_again(agent, "the broker wants a client certificate: set cert and key")


def test_a_broker_that_is_called_otherwise_is_refused(stack: Stack, another: Callable[..., AgentProcess]) -> None:
    """Its certificate has the address, not the name."""
    agent = another(url=stack.settings["amqp"]["url"].replace("127.0.0.1", "localhost"))
    refused_again_and_again(agent, "the broker's certificate is refused: Hostname mismatch")


def test_a_broker_whose_certificate_has_expired_is_refused(
    provisioned: Provisioned, another: Callable[..., AgentProcess]
) -> None:
    old = provisioned.broker.authority.issue("broker", file="old-broker", address="IP:127.0.0.1", days=EXPIRED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(old.cert, old.key)
    with Proxy(context) as proxy:
        agent = another(url=proxy.through("amqp://host-kvm1@127.0.0.1:5672"))
        refused_again_and_again(agent, "the broker's certificate is refused: certificate has expired")


def test_no_key_is_in_the_log_or_the_journal(provisioned: Provisioned, stack: Stack) -> None:
    secret = provisioned.certificates["host-kvm1"].key.read_text().splitlines()[1][:40]
    said = [stack.agent.log_file, *(file for file in stack.agent.state_dir.rglob("*") if file.is_file())]
    assert [file for file in said if secret.encode() in file.read_bytes()] == []
