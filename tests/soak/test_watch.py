"""A leak shows, and what is made once does not."""

from __future__ import annotations

import pytest

from tests.soak.watch import Memory, Rest

_KIB = 1 / 1024  # MiB


def test_what_calls_leave_behind_is_a_leak() -> None:
    memory, kept = Memory(), []
    for lap in range(8):
        memory.rest(5000 * lap)
        kept.append([bytes(1024) for _ in range(5000)])
    growth, noise = memory.find_slope()
    assert memory.grows
    assert 900 < growth - noise <= growth + noise < 1300
    assert len(kept) == 8


@pytest.mark.parametrize(
    "sizes",
    [
        [80, 100, 110, 110, 110, 110, 110, 110],  # filled
        [100, 90, 110, 95, 105, 108, 92, 100],  # noise
        [49, 50, 50.2, 50.3, 50.8, 50.9, 51, 51.1],  # filled late
        [100, 100, 100, 100 + 300 * _KIB, 100, 100, 100, 100 + 300 * _KIB],
    ],
)
def test_what_is_filled_and_noise_are_none(sizes: list[float]) -> None:
    assert not Memory([Rest(9000 * lap, size, 0) for lap, size in enumerate(sizes)]).grows


def test_too_few_samples_say_nothing() -> None:
    rests = [Rest(1000 * lap, 100.0 * lap, 7.0 * lap) for lap in range(5)]
    assert Memory(rests).grows
    assert Memory(rests).find_span() == (7, 28)
    assert Memory(rests[:4]).find_slope() == (0, 0)
    assert not Memory(rests[:4]).grows
