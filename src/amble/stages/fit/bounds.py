"""What physics allows two settings of one workload to differ by, and which measurements break it.

Theory. A higher clock makes nothing slower, and a run at most as much faster as the clock rose; the same holds for each
knob, so that for settings x and y

    log t(x) - log t(y)  <=  sum over knobs that x has lower than y of  s_k log(y_k / x_k)

whatever the workload. Power rises with every clock, and by less than a power of it. The exponents s_k leave room for
what recorded devices show (voltage that rises with the clock, memories that fall behind below their lowest clocks).
Where other workloads were measured at both settings, they tell more closely what powers may differ by, and a pair that
most of them, or most of those of one kind, break alike is the device's own way. What breaks a bound by more than noise
is found greedily: of the measurements that break one, that which lies farthest outside what is typical goes first, and
of two alike the higher, since runs are disturbed upwards more often than downwards. Where there are enough settings to
tell, all of that stays if each is predicted better with it than without it, left out itself: a fault is alone, what a
device does shows at the neighbours, too.

Shape letters: w workload, p measured point, k knob.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["POWER", "TIME", "breaking", "broken", "noise_allowed"]

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

TIME, POWER = 0, 1
_STEEPEST = (
    {"core_hz": 1.1, "memory_hz": 1.6, "cpu_hz": 1.15, "power_limit_w": 1.6},  # of time, falling
    {"core_hz": 1.2, "memory_hz": 1.4, "cpu_hz": 1.6, "power_limit_w": 1.0},  # of power, rising
)
_TYPICAL = (  # slopes, least and most, that most pairs of settings keep: they tell whom to blame
    {"core_hz": (0.15, 1.0), "memory_hz": (0.1, 1.2), "cpu_hz": (0.1, 1.0), "power_limit_w": (0.0, 0.7)},
    {"core_hz": (0.35, 1.1), "memory_hz": (0.1, 0.8), "cpu_hz": (0.2, 1.1), "power_limit_w": (0.2, 0.9)},
)
_ROOM = (0.12, 0.1)  # beyond the slopes: low clocks may not run as named, power may step where the voltage does
_NOISE, _NOISE_OF_MANY = 0.2, 0.5  # of a logarithm: one knob, measured with care; several knobs at once
_UPWARDS = 1.05  # how much more readily the higher of two is blamed
_LOUDER = (1.0, 1.75, 3.0, 6.0)  # times the noise, tried in turn
_MOST = 0.4  # share of a workload's settings that may be left out
_FEWEST_SIBLINGS, _SIBLING_SPREAD, _SIBLING_NOISE = 4, 6.0, 0.55
_MOST_PAIRS = 4_000_000
_MOST_ASKED, _ALIKE = 16, 0.5  # siblings asked; of what a workload breaks a bound by, what they must at least
_ENOUGH, _EXPLAINED = 8, 0.05  # settings from which they tell on one another; of errors, what keeping must take away
_TOGETHER = 128  # settings of a workload that are judged at once; of more, every so-manieth


def noise_allowed(num_knobs: int) -> float:
    """Return how much of a logarithm passes for noise."""
    return _NOISE if num_knobs <= 1 else _NOISE_OF_MANY


def broken(values: Floats, points: Floats, knobs: tuple[str, ...], output: int) -> Floats:
    """By how much logarithms [p] of one workload at points [p, k] are too high beside each other: [p, p], row over
    column; 0 where a pair is possible.
    """
    up = _up(points, [_STEEPEST[output][name] for name in knobs], output)
    found: Floats = np.maximum(values[:, None] - values[None, :] - up - _ROOM[output] * (up > 0), 0.0)
    return found


def _strain(values: Floats, points: Floats, knobs: tuple[str, ...], output: int) -> Floats:
    """By how much logarithms [p] are too high beside each other for what is typical, [p, p]."""
    least, most = (_up(points, [_TYPICAL[output][name][end] for name in knobs], output) for end in (0, 1))
    found: Floats = np.maximum(values[:, None] - values[None, :] - most + least.T, 0.0)
    return found


def _up(points: Floats, slopes: list[float], output: int) -> Floats:
    """By how much each point lies above each other one where the values follow each knob with its slope, [p, p]."""
    place = np.log(points)
    rise = place[:, None, :] - place[None, :, :]
    found: Floats = np.maximum(rise if output == POWER else -rise, 0.0) @ np.array(slopes)
    return found


def breaking(
    values: Floats, points: Floats, knobs: tuple[str, ...], output: int, kinds: Sequence[str] = ()
) -> list[Indices]:
    """Return the points [n] of each workload whose logarithms [w, p] break what the others allow (NaN: not measured).

    kinds [w]: workloads of one kind (one power rail, one phase) may share what the rest do not show. None for a
    workload of which more than two in five would have to go: then nothing tells which are right.
    """
    beside = _beside_siblings(values, kinds) if output == POWER else None  # times differ as work does
    found = []
    for at, row in enumerate(values):
        others = _siblings(at, len(values), kinds)
        known = np.flatnonzero(~np.isnan(row))
        left_out = [np.zeros(0, dtype=np.int64)]
        parts = max(1, -(-len(known) // _TOGETHER))
        for some in (known[start::parts] for start in range(parts)):
            also = None if beside is None else beside[at][np.ix_(some, some)]
            asked = [values[np.ix_(group, some)] for group in others]
            left_out.append(some[_of_one(row[some], points[some], knobs, output, (also, asked))])
        found.append(np.sort(np.concatenate(left_out)))
    return found


def _siblings(at: int, count: int, kinds: Sequence[str]) -> list[Indices]:
    """Return the other workloads, and those of the same kind; of many, some."""
    others = np.setdiff1d(np.arange(count), [at])
    alike = np.array([other for other in others.tolist() if kinds and kinds[other] == kinds[at]], dtype=np.int64)
    return [group[:: -(-len(group) // _MOST_ASKED)] for group in (others, alike) if len(group)]


def _of_one(
    row: Floats,
    points: Floats,
    knobs: tuple[str, ...],
    output: int,
    siblings: tuple[Floats | None, list[Floats]],
) -> Indices:
    """Return what to leave out of one workload [p], given its pairs beside siblings, and those by groups [v, p]."""
    excess, noise = broken(row, points, knobs, output), noise_allowed(len(knobs))
    also, groups = siblings
    if excess.size and excess.max() > noise:
        for group in groups:
            excess = np.where(_shared(excess, group, points, knobs, output), 0.0, excess)
    strain = _strain(row, points, knobs, output)
    found = _explained(excess, also, strain, noise)
    return found[:0] if _better_kept(row, points, knobs, output, found) else found


def _shared(excess: Floats, group: Floats, points: Floats, knobs: tuple[str, ...], output: int) -> NDArray[np.bool_]:
    """Which pairs [p, p] most siblings [v, p] that were measured at both break about as much."""
    known, same = np.zeros(excess.shape), np.zeros(excess.shape)
    for values in group:
        theirs = broken(values, points, knobs, output)
        known += ~np.isnan(theirs)
        same += (theirs > 0) & (theirs > _ALIKE * excess)
    found: NDArray[np.bool_] = 2 * same > known
    return found


def _better_kept(row: Floats, points: Floats, knobs: tuple[str, ...], output: int, found: Indices) -> bool:
    """Whether all settings [p], each left out in turn, are predicted better with those found than without them."""
    if not len(found) or len(row) < _ENOUGH:
        return False
    place = np.log(points)
    slopes = np.array([np.mean(_TYPICAL[output][name]) for name in knobs])
    level = row - (place @ slopes if output == POWER else -place @ slopes)
    away = ((place[:, None] - place[None]) ** 2).sum(axis=-1)
    weight = 1.0 / np.maximum(away, 1e-8) ** 2
    np.fill_diagonal(weight, 0.0)
    without = weight.copy()
    without[:, found] = 0.0
    kept, left_out = (np.abs(each @ level / each.sum(axis=1) - level) for each in (weight, without))
    return bool((left_out - kept).sum() > _EXPLAINED * left_out[found].sum())


def _explained(excess: Floats, also: Floats | None, strain: Floats, noise: float) -> Indices:
    """Return what to leave out [n] so that nothing is broken by more than noise; by more than more noise, where else
    too much would have to go.
    """
    for louder in _LOUDER:
        loud = np.where(excess > louder * noise, excess, 0.0)
        found = _greedy(loud if also is None else loud + also, strain if also is None else strain + also)
        if found is not None:
            return found
    return np.zeros(0, dtype=np.int64)


def _greedy(excess: Floats, strain: Floats) -> Indices | None:
    """Return what to leave out [n] so that nothing is broken any more; None where that is too much."""
    left_out: list[int] = []
    excess, strain = excess.copy(), strain.copy()
    while len(excess) and excess.max() > 0:
        blame = _UPWARDS * strain.sum(axis=1) + strain.sum(axis=0)
        broke = (excess > 0).any(axis=1) | (excess > 0).any(axis=0)
        worst = int(np.argmax(np.where(broke, blame, -1.0)))
        left_out.append(worst)
        for matrix in (excess, strain):
            matrix[worst], matrix[:, worst] = 0.0, 0.0
        if len(left_out) > _MOST * len(excess) or len(excess) < 3:
            return None
    return np.array(sorted(left_out), dtype=np.int64)


def _beside_siblings(values: Floats, kinds: Sequence[str]) -> Floats | None:
    """By how much each workload's pairs of settings differ from those of most others, [w, p, p]; 0 within reason,
    and where most of one kind differ alike.

    None where there are too few others, or too many pairs.
    """
    num_workloads, num_points = values.shape
    if num_workloads < _FEWEST_SIBLINGS or num_workloads * num_points**2 > _MOST_PAIRS:
        return None
    pairs = values[:, :, None] - values[:, None, :]
    known = (~np.isnan(pairs)).sum(axis=0) >= _FEWEST_SIBLINGS
    filled = np.where(known, pairs, 0.0)
    centre = np.nanmedian(filled, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(filled - centre), axis=0)
    off = np.nan_to_num(filled - centre)
    found: Floats = np.where(off > np.maximum(_SIBLING_SPREAD * spread, _SIBLING_NOISE), off, 0.0)
    for at in np.flatnonzero(found.any(axis=(1, 2))).tolist():
        alike = [other for other, kind in enumerate(kinds) if kind == kinds[at] and other != at]
        if alike:
            same = (off[alike] > _ALIKE * found[at]).sum(axis=0)
            found[at] = np.where(2 * same > (~np.isnan(pairs[alike])).sum(axis=0), 0.0, found[at])
    return found
