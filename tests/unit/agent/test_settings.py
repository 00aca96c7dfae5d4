# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""agent.toml, the environment over it, and secrets that are not shown."""

import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from storpool_agent import storpool_access as access_module
from storpool_agent.broker_access import broker_address, login, tls_context
from storpool_agent.effective import effective
from storpool_agent.secret_files import read_secret
from storpool_agent.settings import Settings, SettingsInvalid, listen_address, load
from storpool_agent.storpool_access import storpool_access
from storpool_agent.storpool_conf import StorPoolConf

MINIMAL = '[storpool]\napi = "127.0.0.1:81"\ntoken = "canary-token"\nour_id = 7\n'


@pytest.fixture(autouse=True)
def _no_storpool_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(access_module, "read_conf", lambda: StorPoolConf(files=()))


def loaded(directory: Path, text: str) -> Settings:
    file = directory / "agent.toml"
    file.write_text(text)
    return load(file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('hots = "kvm1"', "hots: no such setting"),
        ("[amqp]\nurll = 'amqp://b'", "amqp.urll: no such setting"),
        ("[lane]\nfast = 1", "lane: no such setting"),
        ("[lanes]\nfast = 0", "lanes.fast: Input should be greater than or equal to 1"),
        ("[lanes]\nfast = 'many'", "lanes.fast: Input should be a valid integer"),
        ("[log]\nlevel = 'loud'", "log.level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("host = 'kvm1.example.org'", "host: String should match pattern"),
        ("host = 'any'", "host: any is the name for all hosts"),
        ("[lanes]\nany = -1", "lanes.any: Input should be greater than or equal to 0"),
        ("[amqp]\nurl = 'amqp://broker/vhost'", "amqp: url must be amqp://host:port"),
        ("[amqp]\nurl = 'amqp://broker'\nca = '/ca.pem'", "amqp: ca, cert and key need an amqps:// url"),
        ("[amqp]\nurl = 'amqps://broker'\ncert = '/c.pem'", "amqp: cert and key belong together"),
        ("[pools.p]\napi = 'h:1'", "pools.p.template: Field required"),
        ("[pools.p]\napi = 'h:1'\ntemplate = '../x'", "pools.p.template: String should match pattern"),
        ("[pools.p]\napi = 'h:1'\ntemplate = 't'\ntokn = 'x'", "pools.p.tokn: no such setting"),
        ("[pools.'a b']\napi = 'h:1'\ntemplate = 't'", "pools.a b.[key]: String should match pattern"),
        ("[secondary]\ndirectorys = ['/srv']", "secondary.directorys: no such setting"),
        ("[secondary]\ndirectories = ['srv']", "secondary.directories.0: must be an absolute path"),
        ("[secondary]\ndirectories = ['/srv/../etc']", "secondary.directories.0: must be an absolute path"),
        ("[secondary]\nnfs_servers = ['nas:/export']", "secondary.nfs_servers.0: String should match pattern"),
        ("[secondary]\nmount_dir = 'mounts'", "secondary.mount_dir: must be an absolute path"),
        ("[secondary]\nmax_image_bytes = 0", "secondary.max_image_bytes: Input should be greater than or equal to"),
        (
            "[secondary]\nweb_hosts = ['10.0.0.1/8']",
            "secondary.web_hosts.0: must be a host name, an address, or a network",
        ),
        ("[secondary]\nweb_hosts = ['http://mirror']", "secondary.web_hosts.0: must be a host name"),
        ("[metrics]\nlisten = 'localhost:9639'", "metrics.listen: must be address:port"),
        ("[metrics]\nlisten = '127.0.0.1'", "metrics.listen: must be address:port"),
        ("[metrics]\nlisten = '::1:9639'", "metrics.listen: must be address:port"),
        ("[metrics]\nlisten = '127.0.0.1:99999'", "metrics.listen: must be address:port"),
        ("[amqp]\nallowed_publishers = []", "amqp.allowed_publishers: Dictionary should have at least 1 item"),
        ("[amqp.allowed_publishers]\ncloud = []", "amqp.allowed_publishers.cloud: List should have at least 1 item"),
        (
            "[amqp.allowed_publishers]\ncloud = ['reed']",
            "amqp.allowed_publishers.cloud.0: is no command, and no class of commands: all, read, attach",
        ),
        ("[amqp.allowed_publishers]\n'' = ['all']", "amqp.allowed_publishers..[key]: String should have at least 1"),
        ("[storpool]\nour_id = 0", "storpool.our_id: Input should be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        loaded(tmp_path, text)
    assert str(invalid.value).startswith(f"{tmp_path}/agent.toml: {problem}")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9639", ("127.0.0.1", 9639)),
        ("[::1]:9639", ("::1", 9639)),
        ("192.0.2.7:0", ("192.0.2.7", 0)),
        ("", None),
    ],
)
def test_where_to_listen(tmp_path: Path, listen: str, address: tuple[str, int] | None) -> None:
    found = loaded(tmp_path, f"[metrics]\nlisten = '{listen}'")
    assert listen_address(found.metrics) == address


def test_several_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"lanes\.fast: .*; hots: no such setting"):
        loaded(tmp_path, 'hots = "kvm1"\n[lanes]\nfast = 0')


