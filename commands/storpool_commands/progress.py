# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How far a job is."""

from storpool_commands.wire import AnswerModel


class JobProgress(AnswerModel):
    """How far a running job is, and how fast it gets on."""

    phase: str
    """What it is doing: a word for people, such as `copy` or `verify`."""
    bytes_done: int | None = None
    """In this phase."""
    bytes_total: int | None = None
    rate_bytes_s: int | None = None
    """Over the last seconds."""
    eta_s: float | None = None
    """Seconds until this phase is over, if it goes on like this."""
    stalled_s: float | None = None
    """Seconds in which not a byte has moved; null while it moves."""
