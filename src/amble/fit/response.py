"""Parameters of a device and of its workloads → time and power at any setting of the knobs: the family of default
forms.

Theory. Relative to the highest measured setting let c, m, u be core, memory and CPU clock. The time of one run is

    t = h + d/u + [ (a/c^β)^p + (b/m^β')^p + k^p ]^(1/p)          p >= 1: 1 is the sum, infinity the maximum (roofline)

with a host part h, CPU work d, core work a, memory work b and a floor k that no clock moves. Average power is

    P = s V^λ + i m^μ + busy · tb/t + CPU part,     busy = V² c (w + w' tc/tb) + x m tm/tb
    V = (1 + (c/κ)^n)^(α/n) κ^α          flat below the knee κ, rising as c^α above it; n is the sharpness of the knee

where tb is the bracket, tc and tm its core and memory terms: what the chip does not do costs no switching energy. The
core clock that runs is min(asked, highest that is sustained); under a power limit it is also lowered until busy +
idle power equals the limit (times η). CPU-DVFS, Han et al. (with b = 1), the sum, the p-norm, the roofline, linear
and knee power are special cases. Device parameters (p, κ, α, ...) are shared by all workloads of a device, the others
belong to a workload.

The priors are physics (voltages fall by at most about a half, overlap is usually nearly perfect, clocks act with
power one) plus what half of the recorded devices show; see `bench/prediction.py` for how the other half was kept out.

Shape letters: s sample of the parameters, w workload, p point; "..." are leading axes that broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEVICE", "WORKLOAD", "Geometry", "Parameter", "active", "flags_of", "geometry_of", "respond", "start"]

Floats = NDArray[np.floating[Any]]

_OFF = -12.0  # logarithm of a coefficient that is switched off
_LEVELS = ("time_level", "power_level")
_BUSY_AT_LIMIT = -0.7  # logarithm of unlimited power over the highest limit, on average
_LOWEST_SHARE = 0.12  # a power limit lowers the clock no further than to this share of the highest
_SUSTAINED_SHARPNESS = 80.0


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter on an unbounded scale: prior mean and standard deviation, and what a table must have to show it."""

    name: str
    mean: float
    sd: float
    needs: frozenset[str] = frozenset()


def _parameter(name: str, mean: float, sd: float, needs: str = "") -> Parameter:
    return Parameter(name, mean, sd, frozenset(needs.split()))


