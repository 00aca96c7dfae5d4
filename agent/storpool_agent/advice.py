# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""From what is known of a volume to who has it, and to what somebody should do. Pure; commands stand in backquotes."""

from collections.abc import Iterator, Sequence
from shlex import quote

from storpool_commands.disks import Holder
from storpool_commands.explaining import ExplainedVolume, SeenDisk, SeenJob


def summary(seen: ExplainedVolume, text: str) -> str:
    """Who has it, in a sentence or two."""
    return " ".join([*(_who(seen) or [_nobody(seen, text)]), *_open(seen)])


def what_to_do(seen: ExplainedVolume, host: str) -> list[str]:
    """The most urgent first. Nothing here forces anything that somebody still uses."""
    return [
        *_unknown(seen),
        *_missing(seen),
        *_two_writers(seen),
        *_written(seen),
        *_unplugged(seen),
        *_no_device(seen),
        *_busy(seen, host),
        *_idle(seen, host),
        *_elsewhere(seen, host),
    ] or [_free(seen, host)]


def _who(seen: ExplainedVolume) -> list[str]:
    said: list[str] = []
    if live := [one for one in seen.disks if one.live]:
        said.append(f"{_machines(live)} with it as {_targets(live)}.")
    if seen.pending_unplug:
        who = "Its guest" if len(live) == 1 and live[0].vm == seen.pending_unplug.vm else f"The guest of {_vm(seen)}"
        said.append(f"{who} was asked to let go of it, and has not yet.")
    said += [_holder(one) for one in strangers(seen)]
    if running := [one for one in seen.jobs if one.state == "running"]:
        said.append(f"{_requests(running)} {'is' if len(running) == 1 else 'are'} at work on it.")
    if said and seen.volume and not here(seen) and not seen.not_known:
        said.append("StorPool does not list it as attached here.")
    return said


def _nobody(seen: ExplainedVolume, text: str) -> str:
    mode, others = here(seen), elsewhere(seen)
    unused = "" if seen.not_known else ", and nothing on this host uses it"
    if seen.volume is None and not seen.not_known:
        return f"StorPool has no volume or snapshot {text}."
    if mode:
        return f"It is attached here ({mode}){unused}."
    if others:
        clients = ", ".join(f"client {client} ({mode})" for client, mode in others)
        return f"It is not attached here, but to {clients}."
    if _silent(seen, "StorPool"):
        return "Nothing that could be asked knows who has it."
    return f"It is attached nowhere{unused}."


def _open(seen: ExplainedVolume) -> Iterator[str]:
    """What nobody has said must not be taken for a no."""
    asked = [question for side, question in _QUESTIONS.items() if _silent(seen, side)]
    if asked:
        yield f"It is not known {', nor '.join(asked)}."


_QUESTIONS = {
    "StorPool": "where it is attached",
    "the device": "what has its device open",
    "libvirt": "which machines have it",
    "the journal": "which requests are at work on it",
}


def _silent(seen: ExplainedVolume, side: str) -> bool:
    return any(one.startswith(f"{side}: ") for one in seen.not_known)


def _unknown(seen: ExplainedVolume) -> Iterator[str]:
    if _silent(seen, "StorPool"):
        yield "StorPool did not say what is attached where: what is said here is what this host knows alone."
    if _silent(seen, "libvirt"):
        yield (
            "libvirt did not say which machines have it: detach and delete nothing before it does. "
            "`systemctl status libvirtd virtqemud`."
        )


def _missing(seen: ExplainedVolume) -> Iterator[str]:
    if seen.volume is not None or seen.not_known:
        return
    if seen.link:
        yield f"A link is left at {seen.link}: look with `ls -l {quote(seen.link)}` whether storpool_block hangs."
    elif seen.disks:
        names = ", ".join(sorted({one.name for one in seen.disks}))
        yield f"Machine {names} names it as a disk all the same: it will not start before that is mended."
    else:
        yield "Is it spelt right, and in this host's cluster? `storpool volume list` and `storpool snapshot list` say."


