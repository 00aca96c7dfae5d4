# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""A task that a test can interrupt, and hear."""

from collections.abc import Iterator

import pytest

from image_files import Watched, watched


@pytest.fixture
def job() -> Iterator[Watched]:
    with watched() as made:
        yield made
