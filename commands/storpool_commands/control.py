# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands of the control queue: served at once, never behind a lane. They change no disk."""

from typing import Annotated, Any, Literal

from pydantic import Field

from storpool_commands.wire import AnswerModel, CommandModel, HostId, RequestId, Timestamp

State = Literal["accepted", "running", "finished"]
LogLevel = Literal["debug", "info", "warning", "error"]


class Pong(AnswerModel):
    """The agent lives."""

    command: Literal["ping"] = "ping"
    host: HostId
    version: str
    time: Timestamp


class Ping(CommandModel[Pong]):
    """Ask whether the agent lives. On a host's queue it takes the whole durable way that commands take."""

    command: Literal["ping"] = "ping"


class JobProgress(AnswerModel):
    """How far a running command is. Fields are null where that is not known, or does not apply to the phase."""

    phase: str
    """What is being done, in a word or two for a person, such as `copy`."""
    bytes_done: int | None = None
    """Of this phase."""
    bytes_total: int | None = None
    rate_bytes_s: int | None = None
    """How fast it has moved lately."""
    eta_s: float | None = None
    """When this phase is likely to end, at that rate."""
    stalled_s: float | None = None
    """For how long not a byte has moved; null while it moves."""


class CommandStatus(AnswerModel):
    """What became of one request."""

    id: RequestId
    body_command: str
    """The command that the request asked for."""
    state: State
    received_at: Timestamp
    attempts: int
    """How often it was started: more than once when the agent died in between."""
    steps: list[str] = []
    """The steps of a running command, the last being the present one."""
    progress: JobProgress | None = None
    """How far a running copy job is; null for other commands, and for one that waits or is finished."""
    objects: dict[str, str] = {}
    """What the command is about, as its sender named it: `volume`, `snapshot`, `path`, `vm`, `pool`."""
    finished_at: Timestamp | None = None
    outcome: Literal["success", "failure"] | None = None
    """Of its reply; null as long as it has none."""
    code: str | None = None
    """The error code of a failure."""


class Kept(AnswerModel):
    """Something that the host has written down for a request."""

    kind: str
    target: str


class CommandDetails(AnswerModel):
    """All that the host knows of a request besides."""

    request: dict[str, Any] | None
    """The request as it came, without secrets; null when it is too large to be shown."""
    publisher: str | None
    reply_to: list[str]
    """The words that have asked for the reply."""
    unsent_replies: int
    """How many of them the broker has not confirmed yet."""
    shared: bool
    """It came from the queue of all hosts."""
    stops: int
    """How many attempts ended because the agent was stopped."""
    notes: list[Kept]
    """What it wrote down to find it again after a crash."""
    temporaries: list[Kept]
    """What a copy job has made for as long as it runs; of a finished one: what could not be taken away yet."""
    waits_for: list[RequestId] = []
    """The requests that have its objects, or come before it; empty when it runs, or waits for a worker."""


class QueriedCommand(AnswerModel):
    """What became of a request, with its reply once there is one."""

    command: Literal["queryCommand"] = "queryCommand"
    status: CommandStatus
    reply: dict[str, Any] | None
    """The reply as it was published, null as long as the command is not finished."""
    details: CommandDetails | None = None
    """When they were asked for."""


class QueryCommand(CommandModel[QueriedCommand]):
    """Ask what became of a request; `unknown-request` when this host never accepted it, or long ago."""

    command: Literal["queryCommand"] = "queryCommand"
    id: RequestId
    details: bool = False
    """Also tell the request itself, and what is written down for it."""


class ListedCommands(AnswerModel):
    """The requests that this host has accepted, the newest first."""

    command: Literal["listCommands"] = "listCommands"
    commands: list[CommandStatus]


class ListCommands(CommandModel[ListedCommands]):
    """List the requests of this host."""

    command: Literal["listCommands"] = "listCommands"
    state: State | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    id_prefix: Annotated[str, Field(pattern=r"^[0-9a-f-]{1,36}$")] | None = None
    """Only those whose id begins so."""


class CancelledCommand(AnswerModel):
    """A request that will not be run, or that has been asked to stop."""

    command: Literal["cancelCommand"] = "cancelCommand"
    id: RequestId
    outcome: Literal["cancelled", "stopping"]
    """`cancelled`: it had not started, its reply is the failure `cancelled`. `stopping`: it runs, and ends at
    its next step that can be left, a copy job also within a step; its own reply says how it ended."""


class CancelCommand(CommandModel[CancelledCommand]):
    """Stop a request: `too-late` when it is finished, `unknown-request` when this host does not know it."""

    command: Literal["cancelCommand"] = "cancelCommand"
    id: RequestId


class ListedAttachment(AnswerModel):
    """A volume or snapshot that is attached to this host."""

    global_id: str
    snapshot: bool
    mode: Literal["rw", "ro"]
    path: str | None
    """Its link; null when there is none, which is a defect: see driftReport."""
    vms: list[str]
    """UUIDs of the machines of this host that have it as a disk."""
    vm_names: list[str] = []
    """Their names, in the same order."""
    device: str | None = None
    """The node that the link leads to."""
    size_bytes: int | None = None
    """Of the device."""


class ListedAttachments(AnswerModel):
    """What is attached to this host, as StorPool lists it."""

    command: Literal["listAttachments"] = "listAttachments"
    attachments: list[ListedAttachment]


class ListAttachments(CommandModel[ListedAttachments]):
    """List what is attached to this host."""

    command: Literal["listAttachments"] = "listAttachments"


DriftKind = Literal["no-device", "not-attached", "not-used", "wrong-mode", "unplug-pending", "two-writers"]


