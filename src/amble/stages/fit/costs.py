"""Profile → CostModel of one graph on one device: a dense table over every legal point, and its own error.

The laws themselves are elsewhere in this package; here the operators of a profile become the workloads of a measured
table, the fitted laws are read off at every point the device allows, and what was left over becomes the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtr

from amble.core.errors import Refused
from amble.core.files import Format
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import CostTable, FloatArray
from amble.core.profile import Profile, SwitchCost
from amble.core.subject import Subject, Where, gathered
from amble.core.table import KNOBS, Table
from amble.stages.fit.models import Prediction

__all__ = ["COSTS", "Costs", "Error", "Surfaces", "costs", "read_off"]


_SURE = 0.95  # probability that a margin is no lower than the percentile it stands for
_IN_LINE, _HALVINGS = 20_000, 12  # requests in a row that a margin is tried on, and steps to find it
_TAIL = 0.9  # quantile beyond which the tail is taken for exponential, where runs are too few for a bound


@dataclass(frozen=True, slots=True)
class Error:
    """Relative errors of predictions at points held out of the fit: median and 95th percentile; None if none were."""

    latency_median: float | None = None
    latency_p95: float | None = None
    power_median: float | None = None
    power_p95: float | None = None


@dataclass(frozen=True, slots=True)
class Surfaces:
    """Laws read off at asked points. latency_s, power_w: [workload, point]; power NaN where no meter was."""

    latency_s: FloatArray
    power_w: FloatArray
    model: str
    error: Error


Fitter = Callable[[Profile, tuple[OperatingPoint, ...]], Surfaces]
"""Profile and points → surfaces with one row an operator, and a last one for the idle device."""


@dataclass(frozen=True, slots=True)
class Costs:
    """A cost model as a table; also the artefact that ``amble fit`` writes.

    latency_s, energy_j: [operator][point], energy empty where no meter was; ``idle_power_w``: [point].
    ``residuals`` are quantiles of single whole runs over the prediction, from ``runs`` of them; margins rest on both.
    """

    subject: Subject
    where: Where
    model: str
    error: Error
    operators: tuple[str, ...]
    points: tuple[OperatingPoint, ...]
    latency_s: tuple[tuple[float, ...], ...]
    energy_j: tuple[tuple[float, ...], ...]
    idle_power_w: tuple[float, ...]
    residuals: tuple[float, ...]
    switches: tuple[SwitchCost, ...] = ()
    runs: int = 600
    notes: tuple[str, ...] = ()  # what a plan that rests on them ought to say

    def table(self, graph: Graph) -> CostTable:
        """Return the costs of a graph's operators at all points."""
        if graph.digest != self.subject.digest:
            raise Refused(
                f"these costs are of {self.subject.network}, not of {graph.name} as it is now; measure and fit it anew"
            )
        rows = slice(graph.offset, graph.offset + len(graph.operators))
        whole = self.arrays()
        return CostTable(self.points, whole.latency_s[rows], whole.energy_j[rows])

    def arrays(self) -> CostTable:
        """Return the costs of all operators at all points."""
        latency_s = np.array(self.latency_s)
        energy_j = np.array(self.energy_j) if self.energy_j else np.full_like(latency_s, np.nan)
        return CostTable(self.points, latency_s, energy_j)

    def idle_w(self, clocks: Clocks) -> float | None:
        """Return the idle power [W] at a setting of the table."""
        if not self.idle_power_w:
            return None
        return next(
            power_w for point, power_w in zip(self.points, self.idle_power_w, strict=True) if point.clocks == clocks
        )

    def margin(self, percentile: float) -> float:
        """Return the time to keep for a request, over its prediction, so that the percentile is in time; at least 1.

        It is an upper tolerance bound, since the percentile of so few runs is an estimate, which would break half of
        its promises: the order statistic that lies above the percentile in 95 % of samples (Wilks 1941); where the runs
        are too few for one, the tail is continued as an exponential and its scale read as much higher. And it holds
        for a request every deadline, where one that is very late makes the next ones wait (Lindley 1952).
        """
        return _margin(self.residuals, percentile, self.runs) if self.residuals else 1.0


COSTS = Format("costs", 2, Costs, {1: gathered})


def costs(profile: Profile, fitter: Fitter) -> Costs:
    """Fit a profile and read the laws off at every point of the device; measured points stay as they were measured."""
    if not profile.samples:
        raise Refused(f"the profile of {profile.subject.network} has no samples; measure it first")
    points = tuple(sorted(profile.points)) or tuple(sorted({sample.point for sample in profile.samples}))
    surfaces = fitter(profile, points)
    latency_s, energy_j = _as_measured(profile, points, surfaces)
    metered = not np.isnan(energy_j).any()
    return Costs(
        profile.subject,
        profile.where,
        model=surfaces.model,
        error=surfaces.error,
        operators=profile.operators,
        points=points,
        latency_s=_rows(latency_s),
        energy_j=_rows(energy_j) if metered else (),
        idle_power_w=_rows(surfaces.power_w[-1:])[0] if profile.idle else (),
        residuals=_residuals(profile, points, latency_s),
        switches=profile.switches,
        runs=max(len(profile.ratios), 1),
    )


