# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The whole agent: the only place where parts are made, started and stopped."""

import fcntl
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic, time

import structlog

from storpool_agent import dispatch, liveness, metrics, readings
from storpool_agent.backlog import Backlog
from storpool_agent.broker_access import broker_address, login, tls_context
from storpool_agent.bus.consumer import Consumer
from storpool_agent.bus.link import Broker
from storpool_agent.bus.publisher import Publisher
from storpool_agent.bus.topology import Declaration
from storpool_agent.clock import ClockWatch
from storpool_agent.conditions import Conditions
from storpool_agent.control import Control
from storpool_agent.deadline import Deadline
from storpool_agent.devices.tree import DeviceTree
from storpool_agent.domains.hypervisor import Hypervisor
from storpool_agent.domains.model import Routes
from storpool_agent.drift_watch import DriftWatch
from storpool_agent.exposition import Exposition
from storpool_agent.health import Health
from storpool_agent.host import Host, Pool
from storpool_agent.housekeeping import Housekeeping
from storpool_agent.images.tools import ImageTools
from storpool_agent.intake import Intake
from storpool_agent.jobs import Jobs
from storpool_agent.journal.database import Database
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.overview import Overview
from storpool_agent.keys import KeyStore
from storpool_agent.lanes import Lanes
from storpool_agent.leftovers import Leftovers
from storpool_agent.local import LocalSocket
from storpool_agent.notify import notify
from storpool_agent.outbox import Outbox
from storpool_agent.overdue import Overdue
from storpool_agent.oversight import Live, Reader, live_settings, places
from storpool_agent.pool_file import PoolFile
from storpool_agent.pools import KnownPools
from storpool_agent.publishers import Publishers
from storpool_agent.reloading import Reloading
from storpool_agent.reporting import Reporting
from storpool_agent.secondary.storage import SecondaryStorage
from storpool_agent.secret_files import credentials_directory
from storpool_agent.settings import Settings, SettingsInvalid, listen_address, scratch_dir
from storpool_agent.space import SpaceWatch
from storpool_agent.status_line import StatusLine
from storpool_agent.stop import RELOAD_SIGNAL, STOP_SIGNALS, StopSignal
from storpool_agent.storpool.cluster import Cluster
from storpool_agent.storpool_access import storpool_access
from storpool_agent.thaws import Thaws
from storpool_agent.unplugs import Unplugs
from storpool_agent.watchdog import Watchdog
from storpool_commands.parse import parse_request

log = structlog.get_logger()

CONNECT_S = 10.0
"""How long the start waits for the broker before READY: one that is down is no reason for systemd to end the agent."""
DRAIN_S = 60.0
"""How long running commands may take after SIGTERM; the unit's TimeoutStopSec is longer."""
END_COPIES_S = 15.0
"""How long the tools of running copies may take to end; a copy is begun again by the next start."""
FLUSH_S = 5.0
"""How long the broker may take to confirm the last replies; what it has not is sent by the next start."""
LOOK_S = 1.0
"""How often the main thread looks at the others, to tell systemd."""


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
    lanes: Lanes
    thaws: Thaws
    unplugs: Unplugs
    hypervisor: Hypervisor
    devices: DeviceTree
    abandon: Event
    housekeeping: Housekeeping
    overdue: Overdue
    leftovers: Leftovers
    reporting: Reporting
    health: Health
    exposition: Exposition
    watchdog: Watchdog
    status: StatusLine
    reloading: Reloading
    drift_watch: DriftWatch
    conditions: Conditions
    local: LocalSocket
    stopping: Event


def run(settings: Settings, stop: StopSignal, file: Path) -> None:
    """Serve until a stop signal; at SIGHUP the settings are read again from the file.

    Raises SettingsInvalid, AlreadyRunning and JournalUnavailable before anything runs.
    """
    started = monotonic()
    log.info("starting", version=dispatch.VERSION, host=settings.host, pid=os.getpid())
    lock = _lock(settings.state_dir)
    try:
        parts = _build(settings, file)
        parts.exposition.start()
        _start(parts)
        notify("READY=1", f"STATUS=serving {settings.host}")
        log.info("ready", took_s=round(monotonic() - started, 3), broker=parts.consumer.link.is_ready)
        number = _serve(parts, stop)
        notify("STOPPING=1", "STATUS=finishing what runs")
        log.info("stopping", signal=number.name)
        parts.health.end()
        _end(parts, stop)
        with suppress(OSError):  # a mark for who asks since when no agent runs, and no reason to end badly
            os.utime(lock)
        log.info("stopped")
    finally:
        os.close(lock)


