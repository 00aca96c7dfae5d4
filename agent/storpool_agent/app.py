# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The whole agent: the only place where parts are made, started and stopped."""

import fcntl
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from time import monotonic, time

import structlog
from pydantic import SecretStr

from storpool_agent import dispatch
from storpool_agent.bus.consumer import Consumer
from storpool_agent.bus.link import Broker
from storpool_agent.bus.publisher import Publisher
from storpool_agent.bus.topology import Declaration
from storpool_agent.control import Control
from storpool_agent.deadline import Deadline
from storpool_agent.devices.tree import DeviceTree
from storpool_agent.domains.hypervisor import Hypervisor
from storpool_agent.host import Host, Pool
from storpool_agent.housekeeping import Housekeeping
from storpool_agent.images.tools import ImageTools
from storpool_agent.intake import Intake
from storpool_agent.jobs import Jobs
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.overview import Overview
from storpool_agent.lanes import Lane
from storpool_agent.leftovers import Leftovers
from storpool_agent.local import LocalSocket
from storpool_agent.notify import notify
from storpool_agent.outbox import Outbox
from storpool_agent.pool_file import PoolFile
from storpool_agent.pools import KnownPools
from storpool_agent.reporting import Reporting
from storpool_agent.secondary.storage import SecondaryStorage
from storpool_agent.settings import (
    Settings,
    SettingsInvalid,
    broker_address,
    login,
    scratch_dir,
    storpool_access,
    tls_context,
)
from storpool_agent.stop import StopSignal
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.thaws import Thaws
from storpool_agent.unplugs import Unplugs
from storpool_commands.control import LaneStatus, LinkStatus, ProcessStatus
from storpool_commands.parse import parse_request

log = structlog.get_logger()

CONNECT_S = 10.0
"""How long the start waits for the broker before it says READY without it: a broker that is down is no reason
for systemd to end the agent."""
DRAIN_S = 60.0
"""How long running commands may take after SIGTERM; the unit's TimeoutStopSec is longer."""
END_COPIES_S = 15.0
"""How long the tools of running copies may take to end; a copy is begun again by the next start."""
FLUSH_S = 5.0
"""How long the broker may take to confirm the last replies; what it has not is sent by the next start."""


CONTROL_WORKERS = 2
"""Threads for control commands that ask StorPool or libvirt."""


class AlreadyRunning(Exception):
    """Another agent has this state directory."""


@dataclass
class _Parts:
    publisher: Publisher
    consumer: Consumer
    journal: Journal
    database: Database
    outbox: Outbox
    jobs: Jobs
    lane: Lane
    bulk_lane: Lane
    control_lane: Lane
    thaws: Thaws
    unplugs: Unplugs
    hypervisor: Hypervisor
    devices: DeviceTree
    abandon: Event
    housekeeping: Housekeeping
    leftovers: Leftovers
    reporting: Reporting
    local: LocalSocket
    broker: str
    started_at: float
    stopping: bool = False

    def status(self) -> ProcessStatus:
        """How this process is. Any thread may ask."""
        links = (self.consumer.link, self.publisher.link)
        lanes = (self.lane, self.bulk_lane, self.control_lane)
        return ProcessStatus(
            pid=os.getpid(),
            started_at=_utc(self.started_at),
            stopping=self.stopping,
            draining=self.consumer.is_paused,
            broker=self.broker,
            links=[LinkStatus(name=one.name, connected=one.is_ready, since=_utc(one.since)) for one in links],
            lanes=[
                LaneStatus(name=one.name, workers=one.workers, running=one.running, queued=one.queued) for one in lanes
            ],
            unfinished=self.jobs.unfinished(),
        )


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def run(settings: Settings, stop: StopSignal) -> None:
    """Serve until a stop signal. Raises SettingsInvalid, AlreadyRunning and JournalUnavailable before anything runs."""
    started = monotonic()
    log.info("starting", version=dispatch.VERSION, host=settings.host, pid=os.getpid())
    lock = _lock(settings.state_dir)
    try:
        parts = _build(settings)
        _start(parts)
        notify("READY=1", f"STATUS=serving {settings.host}")
        log.info("ready", took_s=round(monotonic() - started, 3), broker=parts.consumer.link.is_ready)
        number = stop.wait()
        notify("STOPPING=1", "STATUS=finishing what runs")
        log.info("stopping", signal=number.name)
        _stop(parts)
        log.info("stopped")
    finally:
        os.close(lock)


