# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""QEMU's measurement of the processor fails by chance: formatting a volume does not."""

import os
from collections.abc import Iterator

import pytest
from pytest_mock import MockerFixture

from storpool_agent.images import flushing, luks
from storpool_agent.images.child import ToolFailed
from storpool_agent.images.luks import Unmeasured
from storpool_agent.images.model import Image, Task
from storpool_agent.interrupt import Interrupt
from storpool_agent.retry import MOST_TRIES

UNMEASURED = ToolFailed("qemu-img failed", 1, "qemu-img: d: Unable to get accurate CPU usage", "qemu-img")
FULL = ToolFailed("qemu-img failed", 1, "qemu-img: d: No space left on device", "qemu-img")


@pytest.fixture
def image() -> Iterator[Image]:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    yield Image(descriptor, "raw", "d", device=True, luks=descriptor)
    os.close(descriptor)


def encrypt(mocker: MockerFixture, image: Image, *outcomes: ToolFailed | None) -> int:
    """How often the tool was run."""
    mocker.patch.object(luks, "device_size", return_value=64 << 20)
    mocker.patch.object(flushing, "flush")
    tool = mocker.patch.object(luks, "run", side_effect=outcomes)
    interrupt = Interrupt()
    try:
        luks.encrypt(image, Task(interrupt, lambda _done, _total: None), 100)
    finally:
        interrupt.close()
    return tool.call_count


def test_it_is_tried_again_when_nothing_could_be_measured(mocker: MockerFixture, image: Image) -> None:
    assert encrypt(mocker, image, UNMEASURED, UNMEASURED, None) == 3


def test_it_is_not_tried_for_ever(mocker: MockerFixture, image: Image) -> None:
    with pytest.raises(Unmeasured, match="send the command again"):
        encrypt(mocker, image, *[UNMEASURED] * (MOST_TRIES + 1))


def test_another_failure_is_told_at_once(mocker: MockerFixture, image: Image) -> None:
    with pytest.raises(Exception, match="d") as failed:
        encrypt(mocker, image, FULL, None)
    assert not isinstance(failed.value, Unmeasured)