def _serve(parts: _Parts, stop: StopSignal) -> signal.Signals:
    """Until a signal to stop, which is returned."""
    while True:
        number = stop.wait(LOOK_S)
        if number in STOP_SIGNALS:
            return signal.Signals(number)
        if number is RELOAD_SIGNAL:
            parts.reloading.reload()
        parts.watchdog.look()
        parts.status.look()


def _end(parts: _Parts, stop: StopSignal) -> None:
    """The parts are stopped in a thread of its own: systemd is told meanwhile that those which still run do."""
    with ThreadPoolExecutor(1, "stop") as executor:
        stopped = executor.submit(_stop, parts)
        while not stopped.done():
            stop.wait(LOOK_S)
            parts.watchdog.look()
    stopped.result()


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


def host_of(settings: Settings, abandon: Event) -> tuple[Host, Cluster, Hypervisor, DeviceTree]:
    """What commands act on, and the sides of it as what they are here. Raises SettingsInvalid."""
    access = storpool_access(settings.storpool)
    hypervisor = Hypervisor(settings.libvirt.uri, abandon, Routes(**settings.migration.model_dump()))
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
        images=ImageTools(settings.secondary.web_hosts, iteration_ms=settings.encryption.iteration_ms),
        secondary=SecondaryStorage(
            settings.secondary, scratch_dir(settings), scratch_spare_bytes=settings.watch.scratch_low_bytes
        ),
        keys=KeyStore(settings.encryption.key_directory, credentials_directory()),
        cluster_id=access.cluster_id,
    )
    return host, storpool, hypervisor, devices


def _build(settings: Settings, file: Path) -> _Parts:
    started_at = time()
    abandon = Event()
    host, storpool, hypervisor, devices = host_of(settings, abandon)
    database = Database(settings.state_dir)
    liveness.registry.watch("journal", database.under_way_s)
    journal = Journal(database, settings.host)
    broker = _broker(settings)
    publisher = Publisher(broker, broker.username)
    outbox = Outbox(journal, publisher)
    lanes = Lanes.wide(settings.lanes.fast, settings.lanes.bulk, settings.lanes.migration)
    jobs = Jobs(host, journal, outbox, lanes, settings.lanes.max_queued_copies)
    drift_watch = DriftWatch(host, journal, publisher, settings.watch.drift_s)
    control = Control(host, journal, Overview(database), jobs, lanes.control, drift_watch, settings.state_dir)
    intake = Intake(
        settings.host,
        journal,
        jobs,
        control,
        outbox,
        publisher,
        Publishers(settings.amqp.allowed_publishers),
    )
    shared = settings.lanes.any
    declaration = Declaration(settings.host, passive=not settings.amqp.declare, shared=shared > 0)
    consumer = Consumer(broker, declaration, intake.receive, shared, jobs.give_back)
    intake.settle, intake.decline = consumer.settle, consumer.decline
    control.gate = consumer
    clock = ClockWatch()
    backlog = Backlog(jobs, settings.lanes.max_queued)
    conditions = Conditions(consumer, database, backlog, SpaceWatch(places(settings)), clock)
    intake.taken = conditions.look_at_backlog
    unplugs = Unplugs(host, journal, jobs, outbox)
    health = Health()
    health.needed("start", lambda: "it is starting")
    readings.require(health, consumer, publisher, database)
    readings.connect(
        health=health,
        consumer=consumer,
        publisher=publisher,
        hypervisor=hypervisor,
        jobs=jobs,
        lanes=lanes,
        journal=journal,
        database=database,
        state_dir=settings.state_dir,
        drift_watch=drift_watch,
    )
    metrics.built(settings.host, dispatch.VERSION)
    hypervisor.on_disks_changed(unplugs.wake)
    watchdog = Watchdog(liveness.registry)
    live = live_settings(settings, Live(lanes, consumer, intake, drift_watch, jobs, backlog))
    reloading = Reloading(file, settings, live)
    stopping = Event()
    reader = Reader(
        host=settings.host,
        broker=f"{broker.host}:{broker.port}",
        started_at=started_at,
        stopping=stopping,
        jobs=jobs,
        consumer=consumer,
        publisher=publisher,
        lanes=lanes,
        conditions=conditions,
        watchdog=watchdog,
        reloading=reloading,
        storpool=storpool,
        hypervisor=hypervisor,
    )
    control.process = reader.process
    return _Parts(
        publisher,
        consumer,
        journal,
        database,
        outbox,
        jobs,
        lanes,
        Thaws(hypervisor, journal),
        unplugs,
        hypervisor,
        devices,
        abandon,
        Housekeeping(journal, clock),
        Overdue(settings.host, journal, outbox),
        Leftovers(host, journal, jobs),
        Reporting(settings.host, jobs, journal, publisher, lambda: publisher.link.is_ready),
        health,
        Exposition(listen_address(settings.metrics), health),
        watchdog,
        StatusLine(reader.facts, datetime.now),
        reloading,
        drift_watch,
        conditions,
        LocalSocket(settings.control_socket, settings.host, control),
        stopping,
    )


