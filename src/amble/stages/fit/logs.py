"""Log → Profile: what a run told of its network's cost on its device, so that it can be fitted and planned anew.

A run at one setting tells the time of whatever ran in one go. Where that was several operators, their sum is measured
and their shares are those that were expected of them (`Known.steps`); so a plan with one setting for everything rests
on measurements alone. Only runs count in which the same clocks ran from start to end, and that were of the batch size
the shares are of. A setting counts when every operator ran at it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.errors import Refused
from amble.core.log import Known, Log, Slice
from amble.core.point import OperatingPoint
from amble.core.profile import Profile, Sample
from amble.stages.fit.costs import Error, Surfaces

__all__ = ["as_measured", "profile_of"]

_FEWEST = 3  # runs of a segment at a setting, for a median

Piece = tuple[int, int]
"""Operators from one to before the other."""


@dataclass(frozen=True, slots=True)
class _Runs:
    """All runs of one piece at one point; energies only where all of them are known."""

    times_s: tuple[float, ...]
    energies_j: tuple[float, ...] | None

    @property
    def median_s(self) -> float:
        return float(np.median(self.times_s))

    @property
    def mean_j(self) -> float | None:
        return None if self.energies_j is None else float(np.mean(self.energies_j))


def profile_of(log: Log) -> Profile:
    """Read a log as a profile. Refused where it does not tell enough, with what to do about it."""
    known, name = log.known, log.subject.network
    if known is None or not known.steps:
        raise Refused(f"this log of {name} does not say what ran; keep one with: amble serve MODEL --log FILE")
    runs = _runs(log.slices, known)
    points = {point: found for point, pieces in runs.items() if (found := _cover(pieces, len(known.steps)))}
    if not points:
        raise Refused(
            f"this log of {name} has no setting at which every operator of its {len(known.steps)} ran at least "
            f"{_FEWEST} times alone, at clocks that held; serve longer, or with --max-batch 1"
        )
    return Profile(
        subject=log.subject,
        where=log.where,
        operators=tuple(step.operator for step in known.steps),
        samples=tuple(each for point, pieces in points.items() for each in _samples(known, point, pieces)),
        totals=tuple(_total(point, pieces) for point, pieces in points.items()),
        idle=known.idle if {each.clocks for each in known.idle} >= {point.clocks for point in points} else (),
        switches=known.switches,
        points=tuple(sorted(points)),
        ratios=tuple(ratio for pieces in points.values() for ratio in _ratios(pieces)),
    )


def as_measured(profile: Profile, points: tuple[OperatingPoint, ...]) -> Surfaces:
    """Read a profile off at the points that were measured, all of which are: there is nothing to fit."""
    row = {name: index for index, name in enumerate(profile.operators)}
    column = {point: index for index, point in enumerate(points)}
    latency_s, power_w = np.zeros((len(row), len(points))), np.full((len(row) + 1, len(points)), np.nan)
    for sample in profile.samples:
        place = row[sample.operator], column[sample.point]
        latency_s[place] = sample.latency_s
        if sample.energy_j is not None:
            power_w[place] = sample.energy_j / sample.latency_s if sample.latency_s > 0 else 0.0
    idle_w = {each.clocks: each.power_w for each in profile.idle}
    power_w[-1] = [idle_w.get(point.clocks, np.nan) for point in points]
    return Surfaces(np.vstack([latency_s, np.zeros(len(points))]), power_w, "as measured", Error())


def _runs(slices: Sequence[Slice], known: Known) -> dict[OperatingPoint, dict[Piece, _Runs]]:
    """Gather the runs of single rows by point and piece; those too few for a median are left out.

    What ran at another precision than was known is another network, with operators of its own.
    """
    found: dict[OperatingPoint, dict[Piece, list[Slice]]] = defaultdict(lambda: defaultdict(list))
    for each in slices:
        if not each.steady or each.rows != 1 or each.stop > len(known.steps):
            continue
        precision = known.steps[each.start].point.precision
        if each.precision in ("", precision):
            found[OperatingPoint(each.ran_at, precision)][each.start, each.stop].append(each)
    return {
        point: {piece: _gathered(own) for piece, own in pieces.items() if len(own) >= _FEWEST}
        for point, pieces in found.items()
    }


def _gathered(slices: Sequence[Slice]) -> _Runs:
    energies_j = tuple(each.energy_j for each in slices if each.energy_j is not None)
    times_s = tuple(each.finish_s - each.start_s for each in slices)
    return _Runs(times_s, energies_j if len(energies_j) == len(slices) else None)


def _cover(pieces: Mapping[Piece, _Runs], count: int) -> dict[Piece, _Runs] | None:
    """Return pieces that make up the whole network, the longest first; None where some operator is in none."""
    found, start = {}, 0
    while start < count:
        stop = max((stop for begin, stop in pieces if begin == start), default=None)
        if stop is None:
            return None
        found[start, stop] = pieces[start, stop]
        start = stop
    return found


def _samples(known: Known, point: OperatingPoint, pieces: Mapping[Piece, _Runs]) -> list[Sample]:
    """Divide each piece among its operators as their expected costs divide."""
    found = []
    for (start, stop), runs in pieces.items():
        steps = known.steps[start:stop]
        time = _shares([step.predicted.latency_s for step in steps])
        spent = _shares([step.predicted.energy_j or 0.0 for step in steps]) if _all_known(known) else time
        for step, of_time, of_energy in zip(steps, time, spent, strict=True):
            energy_j = None if runs.mean_j is None else of_energy * runs.mean_j
            sample = Sample(step.operator, point, point.clocks, of_time * runs.median_s, energy_j, len(runs.times_s))
            found.append(sample)
    return found


def _all_known(known: Known) -> bool:
    return all(step.predicted.energy_j is not None for step in known.steps)


def _shares(expected: Sequence[float]) -> list[float]:
    whole = sum(expected)
    return [each / whole for each in expected] if whole > 0 else [1.0 / len(expected)] * len(expected)


def _total(point: OperatingPoint, pieces: Mapping[Piece, _Runs]) -> Sample:
    joules = [runs.mean_j for runs in pieces.values()]
    known_j = [each for each in joules if each is not None]
    energy_j = sum(known_j) if len(known_j) == len(joules) else None
    time_s = sum(runs.median_s for runs in pieces.values())
    repeats = min(len(runs.times_s) for runs in pieces.values())
    return Sample("", point, point.clocks, time_s, energy_j, repeats)


def _ratios(pieces: Mapping[Piece, _Runs]) -> list[float]:
    """Return times of runs over their median; of a network that ran in pieces, the sum's, run by run."""
    count = min(len(runs.times_s) for runs in pieces.values())
    whole_s = np.sum([runs.times_s[:count] for runs in pieces.values()], axis=0)
    return [float(each) for each in whole_s / np.median(whole_s)]
