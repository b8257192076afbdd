"""A power limit that nobody wrote down is seen where powers show it, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amble.stages.fit.ceiling import implied_limit
from amble.stages.fit.pooled import fit_pooled
from amble.stages.fit.tables import fit_table
from tests.stages.fit import synthetic

CORE = ("core_hz",)
CLOCKS = np.array([4e8, 5.5e8, 8e8, 1.1e9, 1.6e9])
EVERY = np.linspace(4e8, 1.6e9, 17)
LIMIT_W = 200.0


def power_w(core_hz: np.ndarray, hunger: float) -> np.ndarray:
    return 30 + hunger * 150 * (core_hz / 1.6e9) * np.maximum(1, core_hz / 1e9) ** 2


def device(clocks: np.ndarray, hungers: tuple[float, ...], limit_w: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and powers [w, p] of a device that lowers its clock to keep a limit."""
    fine = np.linspace(2e8, 1.6e9, 20_000)
    ran = [np.minimum(clocks, fine[power_w(fine, hunger) <= limit_w].max()) for hunger in hungers]
    time_s = np.stack([0.3 + 1.6e9 / each for each in ran])
    return time_s, np.stack([power_w(each, hunger) for each, hunger in zip(ran, hungers, strict=True)])


def logs(clocks: np.ndarray, hungers: tuple[float, ...], limit_w: float) -> tuple[np.ndarray, ...]:
    time_s, drawn_w = device(clocks, hungers, limit_w)
    return clocks[:, None], np.log(time_s), np.log(drawn_w)


def test_a_workload_that_draws_no_more_and_is_no_faster_shows_the_limit() -> None:
    found = implied_limit(CORE, *logs(CLOCKS, (1.5, 0.5), LIMIT_W))
    assert found is not None
    assert np.exp(found) == pytest.approx(LIMIT_W, rel=0.01)


def test_workloads_that_meet_at_one_power_show_the_limit() -> None:
    few = CLOCKS[[0, 2, 4]]
    assert implied_limit(CORE, *logs(few, (0.6, 0.8, 1.1), LIMIT_W)) is not None
    assert implied_limit(CORE, *logs(few, (0.6, 0.8), LIMIT_W)) is None


def test_no_limit_is_seen_where_there_is_none() -> None:
    points, time, power = logs(CLOCKS, (0.5, 0.8, 1.1, 1.5), 1e4)
    assert implied_limit(CORE, points, time, power) is None
    assert implied_limit(CORE, points, time, np.full_like(power, 3.0)) is None  # flat from the start: nothing rose
    alike = np.repeat(power[:1], 4, axis=0)
    assert implied_limit(CORE, points, time, alike) is None


def test_power_that_stays_while_work_gets_faster_is_no_limit() -> None:
    points, time, power = logs(CLOCKS, (1.5,), LIMIT_W)
    assert implied_limit(CORE, points, np.log(1e9 / CLOCKS)[None], power) is None
    assert implied_limit(CORE, points, time, power) is not None


def test_nothing_is_guessed_without_times_or_powers_or_with_other_knobs() -> None:
    points, time, power = logs(CLOCKS, (1.5, 0.5), LIMIT_W)
    unknown = np.full_like(time, np.nan)
    assert implied_limit(CORE, points, unknown, power) is None
    assert implied_limit(CORE, points, time, unknown) is None
    assert implied_limit(("power_limit_w",), points, time, power) is None


def test_a_table_whose_powers_end_at_a_limit_says_so(tmp_path: Path) -> None:
    time_s, drawn_w = device(CLOCKS, (0.9, 1.5), LIMIT_W)
    rows = [
        {"workload": f"w{w}", "core_hz": f"{hz:.0f}", "latency_s": f"{time_s[w, p]}", "power_w": f"{drawn_w[w, p]}"}
        for w in range(2)
        for p, hz in enumerate(CLOCKS)
    ]
    notes = fit_table(synthetic.table(tmp_path, rows), hold_out=0).notes
    assert any("powers end at 200 W, which is taken for a power limit" in note for note in notes)


def test_power_between_the_measured_clocks_is_kept_at_the_limit_and_within_the_interval() -> None:
    hungers = (0.5, 0.7, 0.9, 1.2, 1.5)
    rng = np.random.default_rng(4)
    time_s, drawn_w = (each * np.exp(rng.normal(0, 0.01, each.shape)) for each in device(CLOCKS, hungers, LIMIT_W))
    true_s, true_w = device(EVERY, hungers, LIMIT_W)
    model = fit_pooled(CORE, CLOCKS[:, None], time_s, drawn_w)
    assert model.limit is not None
    time, power = model.predict(EVERY[:, None])
    off = np.abs(np.exp(power.mean) / true_w - 1)
    assert np.median(off) < 0.02
    assert np.quantile(off, 0.95) < 0.08
    assert np.mean(np.abs(power.mean - np.log(true_w)) <= 2 * power.sd) > 0.85
    assert np.median(np.abs(np.exp(time.mean) / true_s - 1)) < 0.02