def _broker(settings: Settings) -> Broker:
    username, password = login(settings.amqp)
    host, port = broker_address(settings.amqp)
    return Broker(
        host=host,
        port=port,
        vhost=settings.amqp.vhost,
        username=username,
        password=password,
        tls=partial(tls_context, settings.amqp) if tls_context(settings.amqp) else None,
    )


def _start(parts: _Parts) -> None:
    """What an earlier run has left comes before what arrives now."""
    parts.local.open()
    parts.devices.start()
    parts.hypervisor.start()
    parts.thaws.start()
    parts.publisher.link.start()
    parts.outbox.start()
    for lane in parts.lanes:
        lane.start()
    parts.reporting.start()
    _recover(parts)
    parts.local.start()
    parts.unplugs.start()
    parts.leftovers.start()
    parts.housekeeping.start()
    parts.overdue.start()
    parts.consumer.link.start()
    parts.consumer.link.wait_ready(CONNECT_S)
    parts.drift_watch.start()
    parts.conditions.start()
    parts.health.needed("start", lambda: None)


def _recover(parts: _Parts) -> None:
    """What came from the queue of all hosts is not run: the broker has it, and may have given it to another agent."""
    if shared := parts.journal.drop_shared():
        log.info("left to the broker", requests=shared)
    left = parts.journal.unfinished()
    if left:
        log.info("recovering", requests=len(left))
    for stored in left:
        request = parse_request(stored.body)
        parts.jobs.submit(request, stored.attempts, stored.stops, recovered=True, publisher=stored.publisher)


def _stop(parts: _Parts) -> None:
    """Take nothing more, finish what runs, send what is to be sent; what is queued stays in the journal."""
    parts.stopping.set()
    parts.consumer.cancel()
    parts.unplugs.stop()
    parts.leftovers.stop()
    parts.housekeeping.stop()
    parts.overdue.stop()
    parts.conditions.stop()
    parts.drift_watch.stop()
    parts.lanes.fast.drain()
    parts.lanes.bulk.drain()
    parts.lanes.migration.drain()
    parts.jobs.end_copies()
    if not parts.lanes.fast.join(Deadline.after(DRAIN_S)):
        log.warning("work abandoned", reason=f"not finished within {DRAIN_S:.0f} s; it is run again at the next start")
        parts.jobs.abandon()
        parts.abandon.set()
        parts.lanes.fast.join(Deadline.after(FLUSH_S))
    ending = Deadline.after(END_COPIES_S)
    if not all([parts.lanes.bulk.join(ending), parts.lanes.migration.join(ending)]):
        log.warning("copies abandoned", reason=f"not ended within {END_COPIES_S:.0f} s; they end with the agent")
        parts.jobs.abandon()
    parts.abandon.set()
    parts.local.stop()
    parts.lanes.control.drain()
    parts.lanes.control.join(Deadline.after(FLUSH_S))
    parts.reporting.stop()
    parts.thaws.stop()
    parts.jobs.wait_stored(Deadline.after(FLUSH_S))
    parts.publisher.wait_idle(Deadline.after(FLUSH_S))
    parts.consumer.link.stop(FLUSH_S)
    parts.publisher.link.stop(FLUSH_S)
    parts.outbox.stop()
    parts.hypervisor.stop()
    parts.devices.stop()
    parts.exposition.stop()
    parts.database.close()
