# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""An agent at level debug that is given secrets, through what goes well and wrong: they stay where they belong.

docs/security.md says where that is.
"""

import base64
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import libvirt
import pytest

from agent_process import Stack, running_stack
from devcluster_process import DevclusterProcess, running_devcluster
from guest import Guest
from onlooker import watching
from rabbit import rabbitmqctl, vhost_of
from raw_client import RawClient, Received, raw_client
from real_lab import wait_for
from storpool_commands import topology

pytestmark = pytest.mark.long

MIB = 1 << 20
WAIT_S = 30.0
RUNNING_MACHINES = Path("/run/libvirt/qemu")
SLOW_BYTES_S = 8 * MIB
"""A copy takes 2 s: its children are there to be seen."""


def canary(name: str) -> str:
    return f"canary-{name}-{uuid4().hex[:12]}"


BROKER, REFUSED, POOL, FIXED, WRONG, GARBLED, IN_URL, IN_FILE, INLINE = map(
    canary, ("broker", "refused", "pool", "fixed", "wrong", "garbled", "url", "file", "inline")
)


@dataclass
class Scene:
    """What ran, and all that was seen of it."""

    stack: Stack
    raw: RawClient
    other: DevclusterProcess
    machine: Guest
    events: list[bytes] = field(default_factory=list[bytes])
    readable: list[Received] = field(default_factory=list[Received])
    """Dead letters of what was a request."""
    garbled: list[Received] = field(default_factory=list[Received])
    """Those of what was none: as it came."""
    processes: dict[int, bytes] = field(default_factory=dict[int, bytes])
    machines: list[bytes] = field(default_factory=list[bytes])
    """The machine as libvirt describes it with its disks; arguments and environment of its QEMU."""

    @property
    def secrets(self) -> list[str]:
        return [BROKER, REFUSED, POOL, FIXED, WRONG, GARBLED, IN_URL, IN_FILE, INLINE, self.stack.storpool.token]


@pytest.fixture(scope="module")
def scene(run_directory: object, services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The whole play, once; the tests only look for what is left of it."""
    directory = tmp_path_factory.mktemp("secrets")
    user = f"agent-{uuid4().hex}"
    rabbitmqctl("add_user", user, BROKER)
    options = ["--devices", "none", "--template", "ssd", "--cluster-id", "e.o"]
    settings: dict[str, Any] = {
        "amqp": {"url": f"amqp://{user}@127.0.0.1:5672", "password_file": secret(directory / "password", BROKER)},
        "pools.fixed": {"api": "127.0.0.1:1", "token_file": secret(directory / "fixed", FIXED), "template": "none"},
        "secondary": {"directories": [str(directory)]},
        "encryption": {"key_directory": str(directory), "iteration_ms": 100},
    }
    try:
        with running_devcluster({1: None}, options=options, token=POOL) as other:
            with (
                running_stack(start=False, **settings) as stack,
                raw_client(stack.amqp_url) as raw,
                Guest() as machine,
            ):
                rabbitmqctl("set_permissions", "--vhost", vhost_of(stack.amqp_url), user, ".*", ".*", ".*")
                yield played(Scene(stack, raw, other, machine), directory)
    finally:
        rabbitmqctl("delete_user", user)


def secret(file: Path, text: str) -> str:
    file.touch(mode=0o600)
    file.write_text(text)
    return str(file)


def played(scene: Scene, directory: Path) -> Scene:
    refuse_the_login(scene, directory)
    scene.stack.agent.start()
    listen(scene)
    with watching(scene.stack.agent.pid) as onlooker:
        pools(scene)
        copies(scene, directory)
        encryption(scene, directory)
        nonsense(scene)
        scene.raw.settle()
    scene.processes = onlooker.seen
    stop_in_the_middle(scene)
    return scene


def refuse_the_login(scene: Scene, directory: Path) -> None:
    """With a password that is wrong; then all is set right."""
    agent, settings = scene.stack.agent, scene.stack.settings
    wrong = {**settings["amqp"], "password_file": secret(directory / "wrong", REFUSED)}
    agent.configure({**settings, "amqp": wrong})
    agent.start(wait=False)
    wait_for(lambda: len(agent.events("broker unreachable")) > 2, WAIT_S)
    agent.kill()
    agent.configure(settings)


def listen(scene: Scene) -> None:
    """To all events."""
    channel = scene.raw._channel
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, topology.EVENTS, "#")
    channel.basic_consume(queue, lambda _c, _m, _p, body: scene.events.append(body), auto_ack=True)


def add(token: str, api: str) -> dict[str, Any]:
    return {"command": "addStoragePool", "name": f"p{uuid4().hex[:6]}", "url": f"storpool://{token}@{api}/ssd"}


