# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Global ids: `<location>.<cluster>.<object>`, the object part counting in base 36."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def global_id(cluster_id: str, counter: int) -> str:
    return f"{cluster_id}.{_base36(counter)}"


def cluster_of(gid: str) -> str:
    return gid.rpartition(".")[0]


def _base36(number: int) -> str:
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits
