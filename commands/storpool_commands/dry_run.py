# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a request with `dryRun` is answered with."""

from typing import Literal

from storpool_commands.wire import AnswerModel


class DryRun(AnswerModel):
    """The command would be carried out: nothing that could be checked forbids it, and nothing was changed.

    The reply's steps say what has been checked (`done`), what there is nothing to do for (`already`), and what would
    be done (`planned`), in this order.
    """

    command: Literal["dryRun"] = "dryRun"
    body_command: str
    """The command that was planned."""
