# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""How far a copy is, on a clock that the test turns."""

import pytest

from storpool_agent.progress import STALLED_S, WINDOW_S, Meter
from storpool_commands.control import JobProgress

MIB = 1 << 20


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Copying:
    """A meter of a copy of 100 MiB."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.meter = Meter(self.clock)

    def after(self, seconds: float, mib: int | None, phase: str = "copy", total: int | None = 100) -> "Copying":
        self.clock.now += seconds
        self.meter.note(phase, None if mib is None else mib * MIB, None if total is None else total * MIB)
        return self

    def read(self, later_s: float = 0) -> JobProgress:
        self.clock.now += later_s
        reading = self.meter.read()
        assert reading is not None
        return reading


@pytest.fixture
def copying() -> Copying:
    return Copying()


def test_before_it_has_begun_there_is_nothing_to_tell() -> None:
    assert Meter().read() is None


def test_a_phase_without_bytes_has_a_name_alone(copying: Copying) -> None:
    assert copying.after(0, None, "queued", None).read(60) == JobProgress(phase="queued")


def test_the_first_number_gives_no_rate(copying: Copying) -> None:
    reading = copying.after(0, 10).read()
    assert (reading.bytes_done, reading.bytes_total, reading.rate_bytes_s, reading.eta_s) == (
        10 * MIB,
        100 * MIB,
        None,
        None,
    )


def test_rate_and_end_are_those_of_what_has_moved(copying: Copying) -> None:
    reading = copying.after(0, 0).after(1, 10).after(1, 20).read()
    assert (reading.rate_bytes_s, reading.eta_s, reading.stalled_s) == (10 * MIB, 8.0, None)


def test_the_rate_is_of_late(copying: Copying) -> None:
    for _ in range(30):
        copying.after(1, 1)
    for second in range(1, 21):
        copying.after(1, 1 + 2 * second)
    rate = copying.read().rate_bytes_s
    assert rate is not None
    assert 1.5 * MIB < rate <= 2 * MIB


def test_a_copy_that_stands_gets_slower_and_is_said_to_stand(copying: Copying) -> None:
    copying.after(0, 0).after(1, 10)
    first, second = copying.read(1), copying.read(STALLED_S)
    assert (first.stalled_s, second.stalled_s) == (None, STALLED_S + 1)
    assert first.rate_bytes_s is not None
    assert second.rate_bytes_s is not None
    assert 0 < second.rate_bytes_s < first.rate_bytes_s


def test_a_copy_that_has_stood_for_the_whole_window_has_no_rate_of_the_past(copying: Copying) -> None:
    copying.after(0, 0).after(1, 10)
    for _ in range(int(3 * WINDOW_S)):
        copying.after(1, 10)
    reading = copying.read()
    assert (reading.rate_bytes_s, reading.eta_s) == (0, None)


def test_a_copy_that_goes_on_does_not_stand_any_more(copying: Copying) -> None:
    copying.after(0, 0).after(30, 10)
    assert copying.read(1).stalled_s is None


def test_another_phase_begins_anew(copying: Copying) -> None:
    copying.after(0, 0).after(1, 50)
    reading = copying.after(1, 0, "verify").read()
    assert (reading.phase, reading.bytes_done, reading.rate_bytes_s) == ("verify", 0, None)


def test_what_moves_by_an_unknown_total_has_a_rate_and_no_end(copying: Copying) -> None:
    reading = copying.after(0, 0, total=None).after(1, 10, total=None).read()
    assert (reading.rate_bytes_s, reading.eta_s, reading.bytes_total) == (10 * MIB, None, None)


def test_a_copy_that_begins_again_has_no_negative_rate(copying: Copying) -> None:
    assert copying.after(0, 50).after(1, 0).read(1).rate_bytes_s == 0


def test_what_is_done_takes_no_more_time(copying: Copying) -> None:
    assert copying.after(0, 0).after(1, 100).read().eta_s == 0


def test_a_meter_that_is_asked_for_days_keeps_little(copying: Copying) -> None:
    for number in range(5000):
        copying.after(0.01, number % 100)
    assert len(copying.meter._seen) < 1.2 * WINDOW_S / 0.01