def pools(scene: Scene) -> None:
    """A pool that is added and used, dry and for real; wrong tokens; an API that is not there; the same id twice."""
    raw, api = scene.raw, scene.other.api
    good = add(POOL, api)
    request_id = raw.ask(good, progress=True)
    assert raw.reply(request_id)["status"] == "success"
    assert raw.reply(raw.ask(add(POOL, api), dryRun=True))["status"] in {"success", "failure"}
    assert raw.reply(raw.ask({"command": "poolStats"}))["status"] in {"success", "failure"}
    for token, where in ((WRONG, api), (WRONG, "127.0.0.1:1")):
        assert raw.reply(raw.ask(add(token, where)))["status"] == "failure"
    before = len(raw.received)
    raw.ask({**good, "url": good["url"].replace(POOL, WRONG)}, request_id=request_id)  # id-conflict
    raw.wait_for(before + 1)
    scene.readable.append(raw.dead_letter())


def copies(scene: Scene, directory: Path) -> None:
    """Tools of copies run; what starts them knows the tokens."""
    raw = scene.raw
    created = raw.reply(raw.ask({"command": "createVolume", "sizeBytes": 16 * MIB, "template": "dev"}))
    volume = f"~{created['result']['globalId']}"
    taken = raw.reply(raw.ask({"command": "takeSnapshot", "volume": volume}))
    snapshot = f"~{taken['result']['globalId']}"
    target = {"store": f"file://{directory}", "path": "backup"}
    for path, form in (("raw", "raw"), ("qcow2", "qcow2")):
        command = {
            "command": "backupSnapshot",
            "snapshot": snapshot,
            "target": {**target, "path": path},
            "format": form,
        }
        reply = raw.reply(raw.ask({**command, "bandwidthBytesS": SLOW_BYTES_S}, progress=True))
        assert reply["status"] == "success", reply
    missing = {"store": target["store"], "path": "none", "format": "qcow2"}
    assert (
        raw.reply(raw.ask({"command": "downloadVolume", "source": missing, "template": "dev"}))["status"] == "failure"
    )


def encryption(scene: Scene, directory: Path) -> None:
    """Volumes that are formatted, filled and attached, with keys in a file and in the command; keys that are wrong."""
    raw, vm = scene.raw, scene.machine.uuid
    secret(directory / "disk-key", IN_FILE)
    taken = raw.reply(raw.ask({"command": "createVolume", "sizeBytes": MIB, "template": "dev"}))
    taken = raw.reply(raw.ask({"command": "takeSnapshot", "volume": f"~{taken['result']['globalId']}"}))
    template = {"sourceSnapshot": f"~{taken['result']['globalId']}"}
    for key, wrong, further in (
        ({"file": "disk-key"}, {"secret": INLINE}, template),
        ({"secret": INLINE}, {"file": "disk-key"}, {}),
    ):
        new = {"command": "createVolume", "sizeBytes": 2 * MIB, "template": "dev", "encrypted": True}
        volume = f"~{raw.reply(raw.ask(new))['result']['globalId']}"
        encrypt = {"command": "encryptVolume", "volume": volume, "key": key, **further}
        done = raw.reply(raw.ask(encrypt, progress=True))
        assert done["status"] == "success", done
        attach = {"command": "attachDisk", "vm": vm, "volume": volume}
        refused = raw.reply(raw.ask({**attach, "encryption": {"key": wrong}}))
        assert refused["code"] == "wrong-key", refused
        attached = raw.reply(raw.ask({**attach, "encryption": {"key": key}}))
        assert attached["status"] == "success", attached
        scene.machines.append(description(scene.machine))
        scene.machine.wait_for_disk(volume[1:])
        detached = raw.reply(raw.ask({"command": "detachDisk", "vm": vm, "volume": volume}))
        assert detached["status"] == "success", detached
    pid = (RUNNING_MACHINES / f"{scene.machine.name}.pid").read_text().strip()
    scene.machines += [Path(f"/proc/{pid}/{place}").read_bytes() for place in ("cmdline", "environ")]


def description(machine: Guest) -> bytes:
    """By a connection of its own: libvirtd hangs up on one that lies idle for half a minute."""
    connection = libvirt.open(machine.uri)
    try:
        return connection.lookupByUUIDString(machine.uuid).XMLDesc().encode()
    finally:
        connection.close()


