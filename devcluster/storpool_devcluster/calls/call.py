# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a call gets, and how a family of calls announces itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel

from storpool_devcluster import answers
from storpool_devcluster.answers import Json
from storpool_devcluster.cluster import Cluster
from storpool_devcluster.effects import Effects
from storpool_devcluster.gids import cluster_of

BodyT = TypeVar("BodyT")


class Body(BaseModel):
    """JSON as StorPool takes it: numbers may be strings, nulls are as good as absent.

    [X] Unknown keys are refused (`--strict`) or dropped (`--no-strict`); which of these StorPool does is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, data: object, info: ValidationInfo) -> object:
        if not isinstance(data, dict):
            return data
        context = cast("dict[str, bool] | None", info.context)
        strict = context is None or context["strict"]
        members = cast("dict[str, object]", data)
        known = _wire_names(cls)
        return {key: value for key, value in members.items() if value is not None and (strict or key in known)}


class Nothing(Body):
    """A call without arguments: no body, `{}`, or (not strict) anything."""


@dataclass(frozen=True)
class Served:
    """By whom a call is answered."""

    home: str
    multi_cluster: bool = False
    only_home: bool = False


@dataclass(frozen=True)
class Call(Generic[BodyT]):
    cluster: Cluster
    arg: str
    """What follows the query in the path."""
    body: BodyT
    multi_cluster: bool = False
    effects: Effects = field(default_factory=Effects)
    home: str = ""
    """The id of the cluster that serves the call."""
    only_home: bool = False
    """It knows nothing of the other clusters."""

    def lists(self, gid: str) -> bool:
        return not self.only_home or cluster_of(gid) == self.home


@dataclass(frozen=True)
class Query(Generic[BodyT]):
    """One call of the API: `run` returns the `data` of the answer."""

    name: str
    method: Literal["GET", "POST"]
    run: Callable[[Call[BodyT]], Json]
    body: Any = Nothing
    takes_arg: bool = False
    adapter: TypeAdapter[BodyT] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapter", TypeAdapter(self.body))

    def answer(self, cluster: Cluster, arg: str, json: object, effects: Effects, served: Served) -> Json:
        if self.takes_arg != bool(arg):
            raise answers.invalid(f"{self.name} takes {'an' if self.takes_arg else 'no'} argument in its path")
        try:
            body = self.adapter.validate_python(json, context={"strict": cluster.options.strict})
        except ValidationError as error:
            raise answers.invalid(_first_problem(error)) from None
        return self.run(Call(cluster, arg, body, served.multi_cluster, effects, served.home, served.only_home))


def ok(cluster: Cluster, **members: Json) -> dict[str, Any]:
    """The answer of a call that changed something; after the change, so that it has the new generation."""
    return {"ok": True, "generation": cluster.state.generation, **members}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])


def _wire_names(model: type[BaseModel]) -> set[str]:
    fields: Mapping[str, Any] = model.model_fields
    return {info.alias or name for name, info in fields.items()}