def _two_writers(seen: ExplainedVolume) -> Iterator[str]:
    others = [str(client) for client, mode in elsewhere(seen) if mode == "rw"]
    if here(seen) == "rw" and others:
        yield (
            f"It is attached for writing here and to client {', '.join(others)}: right only while a machine migrates. "
            "If none does, find out which host has the machine, and stop it on the other before anything is written."
        )


def _written(seen: ExplainedVolume) -> Iterator[str]:
    """A volume that a copy job is writing is attached by nobody until it is whole."""
    if not seen.writing:
        return
    if any(str(one.id) == seen.writing for one in seen.jobs):
        yield (
            f"A copy job of this host is writing it. Wait for it: `storpool-agent job {quote(seen.writing)}`; "
            f"or end it, which deletes the volume: `storpool-agent cancel {quote(seen.writing)}`."
        )
    else:
        yield (
            f"Request {seen.writing} was writing it, and does not run on this host. Ask the other hosts for it: "
            f"`storpool-ctl --host HOST query-command --id {quote(seen.writing)}`. If none knows it, the volume is "
            "half a copy that nobody finishes, and can be deleted."
        )


def _unplugged(seen: ExplainedVolume) -> Iterator[str]:
    if seen.pending_unplug:
        vm = _vm(seen)
        yield (
            f"Nothing has to be sent again: the agent detaches it as soon as the guest of {vm} lets go. Is it still "
            f"mounted in there, or is the guest booting or hung? `virsh console {quote(vm)}`. "
            f"A machine that is shut down lets go: `virsh shutdown {quote(vm)}`."
        )


def _no_device(seen: ExplainedVolume) -> Iterator[str]:
    if here(seen) and seen.device is None:
        yield (
            "It is attached, and there is no device that can be used. Does the client run? "
            "`systemctl status storpool_block`, and the kernel's log: `journalctl -k -n 50`."
        )
    elif seen.link and not here(seen) and seen.volume is not None and not seen.not_known:
        yield (
            f"A link is left at {seen.link} although StorPool lists no attachment: do not use it; does "
            "storpool_block hang? `systemctl status storpool_block`."
        )


def _busy(seen: ExplainedVolume, host: str) -> Iterator[str]:
    if not seen.pending_unplug:
        yield from (_of_machine(one, seen, host) for one in seen.disks if one.live)
    yield from filter(None, (_of_holder(one, seen) for one in strangers(seen)))
    for job in seen.jobs:
        if job.state == "running" and str(job.id) != seen.writing:
            yield f"Wait for {job.body_command}: `storpool-agent job {job.id}` says how far it is."
    if waiting := [one for one in seen.jobs if one.state == "queued"]:
        some = "request waits" if len(waiting) == 1 else "requests wait"
        first = waiting[0]
        yield f"{len(waiting)} {some} for it; the next is {first.body_command}: `storpool-agent job {first.id}`."


def _idle(seen: ExplainedVolume, host: str) -> Iterator[str]:
    """Attached here, and nobody has it."""
    if not here(seen) or seen.device is None or seen.not_known or seen.pending_unplug or seen.temporaries:
        return
    if any(one.live for one in seen.disks) or seen.holders or seen.jobs:
        return
    off = sorted({one.name for one in seen.disks})
    if off:
        start = " ".join(f"`virsh start {quote(name)}`" for name in off)
        yield f"It waits for {', '.join(off)}, which is configured with it and does not run: {start}."
    else:
        kind = "snapshot" if seen.volume and seen.volume.snapshot else "volume"
        yield (
            "If it is not needed here: "
            f"`storpool-ctl --host {quote(host)} disconnect-physical-disk --{kind} {_ref(seen)}`."
        )


