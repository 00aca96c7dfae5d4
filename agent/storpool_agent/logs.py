# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Logs: one JSON object a line for the journal, colours for a person at a terminal."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

from storpool_agent.settings import Log
from storpool_commands.control import LogLevel

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


class _Threshold:
    """Drops what is less than the level. The first processor, so that what is dropped costs no more.

    structlog's own filter is a class that loggers, once used, keep: it could not be changed any more.
    """

    def __init__(self) -> None:
        self.level: LogLevel = "info"
        self.audit: LogLevel = "info"
        """That of the settings. Who asks for what stays in the log whatever somebody sets later, by a command."""

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        number = _NUMBERS[method]
        if number < _NUMBERS[self.level] and not ("audit" in event and number >= _NUMBERS[self.audit]):
            raise structlog.DropEvent
        return event


_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_threshold = _Threshold()


def present_level() -> LogLevel:
    """What is logged from."""
    return _threshold.level


def set_level(level: LogLevel) -> None:
    """Log from this level on. Any thread may call it."""
    _threshold.level = level
    logging.getLogger().setLevel(max(_NUMBERS[level], logging.WARNING))


def set_configured_level(level: LogLevel) -> None:
    """As the settings have it: also for what is logged at any level that is set meanwhile."""
    _threshold.audit = level
    set_level(level)


def configure(settings: Log, stream: TextIO = sys.stdout) -> None:
    """Once, before the first log line."""
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared: list[Processor] = [
        _threshold,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _shorten,
    ]
    if console:
        # Without the values of local variables, here as there: they may be secrets.
        ending: list[Processor] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        ending = [tracebacks, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(file=_Stream(stream)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    _adopt_libraries()
    set_configured_level(settings.level)


def _shorten(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    for key, value in event.items():
        text = repr(value) if isinstance(value, dict | list) else value  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(text, str) and len(text) > MAX_FIELD and key != "exception":
            event[key] = text[:MAX_FIELD] + "..."
    return event


class _Adopt(logging.Handler):
    """What libraries log through the standard module, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        logger.log(record.levelno, "library", library=record.name, message=record.getMessage())


def _adopt_libraries() -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Adopt()]
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # the links log the same, in our words
