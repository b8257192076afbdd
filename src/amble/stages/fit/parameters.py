"""Parameters of the family of default forms with their priors, and measured points as ratios that the family takes.

The priors are physics (voltages fall by at most about a half, overlap is usually nearly perfect, clocks act with
power one) plus what half of the recorded devices show; see `bench/prediction` for how the other half was kept out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COLUMN",
    "DEVICE",
    "OF_DEVICE",
    "WORKLOAD",
    "Geometry",
    "Parameter",
    "active",
    "flags_of",
    "geometry_of",
    "rows_of",
    "start",
]

Floats = NDArray[np.floating[Any]]

_OFF = -12.0  # logarithm of a coefficient that is switched off
_LEVELS = ("time_level", "power_level")


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
COLUMN = {parameter.name: index for group in (DEVICE, WORKLOAD) for index, parameter in enumerate(group)}
OF_DEVICE = frozenset(parameter.name for parameter in DEVICE)


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
            if parameter.needs <= flags or parameter.name in OF_DEVICE or parameter.name in _LEVELS
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


def rows_of(geometry: Geometry, rows: NDArray[np.int64]) -> Geometry:
    """Return the points of some workloads of a geometry whose ratios are [w, p]."""
    core, memory, cpu, cap = (
        None if ratio is None else ratio[rows] for ratio in (geometry.core, geometry.memory, geometry.cpu, geometry.cap)
    )
    return replace(geometry, core=core, memory=memory, cpu=cpu, cap=cap)
