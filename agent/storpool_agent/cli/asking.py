# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Asking: the agent, or without it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import click

from storpool_agent.cli import agent, place, presence, render, systemd
from storpool_agent.cli.exits import EX_CONFIG, EX_NOPERM, NOT_RUNNING, TROUBLE, fail
from storpool_agent.cli.place import Place
from storpool_agent.cli.presence import Presence
from storpool_commands.wire import AnswerModel, CommandModel

R = TypeVar("R", bound=AnswerModel)


@dataclass(frozen=True)
class Answer(Generic[R]):
    """What was found out, and whether the agent said it."""

    result: R
    agent: Presence

    def print_json(self) -> None:
        """The result's fields, and `agent` beside them."""
        values = self.result.model_dump(mode="json", by_alias=True, exclude={"command"})
        render.json_of({"agent": presence.as_json(self.agent), **values})


def ask(config: Path, command: CommandModel[R], answer: type[R], not_known: str = "") -> Answer[R]:
    """Ask the agent, and look without it when it does not answer, which stderr is told. Ends the program on a no.

    `not_known`: what a no leaves open, as the beginning of a sentence.
    """
    where = place.find(config)
    try:
        try:
            return Answer(agent.ask(where.socket, command, answer), presence.RUNNING)
        except (agent.AgentDown, agent.AgentSilent) as why:
            absent = _absent(where, why)
        from storpool_agent.cli import alone  # noqa: PLC0415 - the daemon's parts take a second to import

        if (problem := alone.wrong_with(config)) is not None:
            fail(unusable(absent, problem), EX_CONFIG)
        tell(absent)
        return Answer(alone.ask(config, command, answer), absent)
    except agent.NotAllowed as error:
        fail(error, EX_NOPERM)
    except agent.Refused as error:
        fail(f"{not_known}: {error}" if not_known else error, TROUBLE)


def order(config: Path, command: CommandModel[R], answer: type[R]) -> R:
    """As `ask`, for what nobody but the agent can do. Ends the program when it does not answer."""
    where = place.find(config)
    try:
        return agent.ask(where.socket, command, answer)
    except agent.NotAllowed as error:
        fail(error, EX_NOPERM)
    except agent.Refused as error:
        fail(error, TROUBLE)
    except (agent.AgentDown, agent.AgentSilent) as why:
        absent = _absent(where, why)
        fail(sentence(absent), NOT_RUNNING if absent.state == "down" else TROUBLE)


def tell(absent: Presence) -> None:
    """That what follows does not come from the agent."""
    click.echo(f"{sentence(absent)}\nWhat follows was looked at without it.\n", err=True)


def sentence(absent: Presence) -> str:
    """Of an agent that does not answer."""
    since = f" since {render.moment(absent.since)}" if absent.since else ""
    if absent.state == "down":
        return f"The agent does not run{since}: {absent.detail}. {absent.advice}."
    return f"The agent (pid {absent.pid}, running{since}) does not answer: {absent.detail}."


def unusable(absent: Presence, problem: str) -> str:
    """Of settings by which neither the agent nor this program can go."""
    told = replace(absent, advice=f"It cannot be started with its settings ({systemd.CONFIG_FIRST})")
    return f"{problem}\n{sentence(told)}"


def _absent(where: Place, why: agent.AgentDown | agent.AgentSilent) -> Presence:
    if isinstance(why, agent.AgentSilent):
        return presence.of_silent(str(why), why.pid)
    return presence.of_deaf(where)