def nonsense(scene: Scene) -> None:
    """What is no request, with a secret wherever one may be."""
    url = f"storpool://{GARBLED}@h:1/t"
    good = {"id": str(uuid4()), "protocol": 1, "body": {"command": "addStoragePool", "name": "p", "url": url}}
    body = good["body"]
    assert isinstance(body, dict)
    web = {"url": f"https://user:{IN_URL}@127.0.0.1/image", "format": "raw"}
    bodies: list[bytes] = [
        json.dumps(good).encode()[:-1],  # cut off
        json.dumps(good).replace('"url"', '"name": "q", "url"').encode(),  # a key twice
        *(
            json.dumps(each).encode()
            for each in (
                {**good, GARBLED: 1},
                {**good, "id": GARBLED},
                {**good, "protocol": GARBLED},
                {**good, "traceparent": GARBLED},
                {**good, "body": {**body, "token": GARBLED}},
                {**good, "body": {**body, "url": [url]}},
                {**good, "body": {**body, "url": GARBLED * 100}},
                {**good, "body": {**body, "command": GARBLED}},
                {**good, "body": {**body, "name": url}},
                {**good, "body": GARBLED},
                {**good, "body": {"command": "downloadVolume", "source": web, "template": "dev"}},
            )
        ),
    ]
    before = len(scene.raw.received)
    for sent in bodies:
        scene.raw.publish(sent)
    scene.raw.publish(bodies[0], exchange=topology.CONTROL)
    scene.raw.wait_for(before + len(bodies) + 1)
    scene.garbled += [scene.raw.dead_letter() for _ in range(len(bodies) + 1)]
    unusable = {**good, "id": str(uuid4()), "body": {**body, "url": f"neither form {GARBLED}"}}
    scene.raw.publish(unusable)
    assert scene.raw.reply(str(unusable["id"]))["status"] == "failure"


def stop_in_the_middle(scene: Scene) -> None:
    """A request with a secret that the agent does not survive, and its answer after the next start."""
    scene.stack.agent.restart_to_crash_at("addStoragePool/started")
    request_id = scene.raw.ask(add(WRONG, scene.other.api))
    scene.stack.agent.wait_crashed()
    scene.stack.agent.start()
    assert scene.raw.reply(request_id)["code"] == "secret-not-kept"


def forms(text: str) -> Iterator[bytes]:
    """As it may be written."""
    yield text.encode()
    yield quote(text, safe="").encode()
    for before in ("", "a", "ab"):  # base64 of something that it is part of
        encoded = base64.b64encode((before + text).encode())
        yield encoded[4 * (len(before) > 0) : -4]


def found(scene: Scene, *texts: bytes, but: tuple[str, ...] = ()) -> list[str]:
    whole = b"\0".join(texts)
    return [each for each in scene.secrets if each not in but and any(form in whole for form in forms(each))]


def test_the_log_has_none(scene: Scene) -> None:
    log = scene.stack.agent.log_file.read_bytes()
    assert b'"level": "debug"' in log
    assert b"storpool-unauthorized" in log
    assert found(scene, log) == []


def test_replies_and_events_have_none(scene: Scene) -> None:
    assert any(b"progress" in body for body in scene.events)
    assert found(scene, *(one.body for one in scene.raw.received), *scene.events) == []


def test_dead_letters_of_requests_have_none(scene: Scene) -> None:
    assert [one.headers["code"] for one in scene.readable] == ["id-conflict"]
    assert found(scene, *(one.body + str(one.headers).encode() for one in scene.readable)) == []


def test_the_headers_of_what_was_no_request_have_none(scene: Scene) -> None:
    """Its body is there as it came: nobody knows what is secret in it."""
    assert found(scene, *(str(one.headers).encode() for one in scene.garbled)) == []
    assert all(GARBLED.encode() in one.body or IN_URL.encode() in one.body for one in scene.garbled)


def test_the_state_has_one_place_for_tokens(scene: Scene) -> None:
    files = [file for file in scene.stack.agent.state_dir.rglob("*") if file.is_file()]
    assert {"journal.db", "journal.db-wal", "added.json"} <= {file.name for file in files}
    added = [file for file in files if file.name == "added.json"]
    assert found(scene, *(file.read_bytes() for file in files if file not in added)) == []
    assert found(scene, *(file.read_bytes() for file in added)) == [POOL]


def test_the_state_is_for_its_owner_alone(scene: Scene) -> None:
    places = [scene.stack.agent.state_dir, *scene.stack.agent.state_dir.rglob("*")]
    assert {oct(stat.S_IMODE(place.stat().st_mode) & 0o077) for place in places} == {"0o0"}


def test_neither_qemu_nor_libvirts_description_of_the_machine_has_one(scene: Scene) -> None:
    assert [b"<encryption format='luks'" in text for text in scene.machines] == [True, True, False, False]
    assert scene.machine.name.encode() in scene.machines[2]
    assert found(scene, *scene.machines) == []


def test_no_process_shows_one(scene: Scene) -> None:
    """Neither the agent nor what it has started."""
    shown = b"\0".join(scene.processes.values())
    assert b"qemu-img" in shown
    assert len(scene.processes) > 2
    assert found(scene, shown) == []
