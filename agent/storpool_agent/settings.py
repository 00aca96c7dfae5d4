# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The settings: agent.toml, and the environment over it."""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from storpool_commands.classes import ALL_COMMANDS, CommandClass
from storpool_commands.topology import ANY_HOST
from storpool_commands.wire import ClusterId, HostId, PoolName, TemplateName

ENVIRONMENT_PREFIX = "STORPOOL_AGENT__"
EVERYTHING = "all"
"""In place of a class of commands: every command."""


class SettingsInvalid(Exception):
    """A setting that cannot be used; the message names it."""


class Section(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _one_host(name: str) -> str:
    if name == ANY_HOST:
        raise ValueError(f"{ANY_HOST} is the name for all hosts; give this one another")
    return name


def _grant(name: str) -> str:
    if name != EVERYTHING and name not in {*CommandClass} and name not in ALL_COMMANDS:
        classes = ", ".join([EVERYTHING, *CommandClass])
        raise ValueError(f"is no command, and no class of commands: {classes}")
    return name


def _all_for_each(value: object) -> object:
    """A list of users is short for all of them being allowed everything."""
    return {str(user): [EVERYTHING] for user in cast("list[object]", value)} if isinstance(value, list) else value


Grants = Annotated[list[Annotated[str, AfterValidator(_grant)]], Field(min_length=1)]
Allowed = Annotated[
    dict[Annotated[str, Field(min_length=1)], Grants], Field(min_length=1), BeforeValidator(_all_for_each)
]


class Amqp(Section):
    """Where RabbitMQ is."""

    url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672")
    """`amqp://` or `amqps://`. The guest account works on loopback only (RabbitMQ's default)."""
    vhost: str = "/"
    password_file: Path | None = None
    """Better than a password in the URL: a file of mode 0600, or one of systemd's credentials."""
    ca: Path | None = None
    """Authorities that may have signed the broker's certificate; default: the system's."""
    cert: Path | None = None
    """Client certificate, and with it SASL EXTERNAL when the URL has no user."""
    key: Path | None = None
    declare: bool = True
    """Make exchanges and queues. Off in production, where they are provisioned and the agent may only look."""
    allowed_publishers: Allowed | None = None
    """Broker users that may command this host, and with which classes of commands, or commands. None: everyone whom the
    broker lets publish, with all."""

    @model_validator(mode="after")
    def _usable(self) -> "Amqp":
        url = urlsplit(self.url.get_secret_value())
        if url.scheme not in {"amqp", "amqps"} or not url.hostname or url.path not in {"", "/"}:
            raise ValueError("url must be amqp://host:port or amqps://host:port; the vhost is a setting of its own")
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together")
        if (self.cert or self.ca) and url.scheme != "amqps":
            raise ValueError("ca, cert and key need an amqps:// url")
        return self


class StorPool(Section):
    """The cluster. What is not set here comes from /etc/storpool.conf and /etc/storpool.conf.d."""

    api: Annotated[str, Field(pattern=r"^[A-Za-z0-9.\[\]:_/-]+$")] | None = None
    """`host:port`, or an `https://` URL of a proxy before it."""
    token: SecretStr | None = None
    token_file: Path | None = None
    our_id: Annotated[int, Field(ge=1, le=4095)] | None = None
    """This host's client id (SP_OURID)."""
    cluster_id: str | None = None
    device_root: Path = Path("/dev")
    """Where this host's client makes `storpool/` and `storpool-byid/`."""


class Pool(Section):
    """Another API or template that this host serves, under the name that commands call it by."""

    api: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\[\]:/-]+$")]
    token: SecretStr | None = None
    token_file: Path | None = None
    template: TemplateName
    cluster_id: ClusterId | None = None


class Libvirt(Section):
    uri: str = "qemu:///system"


Route = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+]*://\S*$")]
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:{}_-]+$")]


class Migration(Section):
    """Where machines of this host may move to, and how."""

    uri: Route | Literal[""] = "qemu+tls://{host}/system"
    """libvirt on another host, whose name on the bus is put in for `{host}`. Empty: only those in `uris`."""
    uris: dict[HostId, Route] = {}
    """By host, where it is another."""
    address: Address | Literal[""] = ""
    """Where a machine's memory is sent to, `{host}` as above. Empty: where the other libvirt says, its host name."""
    addresses: dict[HostId, Address] = {}
    """By host, where it is another: a network of its own for migrations."""
    tls: bool = True
    """Memory is encrypted on its way (QEMU's own TLS; libvirt's connection is as its URI says)."""