def test_a_bad_value_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        loaded(tmp_path, "[amqp]\nurl = 'http://user:canary-password@broker'")
    assert "canary" not in str(invalid.value)


def test_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="line 1"):
        loaded(tmp_path, "host: kvm1")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"none\.toml: no such file"):
        load(tmp_path / "none.toml")


def test_the_environment_goes_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORPOOL_AGENT__LANES__FAST", "3")
    monkeypatch.setenv("STORPOOL_AGENT__HOST", "kvm9")
    found = loaded(tmp_path, 'host = "kvm1"\n[lanes]\nfast = 8\nbulk = 4\n')
    assert (found.host, found.lanes.fast, found.lanes.bulk) == ("kvm9", 3, 4)


def test_an_unknown_variable_is_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORPOOL_AGENT__LANES__FSAT", "3")
    with pytest.raises(SettingsInvalid, match=r"lanes\.fsat: no such setting"):
        loaded(tmp_path, MINIMAL)


def test_secrets_are_hidden(tmp_path: Path) -> None:
    found = loaded(tmp_path, "[amqp]\nurl = 'amqp://agent:canary-password@broker:5673'\n" + MINIMAL)
    shown = effective(found)
    assert "canary" not in f"{shown} {found} {found!r}"
    assert shown["amqp.url"] == "amqp://broker:5673"
    assert set(shown["storpool.token"]) == {"*"}
    assert (shown["storpool.our_id"], shown["lanes.fast"]) == ("7", "16")


def test_secondary_storage_is_shown_with_where_scratch_files_go(tmp_path: Path) -> None:
    text = f"""state_dir = "{tmp_path}"\n{MINIMAL}[secondary]
directories = ["/srv/templates", "/srv/backups"]
nfs_servers = ["nas1", "fd00::1", "[fd00::2]"]
web_hosts = ["mirror.example.org", "10.0.0.0/8", "fd00::/8", "192.0.2.7"]
"""
    shown = effective(loaded(tmp_path, text))
    assert {name: value for name, value in shown.items() if name.startswith("secondary.")} == {
        "secondary.directories": "['/srv/templates', '/srv/backups']",
        "secondary.nfs_servers": "['nas1', 'fd00::1', '[fd00::2]']",
        "secondary.mount_dir": "/run/storpool-agent/mounts",
        "secondary.scratch_dir": f"{tmp_path}/scratch",
        "secondary.max_image_bytes": str(4 << 40),
        "secondary.web_hosts": "['mirror.example.org', '10.0.0.0/8', 'fd00::/8', '192.0.2.7']",
    }


def test_any_server_is_not_the_same_as_none(tmp_path: Path) -> None:
    assert effective(loaded(tmp_path, MINIMAL))["secondary.nfs_servers"] == ""
    assert effective(loaded(tmp_path, f"{MINIMAL}[secondary]\nnfs_servers = []"))["secondary.nfs_servers"] == "[]"


POOL = '[pools.fast]\napi = "mgmt:81"\ntemplate = "nvme"\n'


def test_a_pool_is_shown_without_its_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("canary-token")
    shown = effective(loaded(tmp_path, f"{MINIMAL}{POOL}token_file = '{file}'\ncluster_id = 'a.b'\n"))
    assert "canary" not in str(shown)
    assert {name: value for name, value in shown.items() if name.startswith("pools.")} == {
        "pools.fast.api": "mgmt:81",
        "pools.fast.token": "*" * 10,
        "pools.fast.token_file": str(file),
        "pools.fast.template": "nvme",
        "pools.fast.cluster_id": "a.b",
    }


def test_a_pool_without_a_token_is_no_pool(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"pools\.fast: neither token_file nor token"):
        effective(loaded(tmp_path, MINIMAL + POOL))


def test_the_cluster_id_comes_from_storpools_settings_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "read_conf", lambda: StorPoolConf(files=(), cluster_id="d.n"))
    assert storpool_access(loaded(tmp_path, MINIMAL).storpool).cluster_id == "d.n"
    assert storpool_access(loaded(tmp_path, f"{MINIMAL}cluster_id = 'a.b'").storpool).cluster_id == "a.b"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("canary-token")
    file.chmod(mode)
    with pytest.raises(SettingsInvalid, match=f"{file}: others may read it; chmod 600 it"):
        read_secret(file)


@pytest.mark.parametrize("mode", [0o400, 0o440])
def test_a_name_alone_is_a_credential_of_systemds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    file = tmp_path / "amqp-password"
    file.write_text("canary-password\n")
    file.chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    amqp = loaded(tmp_path, "[amqp]\nurl = 'amqp://host-kvm1@broker'\npassword_file = 'amqp-password'\n").amqp
    assert login(amqp)[1] == SecretStr("canary-password")


