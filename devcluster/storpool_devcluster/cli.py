# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The command line: `storpool-devcluster serve`."""

import json
import logging
import re
import signal
import sys
from pathlib import Path
from typing import Any

import click

from storpool_devcluster.cluster import Options
from storpool_devcluster.pool import DEFAULT_POOL_BYTES
from storpool_devcluster.qos import Tier
from storpool_devcluster.records import Limit
from storpool_devcluster.service import Service

_GIB = 1 << 30


@click.group()
@click.version_option(package_name="storpool-agent")
def main() -> None:
    """A development StorPool: the JSON API over HTTP, with real block devices."""


def _parse_clients(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[int, Path | None]:
    clients: dict[int, Path | None] = {}
    for value in values:
        client, _, root = value.partition("=")
        if not client.isdigit() or not 1 <= int(client) <= 4095:
            raise click.BadParameter(f"{value}: the client id is a number from 1 to 4095")
        if int(client) in clients or (root and Path(root).absolute() in clients.values()):
            raise click.BadParameter(f"{value}: this client or device directory is named twice")
        clients[int(client)] = Path(root).absolute() if root else None
    return clients


def _parse_address(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter(f"{value}: want HOST:PORT")
    return host.strip("[]"), int(port)


def _parse_tiers(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Tier]:
    tiers: dict[str, Tier] = {}
    for value in values:
        found = re.fullmatch(r"([A-Za-z0-9_.:-]+)=(\d+|-)(?:,(\d+|-))?", value)
        if found is None:
            raise click.BadParameter(f"{value}: want TIER=IOPS or TIER=IOPS,KIB_PER_S")
        tiers[found[1]] = Tier(_parse_limit(found[2]), _parse_limit(found[3]))
    return tiers


def _parse_limit(text: str | None) -> Limit:
    return int(text) if text and text != "-" else "-"


def _parse_clusters(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    clusters: dict[str, str] = {}
    for value in values:
        found = re.fullmatch(r"([a-z0-9]+\.[a-z0-9]+)=([A-Za-z0-9_.:-]{1,63})", value)
        if found is None:
            raise click.BadParameter(f"{value}: want ID=NAME, such as d.m=far")
        clusters[found[1]] = found[2]
    return clusters


@main.command()
@click.option("--state", type=click.Path(path_type=Path), required=True, help="Directory for all that is kept.")
@click.option("--listen", default="127.0.0.1:8181", show_default=True, callback=_parse_address, help="Port 0: any.")
@click.option("--token", envvar="STORPOOL_DEVCLUSTER_TOKEN", help="SP_AUTH_TOKEN of the clients.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Holds the token.")
@click.option(
    "--client",
    "clients",
    multiple=True,
    required=True,
    callback=_parse_clients,
    metavar="ID[=DEVROOT]",
    help="A host. DEVROOT gets sp-<N>, storpool/ and storpool-byid/ and may be /dev; without it, no devices.",
)
@click.option("--cluster-id", default="d.n", show_default=True)
@click.option("--cluster-name", default="dev", show_default=True)
@click.option(
    "--remote-cluster",
    "remote_clusters",
    multiple=True,
    callback=_parse_clusters,
    metavar="ID=NAME",
    help="Another cluster of the multi-cluster, which RemoteCommand reaches.",
)
@click.option("--template", "templates", multiple=True, default=("dev",), show_default=True)
@click.option("--devices", type=click.Choice(["loop", "files", "none"]), default="loop", show_default=True)
@click.option("--pool-gib", type=click.IntRange(1), default=DEFAULT_POOL_BYTES // _GIB, show_default=True)
@click.option("--strict/--no-strict", default=True, show_default=True, help="Refuse unknown JSON keys.")
@click.option("--error-status", type=click.Choice(["500", "200"]), default="500", show_default=True)
@click.option("--unnamed-links/--no-unnamed-links", default=True, show_default=True, help="Make storpool/~<gid>.")
@click.option("--busy-udev", is_flag=True, help="A udev worker that probes a device makes its detach busy.")
@click.option("--revert-attached", is_flag=True, help="Let VolumeRevert work on an attached volume.")
@click.option("--revert-resets-limits", is_flag=True, help="VolumeRevert gives a volume its template's limits.")
@click.option(
    "--qos",
    "tiers",
    multiple=True,
    callback=_parse_tiers,
    metavar="TIER=IOPS[,KIB_PER_S]",
    help="Set limits by the tag qc, as storpool_qos does.",
)
@click.option("--qos-interval-s", type=float, default=60.0, show_default=True)
@click.option("--http11", is_flag=True, help="Keep connections open, which StorPool does not.")
def serve(
    state: Path,
    listen: tuple[str, int],
    token: str | None,
    token_file: Path | None,
    pool_gib: int,
    error_status: str,
    http11: bool,
    **options: Any,
) -> None:
    """Serve until SIGTERM. Prints one JSON line with the address when ready."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    secret = token_file.read_text().strip() if token_file else token
    if not secret:
        raise click.UsageError("one of --token and --token-file is needed")
    # Blocked before the first thread starts, so that every thread leaves them to the wait below.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    service = Service(
        Options(state.absolute(), pool_bytes=pool_gib * _GIB, error_status=int(error_status), **options),
        listen,
        secret,
        keep_alive=http11,
    )
    service.start()
    click.echo(json.dumps({"event": "ready", "api": service.address}))
    sys.stdout.flush()
    signal.sigwait(signals)
    service.stop()
