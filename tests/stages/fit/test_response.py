"""The family contains the laws it claims to, and obeys physics for any parameters."""

from __future__ import annotations

import numpy as np
import pytest

from amble.stages.fit.parameters import DEVICE, WORKLOAD, active, flags_of, geometry_of, start
from amble.stages.fit.response import respond, respond_time, sloped

TWO = ("core_hz", "memory_hz")
LIMIT = ("power_limit_w",)


def parameters(knobs, num_samples, seed):
    rng = np.random.default_rng(seed)
    flags = flags_of(knobs, time=True, power=True)
    drawn = []
    for group in (DEVICE, WORKLOAD):
        values = np.tile(start(group, flags), (num_samples, 1))
        on = active(group, flags)
        sd = np.array([parameter.sd for parameter in group])
        values[:, on] += sd[on] * rng.standard_normal((num_samples, len(on)))
        drawn.append(values)
    return drawn


def grid(knobs, *axes):
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(knobs))
    return points, geometry_of(points, knobs, top=points.max(axis=0), low=points.min(axis=0))


def test_time_never_rises_with_a_clock():
    points, geometry = grid(TWO, np.linspace(3e8, 1.5e9, 9), np.array([8e8, 1.6e9, 3.2e9]))
    device, workload = parameters(TWO, 200, seed=1)
    slow = [parameter.name for parameter in DEVICE].index("lowest_memory")
    device[:, slow] = np.abs(device[:, slow])
    time, _ = respond(device, workload, geometry)
    assert (np.diff(time.reshape(200, 9, 3), axis=1) <= 1e-9).all()
    assert (np.diff(time.reshape(200, 9, 3), axis=2) <= 1e-9).all()
    assert len(points) == 27


def test_what_the_lowest_memory_clock_adds_ends_at_the_measured_clocks():
    memories = np.array([4e8, 8e8, 9e8, 3.6e9])
    points = np.stack([np.full(4, 1e9), memories], axis=1)
    measured = points[1:3]
    geometry = geometry_of(points, TWO, top=measured.max(axis=0), low=measured.min(axis=0))
    device, workload = parameters(TWO, 50, seed=3)
    time, power = respond(device, workload, geometry)
    without = device.copy()
    without[:, [parameter.name for parameter in DEVICE].index("lowest_memory")] = 0.0
    plain, _ = respond(without, workload, geometry)
    assert np.isfinite(time).all()
    assert np.isfinite(power).all()
    np.testing.assert_allclose(time[:, 2:], plain[:, 2:])
    assert (np.abs(time[:, 0] - plain[:, 0]) <= np.abs(device).max()).all()


def test_power_of_core_bound_work_never_falls_with_the_core_clock():
    _, geometry = grid(("core_hz",), np.linspace(3e8, 1.5e9, 9))
    device, workload = parameters(("core_hz",), 200, seed=2)
    names = [parameter.name for parameter in WORKLOAD]
    workload[:, names.index("core")] = 5.0
    workload[:, [names.index("floor"), names.index("host")]] = -8.0
    device[:, [parameter.name for parameter in DEVICE].index("core_slope")] = 0.0
    _, power = respond(device, workload, geometry)
    assert (np.diff(power, axis=1) >= -1e-9).all()


def test_a_lower_power_limit_is_never_faster_and_is_kept_down_to_the_floor():
    limits = np.linspace(80.0, 250.0, 10)
    _, geometry = grid(LIMIT, limits)
    time, power = respond(*parameters(LIMIT, 200, seed=3), geometry)  # type: ignore[call-arg]
    assert (np.diff(time, axis=1) <= 1e-6).all()
    assert (np.diff(power, axis=1) >= -1e-6).all()
    kept = np.exp(power) <= limits / limits.max() * 1.06
    slowest = time.max(axis=1, keepdims=True) - time < 1e-6  # the clock falls no further than to its floor
    assert (kept | slowest).mean() > 0.7


@pytest.mark.parametrize(("logit", "expected"), [(12.0, 2.0), (-12.0, 1.04)])
def test_overlap_runs_from_the_sum_to_the_maximum(logit, expected):
    _, geometry = grid(TWO, np.array([1e9]), np.array([1e9]))
    device, workload = (start(group, flags_of(TWO, time=True, power=False)) for group in (DEVICE, WORKLOAD))
    names = [parameter.name for parameter in WORKLOAD]
    workload[[names.index("host"), names.index("floor")]] = -30.0
    workload[[names.index("core"), names.index("memory")]] = 0.0
    device[[parameter.name for parameter in DEVICE].index("overlap")] = logit
    device[[parameter.name for parameter in DEVICE].index("sustained")] = 1.0
    time, _ = respond(device, workload, geometry)
    assert np.exp(time[0]) == pytest.approx(expected, rel=0.02)


def test_parameters_that_a_table_cannot_show_are_off():
    flags = flags_of(("core_hz",), time=True, power=False)
    shown = {DEVICE[i].name for i in active(DEVICE, flags)} | {WORKLOAD[i].name for i in active(WORKLOAD, flags)}
    assert "memory" not in shown
    assert "knee" not in shown
    assert {"overlap", "core", "host", "floor", "time_level"} <= shown


@pytest.mark.parametrize("knobs", [("core_hz",), TWO, ("core_hz", "memory_hz", "cpu_hz"), LIMIT, ("core_hz", *LIMIT)])
def test_slopes_are_those_of_small_steps(knobs):
    axes = {
        "core_hz": np.linspace(3e8, 1.5e9, 5),
        "memory_hz": np.array([8e8, 3.2e9]),
        "cpu_hz": np.array([5e8, 2e9]),
        "power_limit_w": np.linspace(100.0, 250.0, 5),
    }
    _, geometry = grid(knobs, *(axes[name] for name in knobs))
    device, workload = parameters(knobs, 60, seed=4)
    found, slopes = sloped(device, workload, geometry)
    for own, other in zip(found, respond(device, workload, geometry), strict=True):
        assert own == pytest.approx(other, abs=1e-12)
    assert respond_time(device, workload, geometry) == pytest.approx(found[0], abs=1e-12)
    for index in active(WORKLOAD, flags_of(knobs, time=True, power=True)):
        up, down = workload.copy(), workload.copy()
        up[:, index] += 1e-4
        down[:, index] -= 1e-4
        ends = zip(respond(device, up, geometry), respond(device, down, geometry), strict=True)
        for output, (high, low) in enumerate(ends):
            slope = np.broadcast_to(slopes[output].get(WORKLOAD[index].name, 0.0), high.shape)
            assert np.quantile(np.abs((high - low) / 2e-4 - slope), 0.9) < 1e-3
