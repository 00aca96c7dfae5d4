# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is attached to this host, and where StorPool, the kernel and libvirt do not agree."""

import sys
from pathlib import Path

import click

from storpool_agent.cli import asking, render
from storpool_agent.cli.exits import TROUBLE
from storpool_agent.cli.options import config_option, json_option
from storpool_agent.cli.render import BAD, WARNING, Cell
from storpool_commands.control import (
    Drift,
    DriftReport,
    GetDriftReport,
    ListAttachments,
    ListedAttachment,
    ListedAttachments,
)

WORST = {"two-writers", "not-attached"}
"""Data may be at stake."""


@click.command()
@config_option
@json_option
def attachments(config: Path, as_json: bool) -> None:
    """What StorPool has attached to this host, and which machines have it."""
    answer = asking.ask(config, ListAttachments(), ListedAttachments)
    if as_json:
        answer.print_json()
    elif answer.result.attachments:
        columns = ("volume", "kind", "mode", "size", "device", "machines")
        render.table(columns, [_attachment(one) for one in answer.result.attachments])
    else:
        click.echo("Nothing is attached to this host.", err=True)


def _attachment(one: ListedAttachment) -> list[Cell]:
    return [
        f"~{one.global_id}",
        "snapshot" if one.snapshot else "volume",
        one.mode,
        render.sized(one.size_bytes) if one.size_bytes is not None else "-",
        one.device or ("none", BAD),
        ", ".join(one.vm_names or one.vms) or "-",
    ]


@click.command()
@config_option
@json_option
def drift(config: Path, as_json: bool) -> None:
    """Where StorPool, the kernel and libvirt do not agree. Nothing is mended.

    Exit status 0: they agree. 1: they do not, or it is not known, because one of them does not answer.
    """
    answer = asking.ask(config, GetDriftReport(), DriftReport, "it is not known whether they agree")
    if as_json:
        answer.print_json()
    elif answer.result.drifts:
        show(answer.result.drifts, answer.agent.state == "running")
    else:
        click.echo("StorPool, the kernel and libvirt agree.", err=True)
    sys.exit(TROUBLE if answer.result.drifts else 0)


def show(drifts: list[Drift], watched: bool) -> None:
    """`watched`: by an agent, which alone knows since when."""
    names = ("kind", "volume", "what", *(["since"] if watched else []), "what to do")
    render.table(names, [_drift(one, watched) for one in drifts])


def _drift(one: Drift, watched: bool) -> list[Cell]:
    what = f"~{one.global_id}" if one.global_id else one.path or "-"
    since = [render.when(one.first_seen)] if watched else []
    return [(one.kind, BAD if one.kind in WORST else WARNING), what, one.detail, *since, one.repair]
