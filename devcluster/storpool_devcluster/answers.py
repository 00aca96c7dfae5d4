# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the API answers: the error envelope and the errors that calls raise.

[I] The text of `descr` is ours, except where clients are known to look at it: "is open at client" and
"No such client registered".
"""

from typing import Any

Json = dict[str, Any] | list[Any] | str | int | float | bool | None


class ApiFailure(Exception):
    """A call that ends with an error envelope. Nothing was changed."""

    def __init__(self, name: str, descr: str, /, *, transient: bool = False, status: int | None = None) -> None:
        super().__init__(f"{name}: {descr}")
        self.name = name
        self.descr = descr
        self.transient = transient
        self.status = status

    def envelope(self, generation: int) -> Json:
        error = {"name": self.name, "descr": self.descr, "transient": self.transient}
        return {"generation": generation, "error": error}


def missing(kind: str, reference: str) -> ApiFailure:
    return ApiFailure("objectDoesNotExist", f"{kind} '{reference}' does not exist")


def exists(name: str) -> ApiFailure:
    return ApiFailure("objectExists", f"'{name}' already exists")


def invalid(descr: str) -> ApiFailure:
    return ApiFailure("invalidParam", descr)


def no_such_client() -> ApiFailure:
    return invalid("No such client registered")


def busy(descr: str) -> ApiFailure:
    return ApiFailure("busy", descr)


def open_at(name: str, client: int) -> ApiFailure:
    return busy(f"'{name}' is open at client {client}")
