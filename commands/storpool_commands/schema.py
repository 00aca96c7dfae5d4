# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of the wire, written to docs/commands.schema.json by `make schema`."""

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from storpool_commands.descriptions import describe
from storpool_commands.envelope import Accepted, AnyRequest, ControlRequest, Event, Failure, Progress, Request, Success


def schema() -> dict[str, Any]:
    """Requests and replies as a sender writes and reads them (JSON Schema 2020-12)."""
    for model in describe():
        model.model_rebuild(force=True)
    requests = [(Request, "validation"), (AnyRequest, "validation"), (ControlRequest, "validation")]
    replies = [(model, "serialization") for model in (Success, Failure, Accepted, Progress, Event)]
    _, definitions = models_json_schema([*requests, *replies], title="storpool-agent, protocol 1")  # type: ignore[list-item]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **definitions}


def text() -> str:
    """The schema as it stands in the repository."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(text(), end="")  # noqa: T201
