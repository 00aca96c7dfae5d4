# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where replies go in tests of what makes them."""

import json
import threading
from collections.abc import Sequence
from typing import Any

from storpool_agent.journal.outgoing import Outgoing

WAIT_S = 5.0


class FakeOutbox:
    """Notes what is put out."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.sent: list[Outgoing] = []

    def send(self, messages: Sequence[Outgoing]) -> None:
        with self.changed:
            self.sent += messages
            self.changed.notify_all()

    def replies(self, count: int) -> list[dict[str, Any]]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.sent) >= count, WAIT_S)
        return [json.loads(one.body) for one in self.sent]