class Lanes(Section):
    """Worker threads."""

    fast: Annotated[int, Field(ge=1, le=256)] = 16
    """Attach, detach, resize. They wait for others most of the time, so more than cores."""
    bulk: Annotated[int, Field(ge=1, le=64)] = 2
    """Copies; each can use a whole core and all of the disk's bandwidth."""
    migration: Annotated[int, Field(ge=1, le=64)] = 2
    """Machines that move to another host at a time; they share one network."""
    max_queued: Annotated[int, Field(ge=1)] = 1000
    """Commands but copies that wait here, before more are left in the broker's queue."""
    max_queued_copies: Annotated[int, Field(ge=1)] = 100
    """Copies that wait here, before more are refused as `host-overloaded`; and as many migrations."""
    any: Annotated[int, Field(ge=0, le=256)] = 4
    """Requests of the queue of all hosts that this one holds at a time, of the fast lane's; 0: none."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError("must be an absolute path without `..`")
    return path


def _web_host(text: str) -> str:
    """A host name, an address, or a network such as 10.0.0.0/8."""
    if not _HOST_NAME.fullmatch(text):
        try:
            ip_network(text)
        except ValueError:
            raise ValueError("must be a host name, an address, or a network without host bits") from None
    return text


_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


class Secondary(Section):
    """Secondary storage, and where images come from and go to besides."""

    directories: list[Annotated[Path, AfterValidator(_absolute)]] = []
    """Directories of this host that commands may name by `file://`, with all below them. Symbolic links in these paths
    themselves are followed, none below."""
    nfs_servers: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9\[][A-Za-z0-9.:\]-]*$")]] | None = None
    """Servers that commands may have mounted by `nfs://`, spelled as there. None: any; an empty list: none."""
    mount_dir: Annotated[Path, AfterValidator(_absolute)] = Path("/run/storpool-agent/mounts")
    """The agent's alone: what is mounted directly below it and not in use is unmounted. No RuntimeDirectory= of
    systemd's, which removes it with all that is below when the agent stops."""
    scratch_dir: Annotated[Path, AfterValidator(_absolute)] | None = None
    """For downloads and what is unpacked. Default: `scratch` below `state_dir`."""
    max_image_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 50)] = 4 << 40
    """The largest disk of an image, and the largest download."""
    web_hosts: list[Annotated[str, AfterValidator(_web_host)]] = []
    """Hosts, addresses and networks (CIDR) that images may be downloaded from although they are not public."""


def _listener(text: str) -> str:
    if text and not ((found := _LISTENER.fullmatch(text)) and int(found[2]) < 1 << 16 and _is_address(found[1])):
        raise ValueError("must be address:port, such as 127.0.0.1:9639 or [::1]:9639, or empty")
    return text


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


_LISTENER = re.compile(r"([0-9.]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")


class Encryption(Section):
    """Where the keys of encrypted volumes are."""

    key_directory: Annotated[Path, AfterValidator(_absolute)] = Path("/etc/storpool-agent/keys")
    """Files that commands name by `key.file`: of root's or the agent's, for nobody else to read."""
    iteration_ms: Annotated[int, Field(ge=100, le=10_000)] = 2000
    """How long trying one passphrase takes, on this host, of a volume that it formats."""


class Metrics(Section):
    """What monitoring fetches: /metrics, /healthz, /readyz."""

    listen: Annotated[str, AfterValidator(_listener)] = "127.0.0.1:9639"
    """Address and port; empty: nothing is served. Port 0: one that is free, which the log tells."""


class Watch(Section):
    """What the agent looks after without being asked."""

    drift_s: Annotated[float, Field(ge=0, le=86400)] = 300
    """How often it looks where StorPool, the kernel and libvirt do not agree. 0: never, but when it is asked."""

    state_low_bytes: Annotated[int, Field(ge=0)] = 256 << 20
    """Less room than this for the journal is logged, and in the status line. 0: not watched."""
    scratch_low_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    """Likewise for `scratch_dir`; with less, no copy that needs room there begins. 0: not watched."""


class Log(Section):
    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: for people on a terminal, JSON otherwise."""
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """Every setting. Unknown ones are errors: a misspelt one would otherwise be silently without effect."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        hide_input_in_errors=True,
    )

    host: Annotated[HostId, AfterValidator(_one_host)] = gethostname().split(".")[0]
    """This host's name on the bus. Default: its host name up to the first dot."""
    state_dir: Path = Path("/var/lib/storpool-agent")
    control_socket: Annotated[Path, AfterValidator(_absolute)] = Path("/run/storpool-agent/control.sock")
    """Where the agent answers `storpool-agent status` and the like. Its directory must be writable by root alone."""
    amqp: Amqp = Amqp()
    storpool: StorPool = StorPool()
    pools: dict[PoolName, Pool] = {}
    libvirt: Libvirt = Libvirt()
    migration: Migration = Migration()
    lanes: Lanes = Lanes()
    secondary: Secondary = Secondary()
    encryption: Encryption = Encryption()
    metrics: Metrics = Metrics()
    watch: Watch = Watch()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file, which `load` hands in."""
        return env_settings, init_settings


def load(path: Path) -> Settings:
    """Read the file; the environment goes over it. Raises SettingsInvalid."""
    try:
        values: Mapping[str, Any] = TomlConfigSettingsSource(Settings, path)() if path.exists() else {}
        if not path.exists():
            raise SettingsInvalid(f"{path}: no such file")
        return Settings(**values)
    except ValidationError as error:
        raise SettingsInvalid(f"{path}: {_problems(error)}") from None
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"{path}: {error}") from error


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: "
        + ("no such setting" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, "))
        for problem in error.errors(include_input=False, include_url=False, include_context=False)
    )


def listen_address(settings: Metrics) -> tuple[str, int] | None:
    """Where to listen; None: nowhere."""
    if not settings.listen:
        return None
    host, _, port = settings.listen.rpartition(":")
    return host.strip("[]"), int(port)


def scratch_dir(settings: Settings) -> Path:
    """Where files of this host go that are gone when they are closed."""
    return settings.secondary.scratch_dir or settings.state_dir / "scratch"
