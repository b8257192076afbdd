"""Correction of observed times: made-up profiles whose truth is known come out as they were."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amble.core.cost import Reading
from amble.runtimes.onnx.timing import Runs, corrected, interleave, interrupted, typical

US = 1e-6


def test_a_constant_that_the_profiler_adds_is_taken_out() -> None:
    true_s = np.array([3.0, 5.0, 100.0, 2000.0]) * US
    times_s = corrected(true_s + 2 * US, true_s.sum(), most_inside_s=6 * US, most_between_s=4 * US)
    np.testing.assert_allclose(times_s, true_s, rtol=1e-9)


def test_dispatch_between_operators_is_spread_evenly() -> None:
    kernels_s = np.array([10.0, 20.0, 30.0]) * US
    times_s = corrected(kernels_s, float(kernels_s.sum()) + 3 * US, most_inside_s=5 * US, most_between_s=5 * US)
    np.testing.assert_allclose(times_s, kernels_s + 1.0 * US, rtol=1e-9)


def test_a_slower_observed_run_scales_long_operators_and_spares_short_ones() -> None:
    true_s = np.array([5.0, 5.0, 100_000.0]) * US
    times_s = corrected(true_s * 1.03 + 2 * US, true_s.sum(), most_inside_s=4 * US, most_between_s=4 * US)
    np.testing.assert_allclose(times_s[2], true_s[2], rtol=1e-3)
    assert (times_s[:2] > 0.2 * US).all(), "a constant for all would have made them negative"


def test_a_faster_observed_run_does_not_lengthen_short_operators_by_more_than_the_gaps() -> None:
    durations_s = np.array([5.0, 5.0, 100_000.0]) * US
    times_s = corrected(durations_s, 1.05 * durations_s.sum(), most_inside_s=4 * US, most_between_s=3 * US)
    assert (times_s[:2] < 9 * US).all()


def test_operators_keep_their_order() -> None:
    durations_s = np.array([2.0, 2.5, 9.0]) * US
    times_s = corrected(durations_s, 5 * US, most_inside_s=9 * US, most_between_s=9 * US)
    assert (np.diff(times_s) >= 0).all()


@given(
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30),
    st.floats(0.2, 5.0),
    st.floats(-1.0, 1.0),
    st.floats(-1.0, 1.0),
)
def test_times_are_positive_and_sum_to_the_whole(
    durations: list[float], scale: float, inside_s: float, between_s: float
) -> None:
    durations_s = np.array(durations)
    whole_s = scale * float(durations_s.sum())
    times_s = corrected(durations_s, whole_s, most_inside_s=inside_s, most_between_s=between_s)
    assert (times_s > 0).all()
    assert times_s.sum() == pytest.approx(whole_s, rel=1e-9)


def test_typical_resolves_fractions_of_a_microsecond_and_ignores_interruptions() -> None:
    rng = np.random.default_rng(0)
    true_us = np.array([3.3, 3.7])
    whole_us = np.floor(true_us[:, None] + rng.uniform(0, 1, (2, 2000)))
    whole_us[:, ::20] += 5000
    np.testing.assert_allclose(typical(whole_us * US) / US, true_us, atol=0.12)


def test_typical_of_long_work_that_is_mostly_interrupted_is_that_of_its_fast_runs() -> None:
    rng = np.random.default_rng(1)
    durations_us = 5000 * rng.normal(1.0, 0.01, 400) + 4000 * rng.integers(0, 2, 400)
    assert typical(durations_us * US) / US == pytest.approx(5000, rel=0.02)


@pytest.mark.parametrize("runs", [1, 2, 3, 10])
def test_typical_of_a_few_equal_runs_is_their_duration(runs: int) -> None:
    np.testing.assert_allclose(typical(np.full((2, runs), 7 * US)), 7 * US)


class Script:
    """A fake machine: each kind of run takes its own time, and everything is remembered in order."""

    def __init__(self) -> None:
        self.now_s, self.log = 0.0, ""
        self._joules = itertools.count()

    def plain(self) -> None:
        self.now_s += 1.0
        self.log += "p"

    def observed(self) -> None:
        self.now_s += 3.0
        self.log += "o"

    def read(self) -> Reading:
        self.log += "|"
        return Reading(self.now_s, float(next(self._joules)))


def test_plain_and_observed_runs_take_turns_and_only_plain_ones_are_metered() -> None:
    script = Script()
    runs = interleave(
        script.plain, script.observed, repeats=7, num_observed=6, now_s=lambda: script.now_s, meter=script
    )
    assert script.log == "ooooop|ppppp|op|pp|", "the first after an observed one is neither timed nor metered"
    assert (runs.plain_s == 1.0).all()
    assert (runs.observed_s == 3.0).all()
    assert (len(runs.plain_s), len(runs.wall_s), len(runs.observed_s)) == (7, 7, 6)
    assert runs.energy_j == pytest.approx(2 / 7), "two blocks of one joule, seven runs"


def test_energy_is_unknown_without_a_meter() -> None:
    script = Script()
    runs = interleave(script.plain, script.observed, repeats=2, num_observed=2, now_s=lambda: script.now_s, meter=None)
    assert runs.energy_j is None


@pytest.mark.parametrize(("slices", "said"), [(0, False), (1, False), (4, True)])
def test_a_machine_so_busy_that_fast_runs_are_interrupted_too_is_said(slices: int, said: bool) -> None:
    """Operators of 1 and 9 ms; other work takes slices of 4 ms from the long one: from some runs, or from all."""
    own_s = np.array([1e-3, 9e-3])
    taken_s = np.array([[0.0] * 20, [4e-3 if run % 5 < slices or slices == 4 else 0.0 for run in range(20)]])
    runs = Runs(np.full(20, own_s.sum()), np.full(20, 14e-3), np.full(20, own_s.sum() * 1.02), None)
    notes = interrupted(runs, own_s[:, None] + taken_s)
    assert bool(notes) == said
    if said:
        assert "37% longer than they ran" in notes[0]