def read_off(costs: Costs, table: Table) -> Prediction:
    """Predict the rows of a table from a network's costs: its whole time, or that of the operator named as kernel.

    A row at clocks that the device has not, or of an operator that the network has not, is NaN.
    """
    column = {_asked(point): index for index, point in enumerate(costs.points)}
    row = {name: index for index, name in enumerate(costs.operators)}
    arrays = costs.arrays()
    whole = len(row)
    latency_s, energy_j = (np.vstack([each, each.sum(axis=0)]) for each in (arrays.latency_s, arrays.energy_j))
    time_s, spent_j = np.full((2, table.num_rows), np.nan)
    knobs = np.stack([table.knob(name) for name in KNOBS], axis=1)
    for index, (kernel, asked) in enumerate(zip(table.kernel.tolist(), knobs.tolist(), strict=True)):
        place = row.get(kernel) if kernel else whole, column.get(_known(asked))
        if None not in place:
            time_s[index], spent_j[index] = latency_s[place], energy_j[place]
    power_w = spent_j / time_s
    lost = int(np.isnan(time_s).sum())
    lacking = f"{lost} rows are at clocks that the device lacks, or of operators that {costs.subject.network} lacks"
    low, high = np.quantile(costs.residuals, [0.05, 0.95]) if costs.residuals else (np.nan, np.nan)
    off = np.nan if costs.error.power_p95 is None else costs.error.power_p95
    times, powers = (time_s, low * time_s, high * time_s), (power_w, power_w / (1 + off), power_w * (1 + off))
    return Prediction(*times, *powers, notes=(lacking,) if lost else ())


@lru_cache(maxsize=256)
def _margin(residuals: tuple[float, ...], percentile: float, runs: int) -> float:
    seen = np.array(residuals)
    error = 1.645 * np.sqrt(percentile * (1 - percentile) / runs)
    surer = percentile + min(float(error), (1 - percentile) / 2)
    return max(1.0, _tolerance_bound(seen, percentile, runs), _in_line(seen, surer))


def _in_line(residuals: FloatArray, percentile: float) -> float:
    """Return the least room per request with which this share is in time when a request comes each time it ends."""
    service = np.quantile(residuals, (np.arange(_IN_LINE) + 0.5) / _IN_LINE)
    service = np.random.default_rng(0).permutation(service)
    low, high = float(service.mean()), float(service.max())
    for _ in range(_HALVINGS):
        room = (low + high) / 2
        behind = np.concatenate([[0.0], np.cumsum(service[:-1] - room)])
        wait = behind - np.minimum.accumulate(behind)
        late = float(np.mean(wait + service > room))
        low, high = (low, room) if late <= 1 - percentile else (room, high)
    return high


def _tolerance_bound(residuals: FloatArray, percentile: float, runs: int) -> float:
    ranks = np.arange(1, runs + 1)
    enough = np.flatnonzero(bdtr(ranks - 1.0, runs, percentile) >= _SURE)
    if len(enough):
        return float(np.quantile(residuals, (ranks[enough[0]] - 0.5) / runs))
    start = float(np.quantile(residuals, min(_TAIL, percentile)))
    scale = float(np.mean(residuals[residuals >= start])) - start
    surer = 1 + 1.645 / np.sqrt(max(runs * (1 - _TAIL), 1.0))
    beyond = start + scale * surer * np.log(max((1 - _TAIL) / max(1 - percentile, 1e-9), 1.0))
    return float(max(residuals.max(), beyond))


def _asked(point: OperatingPoint) -> tuple[float | None, ...]:
    return tuple(getattr(point.clocks, name) for name in KNOBS)


def _known(values: list[float]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else value for value in values)


def _as_measured(
    profile: Profile, points: tuple[OperatingPoint, ...], surfaces: Surfaces
) -> tuple[FloatArray, FloatArray]:
    """Return latency and energy, [operator, point]: what was measured where it was, the fitted elsewhere."""
    latency_s = surfaces.latency_s[:-1].copy()
    energy_j = latency_s * surfaces.power_w[:-1]
    row = {name: index for index, name in enumerate(profile.operators)}
    column = {point: index for index, point in enumerate(points)}
    for sample in profile.samples:
        if not sample.throttled:
            place = row[sample.operator], column[sample.point]
            latency_s[place] = sample.latency_s
            energy_j[place] = np.nan if sample.energy_j is None else sample.energy_j
    return latency_s, energy_j


def _rows(values: FloatArray) -> tuple[tuple[float, ...], ...]:
    """Round to seven digits: more were not measured, and the file stays small."""
    scale = 10.0 ** (6 - np.floor(np.log10(np.maximum(np.abs(values), 1e-300))))
    return tuple(tuple(row) for row in (np.round(values * scale) / scale).tolist())


def _residuals(profile: Profile, points: tuple[OperatingPoint, ...], latency_s: FloatArray) -> tuple[float, ...]:
    """Return quantiles of (a single run / the median run at its point) × (that median / the prediction)."""
    column = {point: index for index, point in enumerate(points)}
    predicted_s = latency_s.sum(axis=0)
    bias = np.array([total.latency_s / predicted_s[column[total.point]] for total in profile.totals])
    if not profile.ratios or not len(bias):
        return ()
    runs = np.multiply.outer(np.array(profile.ratios), bias).ravel()
    return tuple(np.quantile(runs, np.linspace(0, 1, 1001)).round(6).tolist())
