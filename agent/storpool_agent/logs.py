# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Logs: one JSON object a line for the journal, colours for a person at a terminal."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from storpool_agent.settings import Log

MAX_FIELD = 4096
"""A field that is longer is cut: what came from outside must not fill the journal."""


class _Stream:
    """A log that cannot be written is dropped, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            return


def configure(settings: Log, stream: TextIO = sys.stdout) -> None:
    """Once, before the first log line."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _shorten,
    ]
    if console:
        ending: list[Processor] = [structlog.dev.ConsoleRenderer()]
    else:
        ending = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=_Stream(stream)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    _adopt_libraries(level)


def _shorten(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_FIELD and key != "exception":
            event[key] = value[:MAX_FIELD] + "..."
    return event


class _Adopt(logging.Handler):
    """What libraries log through the standard module, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        logger.log(record.levelno, "library", library=record.name, message=record.getMessage())


def _adopt_libraries(level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Adopt()]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # the links log the same, in our words