class Drift(AnswerModel):
    """Something on which StorPool, the kernel and libvirt do not agree."""

    kind: DriftKind
    """`no-device`: attached, but no link leads to a device. `not-attached`: a machine's disk, or a link, that
    StorPool does not list here. `not-used`: attached, and neither a machine nor a copy job has it. `wrong-mode`: rw
    at one, ro at the other. `unplug-pending`: a guest has been asked to let go. `two-writers`: also attached rw to
    another client."""
    global_id: str | None
    """Null for a disk whose path is a name that leads nowhere."""
    path: str | None
    vm: str | None
    detail: str
    """For a person."""
    first_seen: Timestamp
    """When the agent saw it first, and at every look since. It looks every few minutes, and forgets at its restart."""
    evidence: list[str]
    """What StorPool, the kernel and libvirt each say of it, for a person."""
    repair: str
    """The command that mends it, for a person who has looked at the evidence; the agent itself mends nothing."""


class DriftReport(AnswerModel):
    """Where what is there differs from what should be; empty is good."""

    command: Literal["driftReport"] = "driftReport"
    scanned_at: Timestamp
    """When the last of the two looks was begun that all of it was seen in."""
    drifts: list[Drift]


class GetDriftReport(CommandModel[DriftReport]):
    """Compare what StorPool, the kernel and libvirt say. Nothing is mended."""

    command: Literal["driftReport"] = "driftReport"


class UnfinishedCommand(AnswerModel):
    """A request that is run, or waits for its turn."""

    id: RequestId
    body_command: str
    """The command that the request asked for."""
    state: Literal["queued", "running"]
    waited_s: float
    """Since it came, or since the agent was started."""
    progress: JobProgress | None = None
    """How far a running copy job is; null for other commands."""


class PendingUnplug(AnswerModel):
    """A guest that was asked to let go of a disk, and has not."""

    global_id: str
    vm: str
    request: str
    """The detachDisk that has asked."""


class RunningMirror(AnswerModel):
    """A running machine's disk that is being copied elsewhere."""

    vm: str
    path: str
    """Where to."""
    request: str
    """The command that has begun it."""


class Drained(AnswerModel):
    """Whether the host takes commands, and what is still there that a maintenance of it would disturb."""

    command: Literal["drain"] = "drain"
    draining: bool
    quiet: bool
    """It is drained, nothing is under way, and no running machine has a volume: it may be taken down."""
    unfinished: int
    """Requests that the host has accepted and not finished; they are run."""
    commands: list[UnfinishedCommand] = []
    """Those, copies among them, the oldest first; a hundred at most."""
    pending_unplugs: list[PendingUnplug] = []
    mirrors: list[RunningMirror] = []
    attachments: list[ListedAttachment] | None = None
    """Those that running machines of this host have. Null when that could not be found out, and with `on: false`."""
    not_known: str | None = None
    """Why it could not be found out."""


class Drain(CommandModel[Drained]):
    """Take no more commands, or take them again. What is in the host's queue waits there.

    Control commands are answered. It lasts until it is turned off, or the agent starts anew. Sent again, it says what
    is left.
    """

    command: Literal["drain"] = "drain"
    on: bool


class LogLevelSet(AnswerModel):
    """How much the agent logs."""

    command: Literal["setLogLevel"] = "setLogLevel"
    before: LogLevel
    after: LogLevel


class SetLogLevel(CommandModel[LogLevelSet]):
    """Have the agent log more or less, until it starts anew."""

    command: Literal["setLogLevel"] = "setLogLevel"
    level: LogLevel


class LinkStatus(AnswerModel):
    """A connection to the broker."""

    name: str
    """`in` takes commands, `out` sends replies."""
    connected: bool
    since: Timestamp | None
    """Since when it is connected, or is not."""
    reason: str | None = None
    """Why it is not, as far as is known."""


class LaneStatus(AnswerModel):
    """Threads that run commands."""

    name: str
    workers: int
    running: int
    queued: int
    """What waits for one of the workers; what waits for its objects is not among it."""


class ProcessStatus(AnswerModel):
    """The agent's process."""

    pid: int
    started_at: Timestamp
    stopping: bool
    """It was told to stop, and finishes what runs."""
    draining: bool
    """It takes no commands, see drain."""
    broker: str
    """Address of the broker."""
    links: list[LinkStatus]
    lanes: list[LaneStatus]
    unfinished: int
    """Requests that are accepted and have no reply yet."""
    troubles: list[str] = []
    """What the agent itself has found, and somebody has to look at; for a person."""


class Reach(AnswerModel):
    """Something that the agent needs."""

    reachable: bool
    detail: str
    """What it is, or why it cannot be reached; for a person."""


class JournalStatus(AnswerModel):
    """The journal, and the disk that it is on."""

    path: str
    size_bytes: int
    free_bytes: int
    """Of the file system."""
    total_bytes: int


class AgentStatus(AnswerModel):
    """How the agent is."""

    command: Literal["agentStatus"] = "agentStatus"
    host: HostId
    version: str
    process: ProcessStatus | None
    """Null when no agent runs: the command line of the host then looks itself."""
    storpool: Reach
    libvirt: Reach
    journal: JournalStatus
    unfinished: int
    """Requests in the journal that have no reply yet."""
    unsent_replies: int
    """Messages that the broker has not confirmed."""
    oldest_unsent: Timestamp | None
    pending_unplugs: int
    """Guests that were asked to let go of a disk and have not yet."""
    pending_thaws: int
    """Guests that a command may have frozen."""
    leftovers: int
    """What finished copy jobs have made and could not take away yet."""
    troubles: list[str]
    """What somebody should look at, for a person; empty is good."""


class GetAgentStatus(CommandModel[AgentStatus]):
    """Ask how the agent is: its connections, its work, its disk. StorPool and libvirt are asked, too."""

    command: Literal["agentStatus"] = "agentStatus"
