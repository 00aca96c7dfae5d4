# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The answers of an agent that does not answer: the same code looks, over the same parts, and changes nothing."""

from collections.abc import Callable, Generator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, TypeVar
from uuid import uuid4

import structlog

from storpool_agent import app
from storpool_agent.bus.publisher import Message
from storpool_agent.cli.agent import answered
from storpool_agent.cli.exits import EX_CONFIG, fail
from storpool_agent.control import Control
from storpool_agent.drift_watch import DriftWatch
from storpool_agent.errors import JournalUnavailable
from storpool_agent.job import Job, JobView
from storpool_agent.journal import read_only
from storpool_agent.journal.database import Stores
from storpool_agent.journal.journal import Journal
from storpool_agent.journal.overview import Overview
from storpool_agent.settings import SettingsInvalid, load
from storpool_agent.storpool_access import storpool_access
from storpool_commands.control import JobProgress
from storpool_commands.envelope import ControlRequest, Failure, Success
from storpool_commands.wire import AnswerModel, CommandModel

R = TypeVar("R", bound=AnswerModel)


class NothingRuns:
    """The requests under way where no agent is."""

    def under_way(self) -> Sequence[JobView]:
        return ()

    def unfinished(self) -> Sequence[Job]:
        return ()

    def steps(self, request_id: str) -> list[str]:  # noqa: ARG002
        return []

    def progress(self, request_id: str) -> JobProgress | None:  # noqa: ARG002
        return None

    def cancel(self, request_id: str) -> str | None:  # noqa: ARG002
        return None


class Unheard:
    """Nothing is published by who only looks."""

    def publish(self, *messages: Message) -> None:
        pass


class AtOnce:
    """A lane for one who waits anyway."""

    def put(self, work: Callable[[], None]) -> None:
        work()


def wrong_with(config: Path) -> str | None:
    """What about the settings keeps anybody from looking by them; None: they will do."""
    try:
        storpool_access(load(config).storpool)
    except SettingsInvalid as error:
        return str(error)
    return None


def ask(config: Path, command: CommandModel[R], answer: type[R]) -> R:
    """Raises Refused. Settings that cannot be used end the program."""
    _keep_quiet()
    try:
        with _control(config) as control:
            replies: list[Success | Failure] = []
            control.answer(ControlRequest(id=uuid4(), protocol=1, body=_body(command)), replies.append)
    except SettingsInvalid as error:
        fail(error, EX_CONFIG)
    return answered(replies[0].model_dump(mode="json", by_alias=True), answer)


def _body(command: CommandModel[Any]) -> Any:
    """Any command may be asked here, but only those of the control queue have a handler."""
    return command


@contextmanager
def _control(config: Path) -> Generator[Control]:
    settings = load(config)
    gone = Event()
    host, _storpool, hypervisor, _devices = app.host_of(settings, gone)
    hypervisor.start()
    try:
        with _journal(settings.state_dir) as database:
            journal = Journal(database, settings.host)
            drift = DriftWatch(host, journal, Unheard(), 0)
            yield Control(host, journal, Overview(database), NothingRuns(), AtOnce(), drift, settings.state_dir)
    finally:
        gone.set()
        hypervisor.stop()


@contextmanager
def _journal(state_dir: Path) -> Generator[Stores]:
    """One that cannot be read keeps nobody from being told the rest."""
    try:
        opening = read_only.opened(state_dir)
        database = opening.__enter__()
    except JournalUnavailable as error:
        yield read_only.Unreadable(error)
        return
    try:
        yield database
    finally:
        opening.__exit__(None, None, None)


def _keep_quiet() -> None:
    """What the parts log is in the answer."""
    structlog.configure(processors=[_drop])


def _drop(_logger: Any, _method: str, _event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    raise structlog.DropEvent
