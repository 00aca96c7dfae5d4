# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a fault rule can do, each action named by its `kind`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0)]


class _Action(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Error(_Action):
    """Answer with an error envelope; nothing is done."""

    kind: Literal["error"] = "error"
    name: str
    descr: str = "Injected error"
    transient: bool = False
    status: int = 500


class Busy(_Action):
    """Refuse with the text of a device that is open."""

    kind: Literal["busy"] = "busy"
    name: Literal["busy", "invalidParam"] = "busy"
    """Older servers say invalidParam."""
    volume: str | None = None
    client: int | None = None


class Delay(_Action):
    """Let the request wait before it is processed."""

    kind: Literal["delay"] = "delay"
    seconds: Seconds


class Hang(_Action):
    """Never answer. `processed`: after doing what was asked."""

    kind: Literal["hang"] = "hang"
    processed: bool = False


class ResetBefore(_Action):
    """Reset the connection; nothing is done."""

    kind: Literal["reset_before"] = "reset_before"


class ResetAfter(_Action):
    """Do what was asked, then reset the connection: the answer is lost."""

    kind: Literal["reset_after"] = "reset_after"


class CloseAfter(_Action):
    """Do what was asked, then close the connection without an answer."""

    kind: Literal["close_after"] = "close_after"


class TruncateBody(_Action):
    kind: Literal["truncate_body"] = "truncate_body"
    bytes: int = Field(ge=0)


class Drip(_Action):
    """Send the answer at this rate, byte by byte."""

    kind: Literal["drip"] = "drip"
    bytes_per_s: float = Field(gt=0)


class Raw(_Action):
    """Answer with this instead. `processed`: after doing what was asked."""

    kind: Literal["raw"] = "raw"
    status: int = 200
    body: str = ""
    content_type: str = "application/json"
    processed: bool = False


class Refuse(_Action):
    """Refuse connections for a while. Without a match at once, otherwise from the matching request on."""

    kind: Literal["refuse"] = "refuse"
    seconds: Seconds


class FailOver(_Action):
    """The management service moves: connections are refused, then calls fail as transient, then all is well."""

    kind: Literal["failover"] = "failover"
    refuse_s: Seconds = 1.0
    transient_s: Seconds = 1.0


class StaleGeneration(_Action):
    """The clients of the request stay behind the cluster's generation for a while."""

    kind: Literal["stale_generation"] = "stale_generation"
    seconds: Seconds


class LateLink(_Action):
    """The attach succeeds, the links come later; without seconds never."""

    kind: Literal["late_link"] = "late_link"
    seconds: Seconds | None = None


class WrongLink(_Action):
    """The links lead to a device without capacity for a while."""

    kind: Literal["wrong_link"] = "wrong_link"
    seconds: Seconds


class LateCapacity(_Action):
    """The volume grows, its devices follow later; without seconds never."""

    kind: Literal["late_capacity"] = "late_capacity"
    seconds: Seconds | None = None


class ReadOnly(_Action):
    """The device is read-only although rw was asked for."""

    kind: Literal["read_only"] = "read_only"


class LostLink(_Action):
    """The links of an attached volume disappear: of `volume` at once, otherwise after the matching attach."""

    kind: Literal["lost_link"] = "lost_link"
    after_s: Seconds = 0.0
    volume: str | None = None
    client: int | None = None


class DeviceErrors(_Action):
    """An attached device fails from now on: of `volume` at once, otherwise after the matching attach."""

    kind: Literal["device_errors"] = "device_errors"
    after_s: Seconds = 0.0
    volume: str | None = None
    client: int | None = None


Instead = Error | Busy | ResetBefore | Refuse | FailOver
"""Nothing is done."""

Answered = Hang | ResetAfter | CloseAfter | TruncateBody | Drip | Raw
"""Something happens to the answer."""

OnDevice = StaleGeneration | LateLink | WrongLink | LateCapacity | ReadOnly | LostLink | DeviceErrors

Action = Annotated[Delay | Instead | Answered | OnDevice, Field(discriminator="kind")]
