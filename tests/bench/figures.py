# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Figures, and what they are to be."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """A bound on the ratio, or on the agent's own value where there is nothing to compare it with."""

    relation: Literal["<=", ">="]
    bound: float
    of: Literal["ratio", "agent"] = "ratio"

    def met(self, value: float) -> bool:
        return value <= self.bound if self.relation == "<=" else value >= self.bound


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    part: str
    name: str
    floor_name: str
    unit: str
    agent: float
    floor: float | None
    ratio: float | None
    goal: Goal | None

    @property
    def met(self) -> bool | None:
        """None without a goal."""
        value = self.agent if self.goal is not None and self.goal.of == "agent" else self.ratio
        return None if self.goal is None or value is None else self.goal.met(value)


def compared(
    part: str,
    name: str,
    unit: str,
    agent: Sequence[float],
    floor: Sequence[float],
    floor_name: str,
    goal: Goal | None = None,
) -> Figure:
    """Of rounds: each holds one value of the agent and one of the floor, made right after each other.

    The ratio is the median of the rounds' ratios, so that what slows the machine for some rounds slows both sides.
    """
    ratio = median(ours / theirs for ours, theirs in zip(agent, floor, strict=True))
    return Figure(part, name, floor_name, unit, median(agent), median(floor), ratio, goal)


def alone(part: str, name: str, unit: str, agent: Sequence[float], goal: Goal | None = None) -> Figure:
    """Of the agent only."""
    return Figure(part, name, "", unit, median(agent), None, None, goal)