def test_a_credential_that_anybody_may_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("canary-token")
    (tmp_path / "token").chmod(0o444)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SettingsInvalid, match="others may read it"):
        read_secret(Path("token"))


@pytest.mark.parametrize("path", ["token", "etc/token", "../token"])
def test_a_name_is_no_file_of_wherever_the_agent_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsInvalid, match=f"{path}: no absolute path, and systemd has handed over no such"):
        read_secret(Path(path))


def test_a_secret_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(" canary-token \nmore\n")
    assert read_secret(file).get_secret_value() == "canary-token"


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="token: No such file or directory"):
        read_secret(tmp_path / "token")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("url = 'amqp://broker'", "amqp: password_file is the password of the user whom url names, and it names none"),
        ("url = 'amqp://host-kvm1:x@broker'", "amqp: url has a password already"),
        ("vhost = 'storpool'", r"amqp: url has a password already \(that of its default is guest's\): .*amqp://USER@"),
    ],
)
def test_a_password_file_is_for_a_user_whom_the_url_names_without_a_password(
    tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "password"
    file.touch(mode=0o600)
    with pytest.raises(SettingsInvalid, match=problem):
        effective(loaded(tmp_path, f"{MINIMAL}[amqp]\n{text}\npassword_file = '{file}'\n"))


def test_the_user_is_in_the_url_and_the_password_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_text("from-file")
    amqp = loaded(tmp_path, f"[amqp]\nurl = 'amqp://us%40er@broker'\npassword_file = '{file}'\n").amqp
    user, password = login(amqp)
    assert (user, password and password.get_secret_value()) == ("us@er", "from-file")


def test_a_certificate_needs_no_user(tmp_path: Path) -> None:
    text = "[amqp]\nurl = 'amqps://broker'\ncert = '/c.pem'\nkey = '/k.pem'\n"
    amqp = loaded(tmp_path, text).amqp
    assert login(amqp) == (None, None)
    assert broker_address(amqp) == ("broker", 5671)


def test_with_a_certificate_the_url_says_which_user_it_is_of(tmp_path: Path) -> None:
    text = "[amqp]\nurl = 'amqps://host-kvm1@broker'\ncert = '/c.pem'\nkey = '/k.pem'\n"
    assert login(loaded(tmp_path, text).amqp) == ("host-kvm1", None)


def test_a_user_without_password_and_certificate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"amqp: host-kvm1 needs a password \(password_file\), or a client cert"):
        login(loaded(tmp_path, "[amqp]\nurl = 'amqps://host-kvm1@broker'\n").amqp)


@pytest.mark.parametrize("passphrase", [[], ["-aes256"]], ids=["others may read it", "it is encrypted"])
def test_a_key_that_cannot_be_used_is_an_error(tmp_path: Path, passphrase: list[str]) -> None:
    key, cert = tmp_path / "k.pem", tmp_path / "c.pem"
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=host-kvm1"]
    hidden = ["-passout", "pass:x"] if passphrase else ["-nodes"]
    command = ["openssl", *made, *hidden, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    key.chmod(0o600 if passphrase else 0o644)
    text = f"[amqp]\nurl = 'amqps://broker'\ncert = '{cert}'\nkey = '{key}'\n"
    with pytest.raises(SettingsInvalid, match="the key is encrypted" if passphrase else "k.pem: others may read it"):
        tls_context(loaded(tmp_path, text).amqp)


def test_allowed_publishers_are_a_table_or_a_list_of_those_that_may_send_all(tmp_path: Path) -> None:
    table = "[amqp.allowed_publishers]\ncloud = ['all']\nbackup = ['read', 'takeSnapshot']\n"
    assert loaded(tmp_path, table).amqp.allowed_publishers == {"cloud": ["all"], "backup": ["read", "takeSnapshot"]}
    assert loaded(tmp_path, "[amqp]\nallowed_publishers = ['cloud']").amqp.allowed_publishers == {"cloud": ["all"]}
    assert loaded(tmp_path, "").amqp.allowed_publishers is None


def test_allowed_publishers_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORPOOL_AGENT__AMQP__ALLOWED_PUBLISHERS", '{"cloud": ["read"]}')
    assert loaded(tmp_path, "").amqp.allowed_publishers == {"cloud": ["read"]}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("[storpool]\nour_id = 7", "storpool.token_file is not set"),
        ("[storpool]\ntoken = 't'", "storpool.our_id is not"),
    ],
)
def test_what_nobody_says_of_storpool_is_asked_for(tmp_path: Path, text: str, missing: str) -> None:
    with pytest.raises(SettingsInvalid, match=missing):
        storpool_access(loaded(tmp_path, text).storpool)
