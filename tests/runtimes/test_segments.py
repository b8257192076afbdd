"""The times of segments that a test knows → the operators' times again."""

from __future__ import annotations

import numpy as np
import pytest

from amble.runtimes.segments import Span, solve, spans, works_s


def made_up(count: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).lognormal(0.0, 1.0, count)
    return np.asarray(1e-3 * drawn / drawn.sum() * count**0.5)


@pytest.mark.parametrize("count", [1, 2, 7, 40, 150, 300])
def test_segments_cover_every_operator_and_end_with_the_whole(count: int) -> None:
    fitted, kept = spans(count)

    assert fitted[-1] == (0, count)
    assert {place for start, stop in fitted for place in range(start, stop)} == set(range(count))
    assert all(0 <= start < stop <= count for start, stop in (*fitted, *kept))
    assert not set(fitted) & set(kept)
    assert len(fitted) < 2 * 96 + 80


@pytest.mark.parametrize("seed", range(4))
def test_times_of_segments_give_the_operators_times_again(seed: int) -> None:
    times_s, entry_s, byte_s = made_up(40, seed), 20e-6, 1e-10
    crossing = np.random.default_rng(seed).uniform(1e4, 1e6, 41)

    def crossing_bytes(span: Span) -> float:
        return float(crossing[span[0]] + crossing[span[1]])

    def taken_s(span: Span) -> float:
        return float(times_s[span[0] : span[1]].sum()) + entry_s + byte_s * crossing_bytes(span)

    fitted, kept = spans(40)
    noise = np.random.default_rng(seed).normal(1.0, 0.003, len(fitted))
    found = solve(
        [(span, taken_s(span) * factor) for span, factor in zip(fitted, noise.tolist(), strict=True)],
        [(span, taken_s(span)) for span in kept],
        crossing_bytes=crossing_bytes,
        expected=times_s * np.random.default_rng(seed).uniform(0.5, 2.0, 40),
    )

    assert np.median(np.abs(found.operators_s - times_s)) < 0.1 * np.median(times_s)
    assert abs(found.sum_error) < 0.03
    assert np.median(np.abs(found.held_out)) < 0.03
    assert found.entry_s == pytest.approx(entry_s, rel=0.7)


@pytest.mark.parametrize("seed", range(3))
def test_short_segments_that_are_quicker_than_their_share_spoil_no_longer_ones(seed: int) -> None:
    """What runs again and again finds its caches warm, the more so the shorter it is."""
    times_s = made_up(48, seed)

    def taken_s(span: Span) -> float:
        warm = 0.0 if span == (0, 48) else 0.3 * np.exp((span[0] - span[1]) / 8.0)
        return float(times_s[span[0] : span[1]].sum() * (1.0 - warm))

    fitted, kept = spans(48)
    found = solve(
        [(span, taken_s(span)) for span in fitted],
        [(span, taken_s(span)) for span in kept],
        crossing_bytes=lambda span: float((span[0] > 0) + (span[1] < 48)),
        expected=np.ones(48),
    )
    assert np.median(np.abs(found.held_out)) < 0.065
    assert abs(found.sum_error) < 0.03


def test_a_provider_that_fuses_over_long_distances_is_said() -> None:
    """Whole runs that are far faster than their parts cannot be explained by parts."""
    fitted, kept = spans(30)

    def taken_s(span: Span) -> float:
        length = span[1] - span[0]
        return 1e-3 * length if length < 10 else 1e-4 * length

    found = solve(
        [(span, taken_s(span)) for span in fitted],
        [(span, taken_s(span)) for span in kept],
        crossing_bytes=lambda span: 1.0,
        expected=np.ones(30),
    )

    assert any("do not add up" in note or "are not predicted" in note for note in found.notes)


def test_work_and_bytes_decide_where_nothing_was_timed() -> None:
    assert works_s([16.0, 0.0], [1.0, 3.0]).tolist() == [2.0, 3.0]
