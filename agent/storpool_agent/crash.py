# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A crash where a test asks for one. Without STORPOOL_AGENT_CRASH_AT in the environment it does nothing.

`STORPOOL_AGENT_CRASH_AT=attachDisk/plug:done` kills the process, as SIGKILL does, when the command `attachDisk` has
done its step `plug`. The points are `<command>/<step>:begin`, `<command>/<step>:done`, and the steps of the journal:
`<command>/accepted`, `<command>/started`, `<command>/noted`, `<command>/finished`, and `reply/confirmed`.
"""

import os
import signal

_POINT = os.environ.get("STORPOOL_AGENT_CRASH_AT")


def crash_point(name: str) -> None:
    """Die here if this is the point."""
    if name == _POINT:
        os.kill(os.getpid(), signal.SIGKILL)