DEVICE = (
    _parameter(
        "sustained", 0.03, 0.02, "core"
    ),  # log of the highest core clock that really runs, over the highest asked
    _parameter("overlap", -1.7, 1.5),  # logit of 1/p
    _parameter("knee", 1.0, 0.9, "clock power"),  # logit of κ between 0.2 and 0.98
    _parameter("sharpness", 2.8, 0.3, "clock power"),  # log n
    _parameter("voltage_slope", -0.1, 0.6, "clock power"),  # log α
    _parameter("leakage", 0.5, 0.3, "clock power"),  # log λ
    _parameter("cpu_knee", 0.0, 1.0, "cpu power"),
    _parameter("cpu_voltage_slope", -0.3, 0.4, "cpu power"),
    _parameter("memory_idle_slope", -0.2, 0.4, "memory power"),  # log μ
    _parameter("core_slope", 0.0, 0.015, "clock"),  # log β
    _parameter("memory_slope", 0.0, 0.03, "memory"),  # log β'
    _parameter("lowest_memory", 0.0, 0.3, "memory"),  # log of the slow-down beyond 1/m at the lowest memory clock
    _parameter("limit_kept", -0.015, 0.015, "cap"),  # log η
)
WORKLOAD = (
    _parameter("time_level", 0.0, 4.0, "time"),
    _parameter("host", -2.0, 1.8),
    _parameter("floor", -2.0, 1.8),
    _parameter("core", -1.0, 1.8, "clock"),
    _parameter("memory", -1.0, 1.8, "memory"),
    _parameter("cpu", -2.0, 1.8, "cpu"),
    _parameter("power_level", 0.0, 2.0, "power"),
    _parameter("static", 0.7, 1.0, "power"),
    _parameter("memory_idle", 0.0, 1.2, "memory power"),
    _parameter("core_clocked", 0.0, 1.2, "power"),
    _parameter("core_active", 0.0, 1.2, "power"),
    _parameter("memory_active", 0.0, 1.2, "memory power"),
    _parameter("cpu_clocked", 0.0, 1.2, "cpu power"),
    _parameter("cpu_active", 0.0, 1.2, "cpu power"),
)
_COLUMN = {parameter.name: index for group in (DEVICE, WORKLOAD) for index, parameter in enumerate(group)}
_OF_DEVICE = frozenset(parameter.name for parameter in DEVICE)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Points as ratios to the highest measured setting; a knob that does not vary is None. Ratios are [..., p]."""

    core: Floats | None
    memory: Floats | None
    cpu: Floats | None
    cap: Floats | None
    core_middle: float  # geometric middle of the measured range, where the coefficients of a time are compared
    memory_middle: float
    cpu_middle: float
    memory_lowest: float  # logarithm of the lowest measured ratio
    num_points: int


@dataclass(frozen=True, slots=True)
class _Work:
    """Time of one run, its average power, and the power while the chip works."""

    time: Floats
    power: Floats
    busy: Floats


def flags_of(knobs: tuple[str, ...], *, time: bool, power: bool) -> frozenset[str]:
    """Return what a table has: its knobs by short name, clock (one that a limit may lower), time, power."""
    short = {"core_hz": "core", "memory_hz": "memory", "cpu_hz": "cpu", "power_limit_w": "cap"}
    flags = {short[name] for name in knobs}
    flags |= {"clock"} if flags & {"core", "cap"} else set()
    flags |= {"time"} if time else set()
    flags |= {"power"} if power or "cap" in flags else set()
    return frozenset(flags)


def active(group: tuple[Parameter, ...], flags: frozenset[str]) -> NDArray[np.int64]:
    """Indices of the parameters of a group that a table with these flags can show."""
    return np.array([index for index, parameter in enumerate(group) if parameter.needs <= flags], dtype=np.int64)


def start(group: tuple[Parameter, ...], flags: frozenset[str]) -> Floats:
    """Prior means of a group; coefficients of what the table lacks are switched off."""
    return np.array(
        [
            parameter.mean
            if parameter.needs <= flags or parameter.name in _OF_DEVICE or parameter.name in _LEVELS
            else _OFF
            for parameter in group
        ]
    )


def geometry_of(points: Floats, knobs: tuple[str, ...], *, top: Floats, low: Floats) -> Geometry:
    """Place points [..., p, k] relative to the highest (top [k]) and lowest (low [k]) measured settings."""
    ratio = {name: points[..., index] / top[index] for index, name in enumerate(knobs)}
    span = {name: float(low[index] / top[index]) for index, name in enumerate(knobs)}
    alone = 0.7 if "power_limit_w" in knobs else 1.0
    return Geometry(
        core=ratio.get("core_hz"),
        memory=ratio.get("memory_hz"),
        cpu=ratio.get("cpu_hz"),
        cap=ratio.get("power_limit_w"),
        core_middle=span["core_hz"] ** 0.5 if "core_hz" in span else alone,
        memory_middle=span.get("memory_hz", 1.0) ** 0.5,
        cpu_middle=span.get("cpu_hz", 1.0) ** 0.5,
        memory_lowest=min(float(np.log(span.get("memory_hz", 0.5))), -0.05),
        num_points=points.shape[-2],
    )


def respond(device: Floats, workload: Floats, geometry: Geometry) -> tuple[Floats, Floats]:
    """Logarithm of time and of power [..., p] for parameters [..., d] of the device and [..., z] of the workload."""
    values = _Values(device, workload)
    core = np.ones(geometry.num_points) if geometry.core is None else geometry.core
    time_level, power_level = values.raw("time_level"), values.raw("power_level")
    if geometry.cap is not None:
        top = _at_top(geometry)
        power_level = power_level + _BUSY_AT_LIMIT - np.log(_work(values, top, np.ones(1)).busy)
        limit = geometry.cap * np.exp(values.raw("limit_kept") - power_level)
        core = _allowed(values, geometry, core, limit)
    work = _work(values, geometry, core)
    return time_level + np.log(work.time), power_level + np.log(work.power)


class _Values:
    """Parameters by name, with an axis for points: [..., 1]."""

    __slots__ = ("_device", "_workload")

    def __init__(self, device: Floats, workload: Floats) -> None:
        self._device, self._workload = device, workload

    def raw(self, name: str) -> Floats:
        source = self._device if name in _OF_DEVICE else self._workload
        column: Floats = source[..., _COLUMN[name], None]
        return column

    def exp(self, name: str) -> Floats:
        return np.exp(self.raw(name))

    def share(self, name: str, low: float, high: float) -> Floats:
        found: Floats = low + (high - low) / (1 + np.exp(-self.raw(name)))
        return found


def _at_top(geometry: Geometry) -> Geometry:
    return Geometry(
        core=None,
        memory=None if geometry.memory is None else np.ones(1),
        cpu=None if geometry.cpu is None else np.ones(1),
        cap=None,
        core_middle=geometry.core_middle,
        memory_middle=geometry.memory_middle,
        cpu_middle=geometry.cpu_middle,
        memory_lowest=geometry.memory_lowest,
        num_points=1,
    )


def _allowed(values: _Values, geometry: Geometry, core: Floats, limit: Floats) -> Floats:
    """Highest core clock (as a ratio) whose busy power keeps the limit: bisection, then one straight line."""
    high = core + 0 * limit
    low = np.where(_work(values, geometry, high).busy > limit, _LOWEST_SHARE, high)
    for _ in range(8):
        middle = (low + high) / 2
        over = _work(values, geometry, middle).busy > limit
        high, low = np.where(over, middle, high), np.where(over, low, middle)
    below, above = _work(values, geometry, low).busy, _work(values, geometry, high).busy
    rise = np.where(above - below > 1e-12, above - below, 1.0)
    found: Floats = low + np.clip((limit - below) / rise, 0, 1) * (high - low)
    return found


def _work(values: _Values, geometry: Geometry, core: Floats) -> _Work:
    """Time and power with the core at this ratio."""
    if geometry.core is not None:
        core = core * (1 + (core / values.exp("sustained")) ** _SUSTAINED_SHARPNESS) ** (-1 / _SUSTAINED_SHARPNESS)
    memory = 1.0 if geometry.memory is None else geometry.memory
    share = values.share("overlap", 0.03, 1.0)  # 1/p
    core_time = values.exp("core") * (geometry.core_middle / core) ** values.exp("core_slope")
    memory_time = values.exp("memory") * (geometry.memory_middle / memory) ** values.exp("memory_slope")
    if geometry.memory is not None:
        depth = np.log(geometry.memory) / geometry.memory_lowest
        memory_time = memory_time * np.exp(values.raw("lowest_memory") * depth**6)
    working = _overlapped((core_time, memory_time, values.exp("floor")), share)
    cpu_time = 0.0 if geometry.cpu is None else values.exp("cpu") * geometry.cpu_middle / geometry.cpu
    time = values.exp("host") + cpu_time + working
    voltage = _voltage(core, values.share("knee", 0.2, 0.98), values.exp("sharpness"), values.exp("voltage_slope"))
    switching = values.exp("core_clocked") + values.exp("core_active") * core_time / working
    busy = voltage**2 * core * switching + values.exp("memory_active") * memory * memory_time / working
    idle = values.exp("static") * voltage ** values.exp("leakage")
    if geometry.memory is not None:
        idle = idle + values.exp("memory_idle") * geometry.memory ** values.exp("memory_idle_slope")
    power = idle + busy * working / time
    if geometry.cpu is not None:
        power = power + _cpu_power(values, geometry.cpu, cpu_time / time)
    return _Work(time, power, idle + busy)


def _overlapped(terms: tuple[Floats, ...], share: Floats) -> Floats:
    """p-norm of the terms, scaled by the largest so that no power overflows; share is 1/p."""
    largest = np.maximum(np.maximum(terms[0], terms[1]), terms[2])
    return largest * sum(((term / largest) ** (1 / share) for term in terms), start=np.zeros(1)) ** share


def _voltage(clock: Floats, knee: Floats, sharpness: Floats, slope: Floats) -> Floats:
    voltage: Floats = ((1 + (clock / knee) ** sharpness) ** (1 / sharpness) * knee) ** slope
    return voltage


def _cpu_power(values: _Values, cpu: Floats, busy_share: Floats) -> Floats:
    voltage = _voltage(cpu, values.share("cpu_knee", 0.2, 0.98), np.exp(2.5), values.exp("cpu_voltage_slope"))
    found: Floats = voltage**2 * cpu * (values.exp("cpu_clocked") + values.exp("cpu_active") * busy_share)
    return found
