# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the copy jobs refuse before an agent looks at anything: places that are none, and what contradicts itself."""

import json
from typing import Any

import pytest

from storpool_commands.errors import ErrorCode
from storpool_commands.parse import InvalidRequest, parse_any_request, parse_request
from unit.commands.copy_samples import BLOCK_HASH, COMMAND_SAMPLES
from unit.commands.samples import ID, wire_name

STORE = "nfs://10.0.0.1/export"
FILE = {"store": STORE, "path": "a/b.qcow2"}
SHA256 = f"sha256:{'0' * 64}"
SIZE = 1 << 30
CANARY = "canary4711"


def body(command: str, **fields: Any) -> dict[str, Any]:
    return {"command": command, **fields}


def backup(store: str = STORE, path: str = "a/b.qcow2", **fields: Any) -> dict[str, Any]:
    return body("backupSnapshot", snapshot="~d.n.a1", target={"store": store, "path": path}, **fields)


def download(**source: Any) -> dict[str, Any]:
    return body("downloadTemplate", template="dev", source={"format": "qcow2", **source})


def template(**fields: Any) -> dict[str, Any]:
    return body("createTemplateFromVolume", volume="~d.n.a1", **fields)


def migrate(**fields: Any) -> dict[str, Any]:
    return body("migrateVolume", **fields)


def message(command: dict[str, Any]) -> bytes:
    return json.dumps({"id": str(ID), "protocol": 1, "body": command}).encode()


def refused(command: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        parse_request(message(command))
    return raised.value


def taken(command: dict[str, Any]) -> Any:
    return parse_request(message(command)).body


@pytest.mark.parametrize(
    "store",
    [
        *("nfs://10.0.0.1/export", "nfs://nas-1.example.org/a/b c,d", "nfs://[2001:db8::1]/export"),
        *("file:///srv/secondary", "file:///mnt/a_b~1/c"),
    ],
)
def test_what_is_a_store(store: str) -> None:
    assert taken(backup(store=store)).target.store == store


@pytest.mark.parametrize(
    "store",
    [
        *("", "/srv/secondary", "srv", "nfs:", "nfs://", "nfs://nas", "nfs://nas/", "nfs:///export", "nfs:nas:/export"),
        *(
            "NFS://nas/export",
            "smb://nas/export",
            "http://nas/export",
            "file:/srv",
            "file:///",
            "file://",
            "nas:/export",
        ),
        *("file://localhost/srv", "file://nas/srv", "nfs://root@nas/export", "nfs://root:pw@nas/export"),
        *(
            "nfs://nas:2049/export",
            "nfs://nas:/export",
            "nfs://-oexec/export",
            "nfs://nas./export",
            "nfs://a..b/export",
        ),
        *("nfs://[::1/export", "nfs://[::g]/export", "nfs://[1.2.3.4]/export", "nfs://[]/export", "nfs://[::1%eth0]/e"),
        *("nfs://nas/export/", "nfs://nas//export", "nfs://nas/../etc", "nfs://nas/a/./b", "file:///srv/../etc"),
        *(
            "nfs://nas/a?vers=3",
            "nfs://nas/a#b",
            "nfs://nas/a\\b",
            "nfs://nas/a\nb",
            "nfs://nas/a\x00b",
            "nfs://nas/-a",
        ),
        *(
            "nfs://nas\n/export",
            "nfs://n as/export",
            "nfs://nas/%2e%2e",
            "nfs://n\u0430s/export",
            "nfs://nas/exp\u2215ort",
        ),
        *(f"nfs://{'a' * 64}/export", f"nfs://{'a.' * 130}a/export", f"nfs://nas/{'a/' * 600}a"),
    ],
)
def test_what_is_no_store(store: str) -> None:
    error = refused(backup(store=store))
    assert error.code is ErrorCode.INVALID_COMMAND
    assert error.facts["field"] == "body.backupSnapshot.target.store"


@pytest.mark.parametrize("path", ["a", "a/b/c.qcow2", "A_1,2:3@4+5=6~7-8 9/.b", "a" * 200, "..a/b..", "a/..."])
def test_what_is_a_path(path: str) -> None:
    assert taken(backup(path=path)).target.path == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/etc/passwd", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "./a"),
        *("-a", "a/-b", "a\nb", "a\n", "a\rb", "a\tb", "a\\b", "..\\a", "a\x00b", "a\x7fb", "a\x1b[2J"),
        *(" a", "a ", "a/ /b", "a*b", "a?b", "a|b", "a;b", "$(a)", "`a`", "a'b", 'a"b', "a%2fb", "%2e%2e/a", "json:{}"),
        *("ä", "a\u2215b", "\uff0e\uff0e/a", "a\u202eb", "a\u200bb", "\u2024\u2024/a", "\u0430"),
        *("a" * 201, "a/" + "b" * 201, "a/" * 600 + "a"),
    ],
)
def test_what_is_no_path(path: str) -> None:
    error = refused(backup(path=path))
    assert error.code is ErrorCode.INVALID_COMMAND
    assert error.facts["field"] == "body.backupSnapshot.target.path"