def _lock(state_dir: Path) -> int:
    """One agent for a host: two would each believe what the journal of the other does not know."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state_dir / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsInvalid(f"state_dir {state_dir}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise AlreadyRunning(f"another agent uses {state_dir}; stop it first") from None
    return handle


def host_of(settings: Settings, abandon: Event) -> tuple[Host, Hypervisor, DeviceTree]:
    """What commands act on, and the two sides of it that are started and stopped. Raises SettingsInvalid."""
    access = storpool_access(settings.storpool)
    hypervisor = Hypervisor(settings.libvirt.uri, abandon)
    devices = DeviceTree(settings.storpool.device_root)
    storpool = Cluster(access.api, access.token, access.our_id, abandon)
    host = Host(
        name=settings.host,
        storpool=storpool,
        devices=devices,
        domains=hypervisor,
        pools=KnownPools(
            Pool("", access.api, storpool, None, None),
            settings.pools,
            PoolFile(settings.state_dir),
            lambda api, token: Cluster(api, token, access.our_id, abandon),
        ),
        images=ImageTools(settings.secondary.web_hosts),
        secondary=SecondaryStorage(settings.secondary, scratch_dir(settings)),
        cluster_id=access.cluster_id,
    )
    return host, hypervisor, devices


def _build(settings: Settings) -> _Parts:
    started_at = time()
    abandon = Event()
    host, hypervisor, devices = host_of(settings, abandon)
    database = Database(settings.state_dir)
    journal = Journal(database, settings.host)
    broker = _broker(settings)
    publisher = Publisher(broker, broker.username)
    outbox = Outbox(journal, publisher)
    lane = Lane("fast", settings.lanes.fast)
    bulk_lane = Lane("bulk", settings.lanes.bulk)
    jobs = Jobs(host, journal, outbox, lane, bulk_lane)
    control_lane = Lane("control", CONTROL_WORKERS)
    control = Control(host, journal, Overview(database), jobs, control_lane, settings.state_dir)
    intake = Intake(
        settings.host,
        journal,
        jobs,
        control,
        outbox,
        publisher,
        settings.amqp.allowed_publishers,
    )
    shared = settings.lanes.any
    declaration = Declaration(settings.host, passive=not settings.amqp.declare, shared=shared > 0)
    consumer = Consumer(broker, declaration, intake.receive, shared, jobs.give_back)
    intake.settle, intake.decline = consumer.settle, consumer.decline
    control.gate = consumer
    unplugs = Unplugs(host, journal, jobs, outbox)
    hypervisor.on_disks_changed(unplugs.wake)
    parts = _Parts(
        publisher,
        consumer,
        journal,
        database,
        outbox,
        jobs,
        lane,
        bulk_lane,
        control_lane,
        Thaws(hypervisor, journal),
        unplugs,
        hypervisor,
        devices,
        abandon,
        Housekeeping(journal),
        Leftovers(host, journal, jobs),
        Reporting(settings.host, jobs, journal, publisher, lambda: publisher.link.is_ready),
        LocalSocket(settings.control_socket, settings.host, control),
        f"{broker.host}:{broker.port}",
        started_at,
    )
    control.process = parts.status
    return parts


def _broker(settings: Settings) -> Broker:
    username, password = login(settings.amqp)
    host, port = broker_address(settings.amqp)
    return Broker(
        host=host,
        port=port,
        vhost=settings.amqp.vhost,
        username=username,
        password=password or SecretStr(""),
        tls=tls_context(settings.amqp),
    )


def _start(parts: _Parts) -> None:
    """What an earlier run has left comes before what arrives now."""
    parts.local.open()
    parts.devices.start()
    parts.hypervisor.start()
    parts.thaws.start()
    parts.publisher.link.start()
    parts.outbox.start()
    parts.lane.start()
    parts.bulk_lane.start()
    parts.control_lane.start()
    parts.reporting.start()
    _recover(parts)
    parts.local.start()
    parts.unplugs.start()
    parts.leftovers.start()
    parts.housekeeping.start()
    parts.consumer.link.start()
    parts.consumer.link.wait_ready(CONNECT_S)


def _recover(parts: _Parts) -> None:
    """What came from the queue of all hosts is not run: the broker has it, and may have given it to another agent."""
    if shared := parts.journal.drop_shared():
        log.info("left to the broker", requests=shared)
    left = parts.journal.unfinished()
    if left:
        log.info("recovering", requests=len(left))
    for stored in left:
        parts.jobs.submit(parse_request(stored.body), stored.attempts, stored.stops, recovered=True)


def _stop(parts: _Parts) -> None:
    """Take nothing more, finish what runs, send what is to be sent; what is queued stays in the journal."""
    parts.stopping = True
    parts.consumer.cancel()
    parts.unplugs.stop()
    parts.leftovers.stop()
    parts.housekeeping.stop()
    parts.lane.drain()
    parts.bulk_lane.drain()
    parts.jobs.end_copies()
    if not parts.lane.join(Deadline.after(DRAIN_S)):
        log.warning("work abandoned", reason=f"not finished within {DRAIN_S:.0f} s; it is run again at the next start")
        parts.jobs.abandon()
        parts.abandon.set()
        parts.lane.join(Deadline.after(FLUSH_S))
    if not parts.bulk_lane.join(Deadline.after(END_COPIES_S)):
        log.warning("copies abandoned", reason=f"not ended within {END_COPIES_S:.0f} s; they end with the agent")
        parts.jobs.abandon()
    parts.abandon.set()
    parts.local.stop()
    parts.control_lane.drain()
    parts.control_lane.join(Deadline.after(FLUSH_S))
    parts.reporting.stop()
    parts.thaws.stop()
    parts.jobs.wait_stored(Deadline.after(FLUSH_S))
    parts.publisher.wait_idle(Deadline.after(FLUSH_S))
    parts.consumer.link.stop(FLUSH_S)
    parts.publisher.link.stop(FLUSH_S)
    parts.outbox.stop()
    parts.hypervisor.stop()
    parts.devices.stop()
    parts.database.close()
