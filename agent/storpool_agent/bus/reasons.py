# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Why there is no connection to the broker: what storpool-ctl says, with what to mend in the agent's settings."""

from storpool_commands.client import reasons
from storpool_commands.client.reasons import Hints, Login

AGENTS = Hints(
    vhost="`vhost` in `[amqp]` names it",
    refused=(
        "may the user make exchanges and queues? Where `storpool-ctl provision` makes them, set `declare = false` "
        "in `[amqp]`"
    ),
    missing="`storpool-ctl provision objects` makes it; is `vhost` in `[amqp]` right?",
)


def reason(error: BaseException, login: Login) -> str:
    """The innermost cause."""
    return reasons.reason(error, login, AGENTS)
