"""What a device does by itself is no fault of measuring: siblings and neighbouring settings tell the two apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from amble.core.files import load, save
from amble.stages.fit.bounds import POWER, TIME, breaking, broken, noise_allowed
from amble.stages.fit.steady import Maybe, steady
from amble.stages.fit.tables import FITTED, fit_table, predict_table
from tests.stages.fit import synthetic

CORE = ("core_hz",)


KNOBS = ("core_hz",)
POINTS = np.array([[0.5e9], [0.8e9], [1.0e9], [1.5e9], [2.0e9]])


def clocks(count: int) -> np.ndarray:
    return np.linspace(4e8, 16e8, count)[:, None]


def left_out(
    values: np.ndarray, points: np.ndarray, output: int = TIME, kinds: tuple[str, ...] = ()
) -> list[list[int]]:
    return [each.tolist() for each in breaking(np.log(values), points, CORE, output, kinds)]


@pytest.mark.parametrize("siblings", [1, 2, 5])
def test_a_setting_that_is_odd_in_all_workloads_alike_is_the_devices_own(siblings):
    points = clocks(5)
    times = np.outer(np.arange(1, siblings + 2), 1e9 / points[:, 0])
    times[0, 3] *= 4
    assert left_out(times, points) == [[3], *([[]] * siblings)]
    times[1:, 3] *= 4
    assert left_out(times, points) == [[]] * (siblings + 1)


def test_what_is_odd_and_kept_is_said(tmp_path):
    odd = {"a": [4.0, 9.0, 1.2], "b": [2.8, 6.3, 0.9], "c": [8.0, 20.0, 2.4]}
    kept = steady(table(tmp_path, odd))
    assert kept.table.num_rows == 9
    assert kept.notes == (
        "3 workloads take longer at a faster setting, which is kept; most of all c at core 750 MHz (line 9), 150% more "
        "than at core 400 MHz: a limit of power or heat?",
    )


def test_an_oddity_of_less_than_half_of_the_workloads_is_a_fault():
    points = clocks(5)
    times = np.outer(np.arange(1, 7), 1e9 / points[:, 0])
    times[:2, 3] *= 4
    assert left_out(times, points) == [[3], [3], [], [], [], []]


def test_workloads_of_one_kind_may_share_what_others_do_not_show():
    points = clocks(5)
    rise = points[:, 0] / points[0, 0]
    powers = np.array([rise**0.5 * (row + 1) for row in range(6)])
    powers[:2, 4] *= 4
    kinds = ("rail:gpu", "rail:gpu", "rail:cpu", "rail:cpu", "rail:ddr", "rail:ddr")
    assert left_out(powers, points, POWER, kinds) == [[]] * 6
    assert left_out(powers, points, POWER)[:2] == [[4], [4]]


def test_a_stretch_of_settings_that_foretell_one_another_is_kept_and_a_lone_one_is_not():
    points = clocks(40)
    times = (1e9 / points[:, 0])[None].copy()
    times[0, 20] *= 3
    assert left_out(times, points) == [[20]]
    times[0, 20] /= 3
    times[0, :8] *= 1.9  # the clocks below are not reached in fact
    assert left_out(times, points) == [[]]


def table(folder, times: dict[str, list[float]]):
    rows = [
        {"workload": name, "core_hz": f"{clock}e6", "latency_s": str(value)}
        for name, values in times.items()
        for clock, value in zip((400, 750, 1400), values, strict=True)
    ]
    return synthetic.table(folder, rows)


HARDLY = {"bound": [18.0, 6.2, 3.6], "other": [4.4, 2.6, 1.9]}


def test_what_is_hardly_too_slow_is_left_out_but_held_in_the_intervals_of_all_workloads(tmp_path):
    fitted = fit_table(table(tmp_path, HARDLY), hold_out=0)
    assert fitted.maybe == (Maybe(("", "bound", "", "", ""), (4e8,), pytest.approx(18.0), None),)  # type: ignore[arg-type]
    asked = table(tmp_path, HARDLY)
    found, alone = (predict_table(each, asked)[0] for each in (fitted, replace(fitted, maybe=())))
    assert found.latency_s == pytest.approx(alone.latency_s)
    assert found.latency_lo_s[0] <= 18.0 <= found.latency_hi_s[0]
    between = synthetic.table(tmp_path, [{"workload": name, "core_hz": "500e6"} for name in HARDLY])
    found, alone = (predict_table(each, between)[0] for each in (fitted, replace(fitted, maybe=())))
    wide, narrow = (np.log(each.latency_hi_s / each.latency_lo_s) for each in (found, alone))
    assert wide[0] >= narrow[0]
    assert wide[1] > 2 * narrow[1]  # whose own settings are all in


def test_values_in_doubt_are_kept_in_the_file(tmp_path):
    fitted = fit_table(table(tmp_path, HARDLY), hold_out=0)
    save(fitted, tmp_path / "fitted.json", FITTED)
    assert load(tmp_path / "fitted.json", FITTED).maybe == fitted.maybe != ()


def test_what_is_far_too_slow_is_in_no_doubt(tmp_path):
    kept = steady(table(tmp_path, HARDLY | {"bound": [80.0, 6.2, 3.6]}))
    assert kept.maybe == ()
    assert kept.doubt


def test_leaving_out_never_costs_much_of_walks_that_follow_no_law():
    points = clocks(25)
    held = np.arange(1, 25, 3)
    rest = np.setdiff1d(np.arange(25), held)
    kept_all: list[float] = []
    kept_some: list[float] = []
    for seed in range(20):
        walk = np.cumsum(np.random.default_rng(seed).normal(0, 0.25, 25))
        out = breaking(walk[None, rest], points[rest], CORE, TIME)[0]
        for errors, kept in ((kept_all, rest), (kept_some, np.delete(rest, out))):
            errors.append(np.abs(np.interp(np.log(points[held, 0]), np.log(points[kept, 0]), walk[kept]) - walk[held]))
    assert np.mean(kept_some) <= 1.15 * np.mean(kept_all)  # 1.7 where nothing tells walks from faults


def test_a_law_that_physics_allows_breaks_nothing() -> None:
    for power, output in ((-1.0, TIME), (0.0, TIME), (1.0, POWER)):
        values = power * np.log(POINTS[:, 0])
        assert not (broken(values, POINTS, KNOBS, output) > noise_allowed(1)).any()
        assert breaking(values[None], POINTS, KNOBS, output)[0].tolist() == []


def test_a_run_that_is_slower_at_a_higher_clock_is_found_and_alone_blamed() -> None:
    values = -np.log(POINTS[:, 0])
    values[3] += 1.5
    assert broken(values, POINTS, KNOBS, TIME)[3].max() > noise_allowed(1)
    assert breaking(values[None], POINTS, KNOBS, TIME)[0].tolist() == [3]


def test_what_was_not_measured_breaks_nothing() -> None:
    values = -np.log(POINTS[:, 0])
    values[[1, 3]] = np.nan
    assert breaking(values[None], POINTS, KNOBS, TIME)[0].tolist() == []


def test_several_knobs_at_once_have_more_noise() -> None:
    assert noise_allowed(2) > noise_allowed(1)
