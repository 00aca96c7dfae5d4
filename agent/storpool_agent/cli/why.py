# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who has a volume, and what to do."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from pydantic import ValidationError

from storpool_agent.cli import asking, render
from storpool_agent.cli.options import config_option, json_option
from storpool_agent.cli.render import BAD, FAINT, WARNING, Cell
from storpool_commands.explaining import ExplainedVolume, ExplainVolume, SeenDisk, SeenJob


@click.command()
@click.argument("volume")
@config_option
@json_option
def why(volume: str, config: Path, as_json: bool) -> None:
    """Who has a volume or snapshot, and what to do about it.

    VOLUME is a name, ~<global id>, /dev/storpool/<name> or /dev/storpool-byid/<global id>. Nothing is changed.
    """
    try:
        command = ExplainVolume(volume=volume)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.BadParameter(problem, param_hint="VOLUME") from None
    answer = asking.ask(config, command, ExplainedVolume)
    if as_json:
        answer.print_json()
    else:
        show(answer.result, volume)


def show(seen: ExplainedVolume, asked: str) -> None:
    """The answer first, then what it is made of, then what to do."""
    render.line((_title(seen, asked), "bold"))
    render.line(seen.summary)
    render.line()
    render.facts([*_storpool(seen), *_host(seen), *_migration(seen), *_jobs(seen), *_kept(seen), *_not_known(seen)])
    if seen.advice:
        render.heading("What to do")
        for number, one in enumerate(seen.advice, start=1):
            render.line(f"  {number}. {one}")


def _title(seen: ExplainedVolume, asked: str) -> str:
    volume = seen.volume
    if volume is None:
        return asked
    name = f" {volume.name}" if volume.name and volume.name != f"~{volume.global_id}" else ""
    kind = "Snapshot" if volume.snapshot else "Volume"
    return f"{kind} ~{volume.global_id}{name}, {render.sized(volume.size_bytes)}, template {volume.template or '-'}"


def _storpool(seen: ExplainedVolume) -> Iterator[tuple[str, Cell]]:
    said = [
        f"{'this host, ' if one.client == seen.client else ''}client {one.client} ({one.mode})"
        for one in seen.attachments
    ]
    yield from _lines("attached to", said)


def _host(seen: ExplainedVolume) -> Iterator[tuple[str, Cell]]:
    if device := seen.device:
        yield "device", f"{device.link} -> {device.node}, {render.sized(device.size_bytes)}, {device.mode}"
        if seen.volume and device.size_bytes != seen.volume.size_bytes:
            yield "", ("another size than the volume has: a resize has not come through", WARNING)
    else:
        yield "device", (f"none; the link {seen.link} leads to nothing", WARNING) if seen.link else ("none", FAINT)
    yield from _lines("open by", [_holder(one.kind, one.name, one.pid) for one in seen.holders])
    yield from _lines("machines", [_disk(one) for one in seen.disks])
    if pending := seen.pending_unplug:
        asked = f"asked to let go {render.moment(pending.since)} by request {pending.request}"
        yield "unplug", (f"machine {pending.vm} was {asked}", WARNING)


def _migration(seen: ExplainedVolume) -> Iterator[tuple[str, Cell]]:
    if one := seen.migration:
        way = f"to {one.peer}" if one.role == "source" else f"from {one.peer}"
        text = f"of machine {one.name} {way}, since {render.moment(one.since)}, {one.migration}"
        yield "migration", (f"{text}; expired {render.moment(one.expires_at)}", BAD) if one.expired else text


def _holder(kind: str, name: str, pid: int | None) -> str:
    what = {"vm": "QEMU of machine", "process": "process", "mount": "mounted at", "device": "device"}[kind]
    return f"{what} {name}{f' (pid {pid})' if pid else ''}"


def _disk(one: SeenDisk) -> str:
    has = {(True, True): "now and in its configuration", (True, False): "now, not in its configuration"}
    state = has.get((one.live, one.config), "in its configuration alone")
    return f"{one.name} ({one.vm}), {'running' if one.running else 'off'}: {one.target}, {one.mode}, {state}"


def _jobs(seen: ExplainedVolume) -> Iterator[tuple[str, Cell]]:
    yield from _lines("under way", [_job(one) for one in seen.jobs])
    yield from _lines("lately", [_job(one) for one in seen.recent])


def _job(one: SeenJob) -> str:
    if one.state == "finished":
        ended = one.code or "done"
        return f"{str(one.id)[:8]} {one.body_command}: {ended}, {render.moment(one.finished_at or one.received_at)}"
    step = f", after its step `{one.step}`" if one.step else ""
    return f"{one.id} {one.body_command}: {one.state}{step}, came {render.moment(one.received_at)}"


def _kept(seen: ExplainedVolume) -> Iterator[tuple[str, Cell]]:
    yield from _lines("copies", [f"{one.kind} of request {one.target}" for one in seen.temporaries])
    if seen.generation:
        yield "generation", f"{seen.generation}; an older command is refused"
    if seen.writing:
        yield "being written", (f"by request {seen.writing} (tag sp-writing)", WARNING)
    if seen.operation:
        yield "made by", f"request {seen.operation} (tag sp-op)"


def _not_known(seen: ExplainedVolume) -> Iterator[tuple[str, Cell]]:
    yield from ((name, (cell, BAD)) for name, cell in _lines("not known", seen.not_known) if isinstance(cell, str))


def _lines(name: str, texts: Sequence[str]) -> list[tuple[str, Cell]]:
    """The name stands before the first one."""
    return [(name if number == 0 else "", text) for number, text in enumerate(texts)]
