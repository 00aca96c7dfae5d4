# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What fault rules do to the devices of one call."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effects:
    link_delay_s: float | None = 0.0
    """The links come so much later; None: never."""
    wrong_link_s: float = 0.0
    """The links lead to a device without capacity for so long."""
    link_lost_after_s: float | None = None
    device_errors_after_s: float | None = None
    capacity_delay_s: float | None = 0.0
    """The device takes the new size so much later; None: never."""
    read_only: bool = False
    """The device is read-only although rw was asked for."""
    config_lag_s: float = 0.0
    """The clients are behind the cluster's generation for so long."""
