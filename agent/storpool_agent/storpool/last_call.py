# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How the last call of the API went, for who wants to know whether StorPool is there without asking it."""

from storpool_commands.errors import ErrorCode

_TROUBLES: dict[str, str] = {
    ErrorCode.STORPOOL_UNAVAILABLE: "StorPool's API could not be reached at the last call",
    ErrorCode.STORPOOL_TIMEOUT: "StorPool's API did not answer the last call",
    ErrorCode.STORPOOL_UNAUTHORIZED: "StorPool's API refuses the token",
    ErrorCode.STORPOOL_BAD_ANSWER: "what answers is not StorPool's API",
}
"""What is about all calls. That one was refused is not."""


class LastCall:
    """Any thread may note one, and any may ask."""

    def __init__(self) -> None:
        self._outcome = ""

    def note(self, outcome: str) -> None:
        """As the metrics have it: `ok`, `refused`, or a code."""
        self._outcome = outcome

    @property
    def trouble(self) -> str | None:
        """In a few words; None when it answered, or was not asked yet."""
        return _TROUBLES.get(self._outcome)
