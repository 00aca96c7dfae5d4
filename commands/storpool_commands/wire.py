# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What every model on the wire shares, and the scalar types that the models are made of."""

import re
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, SecretStr
from pydantic.alias_generators import to_camel

Fact = str | int | float | bool | None | list[str]
"""A fact of a failure: a value that a program can act on without reading the message."""

R = TypeVar("R")


def _names_a_span(text: str) -> str:
    """Ids of zeroes alone, and version ff, are none (W3C Trace Context, section 3.2.2)."""
    version, trace_id, parent_id, _ = text.split("-")
    if version == "ff" or not int(trace_id, 16) or not int(parent_id, 16):
        raise ValueError("names no trace and span; leave it out when there is none")
    return text


TraceParent = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"),
    AfterValidator(_names_a_span),
]
"""W3C Trace Context: version, trace, the sender's span, flags."""

ToldTraceParent = Annotated[str | None, Field(exclude_if=lambda value: value is None)]
"""In what an agent says: the trace of the request, and the agent's own span. Not there when the request had none."""


class WireModel(BaseModel):
    """Frozen, camelCase on the wire, strict about types and about fields it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        populate_by_name=True,
    )


class CommandModel(WireModel, Generic[R]):
    """A command; R is the result that a success carries."""


class AnswerModel(WireModel):
    """What an agent says. A reader passes over fields that a newer agent has added."""

    model_config = ConfigDict(extra="ignore")


HostId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")]
"""A host's name on the bus: one word of a routing key."""

REPLY_TO = re.compile(r"[A-Za-z0-9_-]{1,63}")
"""The word that a sender binds its reply queue to, as `*.<word>`."""

RequestId = UUID
Timestamp = AwareDatetime

SizeBytes = Annotated[int, Field(ge=512, le=2**63 - 512, multiple_of=512)]
"""Bytes; StorPool sizes are whole 512-byte sectors (API reference, SECTOR_SIZE)."""

Limit = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A rate limit; 0 means no limit."""

TimeoutS = Annotated[float, Field(gt=0, le=3600)]
Generation = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""Chosen by the management plane, per volume; one older than the host has seen is refused."""

VmRef = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+:@-]{1,255}$")]
"""A libvirt domain: its UUID or its name."""

TagName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,199}$")]
TagValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,199}$")]
TemplateName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,199}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,199}$")]
"""The value of a tag that is there; StorPool takes an empty one for the order to remove the tag."""

PoolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$")]
"""A storage pool as the management plane calls it."""

ClusterId = Annotated[str, Field(pattern=r"^[a-z0-9]+\.[a-z0-9]+$", max_length=63)]
"""A StorPool cluster of a multi-cluster: the first two words of the global ids of its objects."""

Reason = Annotated[str, Field(min_length=1, max_length=500)]
"""Why something is forced; kept in the log."""

Secret = Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, return_type=str, when_used="json")]
"""In JSON, which is the wire, its value; anywhere else it is hidden. An agent stores no request with one."""

ObjectName = Annotated[str, Field(pattern=r"^#?[A-Za-z0-9_:][A-Za-z0-9_.:-]{0,197}$")]
"""The name of a volume that is to be made. StorPool allows more first characters; they are refused
because `.`, `..` and `-x` are names that other programs take for something else."""
