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

Shape letters: s sample of the parameters, w workload, p point; "..." are leading axes that broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.stages.fit.parameters import COLUMN, OF_DEVICE, Geometry

__all__ = ["respond", "respond_time", "sloped"]

Floats = NDArray[np.floating[Any]]
Slopes = dict[str, Floats]

_BUSY_AT_LIMIT = -0.7  # logarithm of unlimited power over the highest limit, on average
_LOWEST_SHARE = 0.12  # a power limit lowers the clock no further than to this share of the highest
_SUSTAINED_SHARPNESS = 80.0
_NARROWINGS = 7  # of the bracket of the clock that a limit allows
_NUDGE = 1e-4  # of the logarithm of a clock, for a derivative


@dataclass(frozen=True, slots=True)
class _Spent:
    """Time of one run by what it is spent on, relative; every part is [..., p]."""

    host: Floats
    cpu: Floats | float
    working: Floats  # the bracket: core, memory and floor, overlapped
    core: Floats  # what the core alone would take
    memory: Floats
    core_share: Floats  # of the logarithm of the bracket that follows the core; the three add up to 1
    memory_share: Floats
    floor_share: Floats

    @property
    def whole(self) -> Floats:
        """Time of the whole run."""
        return self.host + self.cpu + self.working


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Power while the chip works, by what draws it, relative; every part is [..., p]."""

    static: Floats
    memory_idle: Floats | float
    clocked: Floats
    active: Floats
    traffic: Floats
    cpu_clocked: Floats | float
    cpu_active: Floats | float

    @property
    def switched(self) -> Floats:
        """Power that only work draws."""
        return self.clocked + self.active + self.traffic

    @property
    def busy(self) -> Floats:
        """Power of the chip while it works, without the CPU."""
        return self.static + self.memory_idle + self.switched

    def average(self, spent: _Spent) -> Floats:
        """Average power of a run."""
        whole = spent.whole
        mean = self.static + self.memory_idle + self.switched * spent.working / whole
        found: Floats = mean + self.cpu_clocked + self.cpu_active * spent.cpu / whole
        return found


def respond(device: Floats, workload: Floats, geometry: Geometry) -> tuple[Floats, Floats]:
    """Logarithm of time and of power [..., p] for parameters [..., d] of the device and [..., z] of the workload."""
    values = _Values(device, workload)
    core, power_level = _core(values, geometry)
    spent = _spent(values, geometry, core)
    power = _drawn(values, geometry, core, spent).average(spent)
    return values.raw("time_level") + np.log(spent.whole), power_level + np.log(power)


def respond_time(device: Floats, workload: Floats, geometry: Geometry) -> Floats:
    """Logarithm of time alone, as `respond`."""
    values = _Values(device, workload)
    core, _ = _core(values, geometry)
    found: Floats = values.raw("time_level") + np.log(_spent(values, geometry, core).whole)
    return found


def sloped(device: Floats, workload: Floats, geometry: Geometry) -> tuple[tuple[Floats, Floats], tuple[Slopes, Slopes]]:
    """Return what `respond` does, and the derivatives of both by the parameters of the workload, by name.

    A parameter without an entry changes nothing.
    """
    values = _Values(device, workload)
    core, power_level = _core(values, geometry)
    spent = _spent(values, geometry, core)
    drawn = _drawn(values, geometry, core, spent)
    power = drawn.average(spent)
    found = values.raw("time_level") + np.log(spent.whole), power_level + np.log(power)
    by_time, by_power = _time_slopes(spent), _power_slopes(spent, drawn)
    if geometry.cap is not None:
        by_time, by_power = _limited_slopes(values, geometry, core, (spent, drawn), (by_time, by_power))
    else:
        by_power["power_level"] = np.ones(1)
    return found, ({**by_time, "time_level": np.ones(1)}, by_power)


class _Values:
    """Parameters by name, with an axis for points: [..., 1]."""

    __slots__ = ("_device", "_known", "_workload")

    def __init__(self, device: Floats, workload: Floats) -> None:
        self._device, self._workload = device, workload
        self._known: dict[str, Floats] = {}

    def raw(self, name: str) -> Floats:
        source = self._device if name in OF_DEVICE else self._workload
        column: Floats = source[..., COLUMN[name], None]
        return column

    def exp(self, name: str) -> Floats:
        if name not in self._known:
            self._known[name] = np.exp(self.raw(name))
        return self._known[name]

    def share(self, name: str, low: float, high: float) -> Floats:
        if name not in self._known:
            self._known[name] = low + (high - low) / (1 + np.exp(-self.raw(name)))
        return self._known[name]

    def power(self, name: str) -> Floats:
        """Exponential of a term of the bracket, to the power of its norm."""
        kept = f"{name} to the norm"
        if kept not in self._known:
            self._known[kept] = np.exp(self.raw(name) / self.share("overlap", 0.03, 1.0))
        return self._known[kept]


def _core(values: _Values, geometry: Geometry) -> tuple[Floats, Floats]:
    """Ratio of the core clock that runs, and the level of power; a limit sets both relative to itself."""
    core = np.ones(geometry.num_points) if geometry.core is None else geometry.core
    power_level = values.raw("power_level")
    if geometry.cap is None:
        return core, power_level
    power_level = power_level + _BUSY_AT_LIMIT - np.log(_at_top(values, geometry)[1].busy)
    kept = values.raw("limit_kept") - power_level
    return np.minimum(core, _allowed(values, geometry, kept)), power_level


def _at_top(values: _Values, geometry: Geometry) -> tuple[_Spent, _Drawn]:
    top = replace(
        geometry,
        core=None,
        memory=None if geometry.memory is None else np.ones(1),
        cpu=None if geometry.cpu is None else np.ones(1),
        cap=None,
        num_points=1,
    )
    spent = _spent(values, top, np.ones(1))
    return spent, _drawn(values, top, np.ones(1), spent)


def _allowed(values: _Values, geometry: Geometry, kept: Floats) -> Floats:
    """Highest core clock (as a ratio) whose busy power keeps the limit: a narrowing bracket in logarithms.

    kept: logarithm of what is kept of the highest limit, over the level of power. Limits and memory clocks that several
    points share are solved once.
    """
    cap, memory, which = geometry.cap, geometry.memory, None
    assert cap is not None
    if cap.ndim == 1:
        pairs = cap[:, None] if memory is None else np.stack([cap, memory], axis=1)
        pairs, which = np.unique(pairs, axis=0, return_inverse=True)
        cap, memory = pairs[:, 0], None if memory is None else pairs[:, 1]
    limits = replace(geometry, core=None, memory=memory, cpu=None, cap=None, num_points=cap.shape[-1])
    highest = 1.0 if geometry.core is None else float(geometry.core.max())
    found = np.exp(_root(values, limits, np.log(cap) + kept, np.log(highest)))
    return found if which is None else found[..., which.reshape(-1)]


def _root(values: _Values, geometry: Geometry, limit: Floats, highest: float) -> Floats:
    """Logarithm of the clock at which the logarithm of busy power meets the limit (Illinois), within its ends."""

    def over(core: Floats) -> Floats:
        ratio = np.exp(core)
        found: Floats = np.log(_drawn(values, geometry, ratio, _spent(values, geometry, ratio)).busy) - limit
        return found

    shape = np.broadcast_shapes(limit.shape, values.raw("core").shape)
    low, high = np.full(shape, np.log(_LOWEST_SHARE)), np.full(shape, highest)
    below, above = over(low), over(high)
    free, stuck = above <= 0, below >= 0
    rose, fell = np.zeros((2, *shape), dtype=bool)
    for _ in range(_NARROWINGS):
        core = _crossing(low, high, below, above)
        value = over(core)
        up = value > 0
        below = np.where(up, np.where(rose, 0.5 * below, below), value)
        above = np.where(up, value, np.where(fell, 0.5 * above, above))
        low, high = np.where(up, low, core), np.where(up, core, high)
        rose, fell = up, ~up
    found: Floats = np.where(free, highest, np.where(stuck, np.log(_LOWEST_SHARE), _crossing(low, high, below, above)))
    return found


def _crossing(low: Floats, high: Floats, below: Floats, above: Floats) -> Floats:
    rise = above - below
    found: Floats = low - np.clip(below / np.where(rise > 1e-12, rise, 1.0), -1, 0) * (high - low)
    return found


def _spent(values: _Values, geometry: Geometry, core: Floats) -> _Spent:
    """Where the time goes with the core at this ratio; a p-norm is a sum of powers, taken by logarithms."""
    norm = 1 / values.share("overlap", 0.03, 1.0)
    core_pace = values.exp("core_slope") * np.log(geometry.core_middle / _sustained(values, geometry, core))
    core_power = values.power("core") * np.exp(norm * core_pace)
    memory_pace = _memory_pace(values, geometry)
    memory_power = values.power("memory") * np.exp(norm * memory_pace)
    floor_power = values.power("floor")
    total = core_power + memory_power + floor_power
    return _Spent(
        host=values.exp("host"),
        cpu=0.0 if geometry.cpu is None else values.exp("cpu") * (geometry.cpu_middle / geometry.cpu),
        working=np.exp(np.log(total) / norm),
        core=values.exp("core") * np.exp(core_pace),
        memory=values.exp("memory") * np.exp(memory_pace),
        core_share=core_power / total,
        memory_share=memory_power / total,
        floor_share=floor_power / total,
    )


def _sustained(values: _Values, geometry: Geometry, core: Floats) -> Floats:
    if geometry.core is None:
        return core
    past = (core / values.exp("sustained")) ** _SUSTAINED_SHARPNESS
    found: Floats = core * (1 + past) ** (-1 / _SUSTAINED_SHARPNESS)
    return found


def _memory_pace(values: _Values, geometry: Geometry) -> Floats:
    """Logarithm of the slow-down of memory beside the middle of its range."""
    if geometry.memory is None:
        return np.zeros(1)
    pace = values.exp("memory_slope") * np.log(geometry.memory_middle / geometry.memory)
    depth = np.clip(np.log(geometry.memory) / geometry.memory_lowest, 0.0, 1.0)  # what the lowest clock adds ends there
    found: Floats = pace + values.raw("lowest_memory") * depth**6
    return found


def _drawn(values: _Values, geometry: Geometry, core: Floats, spent: _Spent) -> _Drawn:
    """What draws power with the core at this ratio."""
    core = _sustained(values, geometry, core)
    voltage = _voltage(core, values.share("knee", 0.2, 0.98), values.exp("sharpness"), values.exp("voltage_slope"))
    squared = np.exp(2 * voltage) * core
    memory = 1.0 if geometry.memory is None else geometry.memory
    idle = 0.0 if geometry.memory is None else values.exp("memory_idle") * memory ** values.exp("memory_idle_slope")
    cpu = 0.0 if geometry.cpu is None else _cpu_squared(values, geometry.cpu)
    return _Drawn(
        static=values.exp("static") * np.exp(voltage * values.exp("leakage")),
        memory_idle=idle,
        clocked=squared * values.exp("core_clocked"),
        active=squared * values.exp("core_active") * (spent.core / spent.working),
        traffic=values.exp("memory_active") * memory * (spent.memory / spent.working),
        cpu_clocked=cpu * values.exp("cpu_clocked"),
        cpu_active=cpu * values.exp("cpu_active"),
    )


def _voltage(clock: Floats, knee: Floats, sharpness: Floats, slope: Floats) -> Floats:
    """Logarithm of the voltage: flat below the knee."""
    found: Floats = slope * (np.log1p((clock / knee) ** sharpness) / sharpness + np.log(knee))
    return found


def _cpu_squared(values: _Values, cpu: Floats) -> Floats:
    knee, slope = values.share("cpu_knee", 0.2, 0.98), values.exp("cpu_voltage_slope")
    found: Floats = np.exp(2 * _voltage(cpu, knee, np.exp(2.5), slope)) * cpu
    return found


def _time_slopes(spent: _Spent) -> Slopes:
    """Derivatives of the logarithm of time at a given clock."""
    whole = spent.whole
    working = spent.working / whole
    return {
        "host": spent.host / whole,
        "cpu": np.asarray(spent.cpu / whole),
        "core": spent.core_share * working,
        "memory": spent.memory_share * working,
        "floor": spent.floor_share * working,
    }


def _power_slopes(spent: _Spent, drawn: _Drawn) -> Slopes:
    """Derivatives of the logarithm of average power at a given clock."""
    whole, power = spent.whole, drawn.average(spent)
    share, cpu_active = spent.working / whole, drawn.cpu_active * spent.cpu / whole
    diluted = drawn.switched * share + cpu_active  # what falls as the run takes longer
    by_time = _time_slopes(spent)
    direct = {
        "host": 0.0,
        "cpu": cpu_active,
        "core": share * (drawn.clocked * spent.core_share + drawn.active),
        "memory": share * (drawn.clocked * spent.memory_share + drawn.traffic),
        "floor": share * drawn.clocked * spent.floor_share,
    }
    found = {name: (value - diluted * by_time[name]) / power for name, value in direct.items()}
    return found | {
        "static": drawn.static / power,
        "memory_idle": drawn.memory_idle / power,
        "core_clocked": share * drawn.clocked / power,
        "core_active": share * drawn.active / power,
        "memory_active": share * drawn.traffic / power,
        "cpu_clocked": drawn.cpu_clocked / power,
        "cpu_active": cpu_active / power,
    }


def _busy_slopes(spent: _Spent, drawn: _Drawn) -> Slopes:
    """Derivatives of the logarithm of busy power at a given clock."""
    busy, work = drawn.busy, drawn.active + drawn.traffic
    return {
        "core": (drawn.active - work * spent.core_share) / busy,
        "memory": (drawn.traffic - work * spent.memory_share) / busy,
        "floor": -work * spent.floor_share / busy,
        "static": drawn.static / busy,
        "memory_idle": drawn.memory_idle / busy,
        "core_clocked": drawn.clocked / busy,
        "core_active": drawn.active / busy,
        "memory_active": drawn.traffic / busy,
    }


def _limited_slopes(
    values: _Values, geometry: Geometry, core: Floats, at: tuple[_Spent, _Drawn], slopes: tuple[Slopes, Slopes]
) -> tuple[Slopes, Slopes]:
    """Add what parameters do through the clock that a limit leaves (implicit derivative of busy power = limit)."""
    spent, drawn = at
    nudged_core = core * np.exp(-_NUDGE)
    nudged_spent = _spent(values, geometry, nudged_core)
    nudged = _drawn(values, geometry, nudged_core, nudged_spent)
    by_clock = [
        np.log(now / before) / _NUDGE
        for now, before in (
            (spent.whole, nudged_spent.whole),
            (drawn.average(spent), nudged.average(nudged_spent)),
            (drawn.busy, nudged.busy),
        )
    ]
    top = _busy_slopes(*_at_top(values, geometry))
    busy = _busy_slopes(spent, drawn)
    asked = 1.0 if geometry.core is None else geometry.core
    moving = (core < asked * (1 - 1e-9)) & (core > _LOWEST_SHARE * (1 + 1e-9))
    rise = np.where(moving, 1 / np.maximum(by_clock[2], 1e-3), 0.0)
    clock = {name: (top[name] - slope) * rise for name, slope in busy.items()}
    by_time = slopes[0] | {name: slopes[0].get(name, 0.0) + by_clock[0] * clock[name] for name in clock}
    by_power: Slopes = {
        name: slope - top.get(name, 0.0) + by_clock[1] * clock.get(name, 0.0) for name, slope in slopes[1].items()
    }
    by_time["power_level"] = -by_clock[0] * rise
    by_power["power_level"] = 1 - by_clock[1] * rise
    return by_time, by_power
