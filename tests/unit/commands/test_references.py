# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The four spellings of a volume."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storpool_commands.references import MAX_NAME, Reference, parse


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("~a.b.c", Reference("id", "a.b.c")),
        ("/dev/storpool-byid/a.b.c", Reference("id", "a.b.c")),
        ("/dev/storpool/~a.b.c", Reference("id", "a.b.c")),
        ("/dev/storpool/disk-1", Reference("name", "disk-1")),
        ("disk-1", Reference("name", "disk-1")),
        ("a.b.c", Reference("name", "a.b.c")),
        ("#system", Reference("name", "#system")),
        ("*anonymous", Reference("name", "*anonymous")),
        ("a" * MAX_NAME, Reference("name", "a" * MAX_NAME)),
    ],
)
def test_each_spelling_has_its_meaning(text: str, reference: Reference) -> None:
    assert parse(text) == reference


@pytest.mark.parametrize("text", ["~a.b.c", "disk-1", "#system"])
def test_the_canonical_spelling_stays(text: str) -> None:
    assert str(parse(text)) == text


@given(st.text() | st.from_regex(r"(/dev/storpool(-byid)?/)?~?[a-z0-9./~-]*"))
def test_what_is_accepted_can_be_no_other_path_and_means_itself(text: str) -> None:
    try:
        reference = parse(text)
    except ValueError:
        return
    assert "/" not in reference.value
    assert reference.value not in {".", ".."}
    assert reference.value.isprintable()
    assert parse(str(reference)) == reference
