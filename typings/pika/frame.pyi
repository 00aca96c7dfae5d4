# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
from typing import Generic, TypeVar

M = TypeVar("M")

class Method(Generic[M]):
    channel_number: int
    method: M