@pytest.mark.parametrize(
    "url",
    [
        *("https://h/a.qcow2", "https://h.example.org:8443/a/b?c=d&e=%20", "https://10.0.0.1/", "https://[::1]:1/a"),
        *("https://h:65535/a~b/@c", "https://xn--bcher-kva.example/a"),
    ],
)
def test_what_is_a_url(url: str) -> None:
    assert taken(download(url=url)).source.url == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "h/a", "//h/a", "https:/h/a", "https:h/a", "https://", "https:///a", "https://h", "https://:443/a"),
        *("file:///etc/passwd", "ftp://h/a", "gopher://h/a", "data:,a", "HTTPS://h/a", "HTTP://h/a", "javascript:a"),
        *("https://user:pw@h/a", "https://user@h/a", "https://@h/a", "https://:@h/a", "https://h@evil/a"),
        *("https://h/a#b", "https://h/a#", "https://h:0/a", "https://h:65536/a", "https://h:-1/a", "https://h:x/a"),
        *(
            "https://h:/a",
            "https://h:443:443/a",
            "https://h:\uff14\uff14\uff13/a",
            "https://h\\@evil/a",
            "https://h/a\\b",
            "https:\\\\h\\a",
        ),
        *("https://h/a b", " https://h/a", "https://h/a ", "https://h/a\n", "https://h\n.evil/a", "https://h/\ta"),
        *(
            "https://h/a\r\nHost: evil",
            "https://h/\x00",
            "https://h/ä",
            "https://hä/a",
            "https://h。evil/a",
            "https://h%2eevil/a",
        ),
        *(
            "https://h/%",
            "https://h/%2",
            "https://h/%zz",
            "https://h/a{b}",
            'https://h/"',
            "https://h/<a>",
            "https://h/a|b",
        ),
        *("https://[::1/a", "https://[::1%25lo]/a", "https://[v1.a]/a", "https://[1.2.3.4]/a", "https://-h/a"),
        *("https://h_h/a", "https://h..h/a", f"https://{'h' * 64}/a", f"https://h/{'a' * 2048}"),
    ],
)
def test_what_is_no_url(url: str) -> None:
    error = refused(download(url=url, checksum=SHA256))
    assert error.code is ErrorCode.INVALID_COMMAND
    assert error.facts["field"] == "body.downloadTemplate.source.url"


@pytest.mark.parametrize(
    ("algorithm", "digits"),
    [("md5", 32), ("sha1", 40), ("sha224", 56), ("sha256", 64), ("sha384", 96), ("sha512", 128)],
)
def test_what_is_a_checksum(algorithm: str, digits: int) -> None:
    checksum = f"{algorithm}:{'a' * digits}"
    assert taken(download(url="http://h/a", checksum=checksum)).source.checksum == checksum
    for wrong in (digits - 1, digits + 1):
        assert refused(download(url="http://h/a", checksum=f"{algorithm}:{'a' * wrong}"))


@pytest.mark.parametrize(
    "checksum",
    [
        *("", "sha256", "sha256:", "0" * 64, ":" + "0" * 64, "sha256=" + "0" * 64, "sha256:" + "A" * 64),
        *("SHA256:" + "0" * 64, "sha3:" + "0" * 64, "crc32:00000000", "sha256:" + "g" * 64, "sha256: " + "0" * 64),
        *(f"{SHA256}\n", f"{SHA256}:", "sha256:" + "\u0660" * 64, "blake2b:" + "0" * 128, "sha256-1m:" + "0" * 64),
    ],
)
def test_what_is_no_checksum(checksum: str) -> None:
    error = refused(download(url="https://h/a", checksum=checksum))
    assert (error.code, error.facts["field"]) == (
        ErrorCode.INVALID_COMMAND,
        "body.downloadTemplate.source.checksum",
    )


@pytest.mark.parametrize(
    "block_hash",
    ["", SHA256, BLOCK_HASH[:-1], f"{BLOCK_HASH}0", BLOCK_HASH.upper(), f"{BLOCK_HASH}\n", "sha256-4m:" + "0" * 64],
)
def test_what_is_no_block_hash(block_hash: str) -> None:
    assert refused(download(url="https://h/a", blockHash=block_hash)).code is ErrorCode.INVALID_COMMAND


@pytest.mark.parametrize(
    ("command", "why"),
    [
        pytest.param(download(), "give store and path, or url", id="an image from nowhere"),
        pytest.param(download(store=STORE), "give store and path, or url", id="a store without a path"),
        pytest.param(download(path="a"), "give store and path, or url", id="a path without a store"),
        pytest.param(download(url="https://h/a", **FILE), "give store and path, or url", id="an image from two places"),
        pytest.param(download(url="https://h/a", path="a"), "give store and path, or url", id="a URL and a path"),
        pytest.param(download(url="http://h/a"), "an http:// url needs a checksum", id="http without a checksum"),
        pytest.param(
            download(url="http://h/a", blockHash=BLOCK_HASH),
            "needs a checksum",
            id="http with the hash of its contents",
        ),
        pytest.param(download(format="vmdk", **FILE), "'raw' or 'qcow2'", id="an image of an unknown format"),
        pytest.param(download(format=None, **FILE), "'raw' or 'qcow2'", id="an image of no format"),
        pytest.param(download(compression="zip", **FILE), "'none', 'gzip', 'bzip2' or 'xz'", id="a zip archive"),
        pytest.param(
            {**download(**FILE), "template": None}, "give a template, or a pool", id="a template placed nowhere"
        ),
        pytest.param({**download(**FILE), "maxSizeBytes": 0}, "greater than", id="no size is small enough"),
        pytest.param(backup(format="raw", compress=True), "only a qcow2 is compressed", id="a compressed raw image"),
        pytest.param(backup(format="vhd"), "'raw' or 'qcow2'", id="a backup in an unknown format"),
        pytest.param(backup(bandwidthBytesS=(1 << 20) - 1), "greater than", id="slower than 1 MiB a second"),
        pytest.param(backup(stallTimeoutS=0), "greater than", id="stalled at once"),
        pytest.param(backup(ioPriority="realtime"), "'idle', 'low' or 'normal'", id="before everybody else"),
        pytest.param(
            body("copyVolumeToSecondary", volume="~d.n.a1", target=FILE, format="raw", compress=True),
            "only a qcow2 is compressed",
            id="a volume as a compressed raw image",
        ),
        pytest.param(template(), "give the target, or backup false", id="a template backed up nowhere"),
        pytest.param(
            template(target=FILE, backup=False), "give the target, or backup false", id="no backup to a target"
        ),
        pytest.param(template(backup=False, compress=True), "about the target", id="a compressed file that is not"),
        pytest.param(template(backup=False, uniqueName="a"), "about the target", id="properties of a file that is not"),
        pytest.param(
            template(target={"store": STORE, "path": "a/template.properties"}),
            "written beside it",
            id="an image in the place of its properties",
        ),
        pytest.param(template(target=FILE, tags={"sp-writing": "1"}), "the agent's own", id="the tag of writing"),
        pytest.param(
            body("createTemplateFromSnapshot", backup=False),
            "give either snapshot or source",
            id="a template of nothing",
        ),
        pytest.param(
            body("createTemplateFromSnapshot", backup=False, snapshot="~d.n.a1", source={"format": "raw", **FILE}),
            "give either snapshot or source",
            id="a template of two things",
        ),
        pytest.param(
            body("createTemplateFromSnapshot", backup=False, source={"format": "raw", **FILE}),
            "give a template, or a pool",
            id="a backup placed nowhere",
        ),
        pytest.param(
            body("createTemplateFromSnapshot", backup=False, snapshot="~d.n.a1", template="dev"),
            "placed as that is",
            id="a snapshot placed elsewhere",
        ),
        pytest.param(
            body("downloadVolume", source={"format": "raw", **FILE}),
            "give a template, or a pool",
            id="a volume nowhere",
        ),
        pytest.param(
            body("downloadVolume", source={"format": "raw", **FILE}, template="t", tier="gold", iops=1),
            "a tier sets the limits",
            id="a volume with a tier and a limit",
        ),
        pytest.param(migrate(toPool="p"), "give either volume or source", id="nothing moved"),
        pytest.param(
            migrate(volume="~d.n.a1", source=FILE, sourceFormat="raw", toPool="p"),
            "give either volume or source",
            id="two things moved",
        ),
        pytest.param(migrate(source=FILE, toPool="p"), "belong together", id="a file of unknown format moved"),
        pytest.param(
            migrate(volume="~d.n.a1", sourceFormat="raw", toPool="p"), "belong together", id="a volume's file format"
        ),
        pytest.param(
            migrate(source=FILE, sourceFormat="raw", target=FILE), "from a file to a file", id="a file to a file"
        ),
        pytest.param(migrate(volume="~d.n.a1"), "where it is to be moved", id="moved nowhere"),
        pytest.param(migrate(volume="~d.n.a1", pool="p"), "where it is to be moved", id="moved to where it is"),
        pytest.param(migrate(source=FILE, sourceFormat="raw"), "give a template, or a pool", id="a file moved nowhere"),
        pytest.param(migrate(volume="~d.n.a1", target=FILE, toPool="p"), "either the target", id="moved to two places"),
        pytest.param(migrate(volume="~d.n.a1", target=FILE, template="t"), "either the target", id="a file's template"),
        pytest.param(
            migrate(volume="~d.n.a1", toPool="p", format="raw"), "which is missing", id="a format at StorPool"
        ),
        pytest.param(
            migrate(volume="~d.n.a1", toPool="p", newVolume=True, vm="v"),
            "no machine uses",
            id="a new volume under a machine",
        ),
        pytest.param(
            migrate(source=FILE, sourceFormat="raw", toPool="p", newVolume=True),
            "no machine uses",
            id="a new volume of a file",
        ),
        pytest.param(
            migrate(volume="~d.n.a1", target=FILE, newVolume=True), "no machine uses", id="a new volume in a file"
        ),
        pytest.param(
            migrate(volume="~d.n.a1", target=FILE, name="a"), "none is made", id="a file with a volume's name"
        ),
        pytest.param(migrate(volume="~d.n.a1", target=FILE, uuid="a"), "none is made", id="a file with a label"),
        pytest.param(migrate(volume="~d.n.a1", target=FILE, tags={"a": "b"}), "none is made", id="a file with a tag"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_reason(command: dict[str, Any], why: str) -> None:
    error = refused(command)
    assert error.code is ErrorCode.INVALID_COMMAND
    assert why in str(error)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(download(compression="gzip", checksum=SHA256, blockHash=BLOCK_HASH, **FILE), id="a checked file"),
        pytest.param({**download(**FILE), "template": None, "pool": "p"}, id="placed by its pool"),
        pytest.param(template(backup=False), id="a template at StorPool alone"),
        pytest.param(
            body("createTemplateFromSnapshot", target=FILE, source={"format": "raw", **FILE}, pool="p"),
            id="a template of a backup",
        ),
        pytest.param(body("downloadVolume", source={"format": "raw", **FILE}, template="t", iops=1), id="with a limit"),
        pytest.param(migrate(volume="~d.n.a1", toPool="p"), id="to another pool"),
        pytest.param(migrate(volume="~d.n.a1", template="t", vm="v"), id="to another template, in use"),
        pytest.param(migrate(volume="~d.n.a1", template="t", newVolume=True, name="b", uuid="c"), id="as a new volume"),
        pytest.param(migrate(volume="~d.n.a1", target=FILE, format="raw", vm="v", deleteSource=True), id="to a file"),
        pytest.param(migrate(source=FILE, sourceFormat="raw", pool="p", vm="v"), id="from a file, in use"),
    ],
)
def test_what_makes_sense_is_taken(command: dict[str, Any]) -> None:
    assert taken(command).command == command["command"]


@pytest.mark.parametrize(
    "command",
    [
        backup(store=f"nfs://{CANARY}@nas/a"),
        backup(path=f"../{CANARY}"),
        download(url=f"https://user:{CANARY}@h/a"),
        download(url="https://h/a", checksum=CANARY),
        download(url="https://h/a", blockHash=CANARY),
        download(format=CANARY, **FILE),
        download(**{CANARY * 9: 1}, **FILE),
        migrate(volume="~d.n.a1", toPool=f"/{CANARY}"),
    ],
)
def test_what_was_sent_is_not_repeated(command: dict[str, Any]) -> None:
    error = refused(command)
    assert CANARY not in f"{error!r} {error} {error.facts}"


@pytest.mark.parametrize("sample", COMMAND_SAMPLES, ids=wire_name)
def test_a_copy_is_for_one_host(sample: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_any_request(message(sample.model_dump(mode="json", by_alias=True)))
    assert refusal.value.code is ErrorCode.UNKNOWN_COMMAND
