# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What was done to one thing, and why something could not be."""

from dataclasses import dataclass
from typing import Literal


class ProvisioningFailed(Exception):
    """The broker refuses something, or cannot be reached; the message says what, and what to do."""


@dataclass(frozen=True)
class Change:
    """`what` is a thing of the broker, such as `queue storpool.host.kvm1`."""

    what: str
    done: Literal["made", "changed", "unchanged"]
