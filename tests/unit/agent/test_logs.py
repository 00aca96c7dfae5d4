# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is logged, from which level on, and without what."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from storpool_agent import logs
from storpool_agent.settings import Log
from storpool_commands.control import LogLevel

LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where a configured agent logs to; all is as before afterwards."""
    root, pika = logging.getLogger(), logging.getLogger("pika")
    before = (root.handlers[:], root.level, pika.level, logs.present_level())
    stream = io.StringIO()
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    pika.setLevel(before[2])
    logs.set_level(before[3])


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_less_than_the_level_is_dropped(stream: io.StringIO, level: LogLevel) -> None:
    logs.configure(Log(format="json", level=level), stream)
    log = structlog.get_logger()
    for each in LEVELS:
        getattr(log, each)("event")
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("event")
    expected = list(LEVELS[LEVELS.index(level) :])
    assert [line["level"] for line in logged(stream)] == [*expected, "error"]


def test_a_logger_that_has_been_used_follows_the_level(stream: io.StringIO) -> None:
    """structlog caches loggers at their first use."""
    logs.configure(Log(format="json", level="info"), stream)
    log, bound = structlog.get_logger(), structlog.get_logger().bind(a=1)
    for level in ("info", "debug", "error", "debug"):
        logs.set_level(level)
        log.debug("log", at=level)
        bound.debug("bound", at=level)
    assert [(line["event"], line["at"]) for line in logged(stream)] == [("log", "debug"), ("bound", "debug")] * 2


def test_who_asked_for_what_stays_in_the_log_whatever_level_a_command_sets(stream: io.StringIO) -> None:
    logs.configure(Log(format="json", level="info"), stream)
    log = structlog.get_logger()
    logs.set_level("error")
    log.info("accepted", audit=True)
    log.info("said")
    log.debug("never said", audit=True)
    assert [line["event"] for line in logged(stream)] == ["accepted"]


def test_the_settings_may_leave_it_out(stream: io.StringIO) -> None:
    logs.configure(Log(format="json", level="warning"), stream)
    structlog.get_logger().info("accepted", audit=True)
    assert logged(stream) == []


def test_what_came_from_outside_is_cut(stream: io.StringIO) -> None:
    logs.configure(Log(format="json", level="info"), stream)
    structlog.get_logger().info("event", text="x" * 10_000, args={"volumes": ["~a.b.c"] * 10_000})
    (line,) = logged(stream)
    assert {name: len(line[name]) for name in ("text", "args")} == dict.fromkeys(("text", "args"), logs.MAX_FIELD + 3)


def test_libraries_follow_the_level_and_are_never_chatty(stream: io.StringIO) -> None:
    logs.configure(Log(format="json", level="error"), stream)
    library = logging.getLogger("some.library")
    library.warning("not said")
    logs.set_level("debug")
    library.warning("said")
    library.info("not said")
    assert [(line["event"], line["message"]) for line in logged(stream)] == [("library", "said")]


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_values(stream: io.StringIO, style: Any) -> None:
    logs.configure(Log(format=style, level="info"), stream)
    token = "canary4711"
    try:
        raise RuntimeError(f"{len(token)} characters")
    except RuntimeError:
        structlog.get_logger().exception("crashed")
    assert "10 characters" in stream.getvalue()
    assert "test_a_traceback_shows_no_values" in stream.getvalue()
    assert token not in stream.getvalue()
