# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Taking turns: every contender once in each round, so that the noise of the machine hits all of them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def interleaved(contenders: Mapping[str, Callable[[], T]], rounds: int, *, warm_up: bool = True) -> dict[str, list[T]]:
    """What each contender gave in each round. Another one begins each round; a warm-up round is thrown away."""
    names = list(contenders)
    results: dict[str, list[T]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            result = contenders[name]()
            if number >= 0:
                results[name].append(result)
    return results