def _elsewhere(seen: ExplainedVolume, host: str) -> Iterator[str]:
    others = elsewhere(seen)
    if here(seen) or not others:
        return
    clients = " and ".join(f"client {client}" for client, _ in others)
    yield (
        f"Look on the host of {clients} (`storpool client status` knows which): "
        f"`storpool-agent why {_ref(seen)}` there says who uses it."
    )
    if not (seen.volume and seen.volume.snapshot) and any(mode == "rw" for _, mode in others):
        yield (
            "Only if that host is dead and certainly powered off: "
            f"`storpool-ctl --host {quote(host)} fence-volumes --volumes {_ref(seen)} --confirm-fenced --reason 'why'`."
        )


def _free(seen: ExplainedVolume, host: str) -> str:
    if seen.volume is None or here(seen):
        return "There is nothing to do here."
    kind = "snapshot" if seen.volume.snapshot else "volume"
    return f"It can be attached: `storpool-ctl --host {quote(host)} connect-physical-disk --{kind} {_ref(seen)}`."


def _of_machine(disk: SeenDisk, seen: ExplainedVolume, host: str) -> str:
    return (
        f"To take it from {disk.name}, which runs with it: "
        f"`storpool-ctl --host {quote(host)} detach-disk --vm {quote(disk.vm)} --volume {_ref(seen)}`."
    )


def _of_holder(holder: Holder, seen: ExplainedVolume) -> str:
    node = quote(seen.device.node if seen.device else "")
    match holder.kind:
        case "mount" if holder.pid is None:
            return f"`umount {quote(holder.name)}`, once nothing uses it: `fuser -vm {quote(holder.name)}`."
        case "mount":
            return (
                f"Process {holder.pid} keeps a copy of a mount (`ps -fp {holder.pid}` says what it is): restart it, or "
                f"`nsenter -t {holder.pid} -m umount {quote(holder.name)}`."
            )
        case "device":
            return f"Take down what is made on top of it: `lsblk {node}` shows it."
        case _:
            return f"Look what process {holder.pid} is, and end it in its own way: `ps -fp {holder.pid}`."


def strangers(seen: ExplainedVolume) -> list[Holder]:
    """Who has it open, but for the machines that are told as such."""
    machines = {one.name for one in seen.disks if one.live}
    return [one for one in seen.holders if not (one.kind == "vm" and one.name in machines)]


def here(seen: ExplainedVolume) -> str | None:
    """How it is attached to this host."""
    return next((one.mode for one in seen.attachments if one.client == seen.client), None)


def elsewhere(seen: ExplainedVolume) -> list[tuple[int, str]]:
    """Client and mode."""
    return [(one.client, one.mode) for one in seen.attachments if one.client != seen.client]


def _holder(holder: Holder) -> str:
    match holder.kind:
        case "mount":
            where = f", in the mount namespace of process {holder.pid}" if holder.pid else ""
            return f"It is mounted at {holder.name}{where}."
        case "device":
            return f"Device {holder.name} is made on top of it."
        case "vm":
            return f"QEMU of machine {holder.name} (pid {holder.pid}) has it open."
        case _:
            return f"Process {holder.name} (pid {holder.pid}) has it open."


def _vm(seen: ExplainedVolume) -> str:
    """The machine's name, where libvirt has said it."""
    pending = seen.pending_unplug
    uuid = pending.vm if pending else ""
    return next((one.name for one in seen.disks if one.vm == uuid), uuid)


def _machines(disks: Sequence[SeenDisk]) -> str:
    names = sorted({one.name for one in disks})
    return f"Machine {names[0]} runs" if len(names) == 1 else f"Machines {', '.join(names)} run"


def _targets(disks: Sequence[SeenDisk]) -> str:
    return ", ".join(dict.fromkeys(one.target for one in disks))


def _requests(jobs: Sequence[SeenJob]) -> str:
    return " and ".join(f"{job.body_command} {str(job.id)[:8]}" for job in jobs)


def _ref(seen: ExplainedVolume) -> str:
    return quote(f"~{seen.global_id}" if seen.global_id else seen.volume.name if seen.volume else "")
