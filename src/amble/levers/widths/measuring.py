"""Layer shapes, a probe → StaircaseTable: how long each layer takes at which width, and where its stairs end.

Coarse to fine. Each axis (outputs, inputs) starts as a coarse line through today's widths. Where neighbours differ by
more than the noise, the gap between them is halved until the step is located to one channel. Edges that are all
multiples of one block predict the others, and some of those are looked for, so that a block is never believed on its
own word. At last a small grid tells how the two axes go together. Points are timed in rounds of random order; a point
is the median over the rounds, and its deviation says what can be told apart: no step is called one that the noise could
have made. Where rounds are alike because the clock is coarse, what runs differ by inside a round stands for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, sqrt

import numpy as np

from amble.core.errors import Refused
from amble.core.layers import Probe, Shape
from amble.core.ports import Timing
from amble.core.subject import Where
from amble.levers.widths.staircase import Axis, Point, Staircase, StaircaseTable, Stairs

__all__ = ["Effort", "empty", "staircases"]

OnProgress = Callable[[str, int, int], None]

_MOST_NOISE = 0.05
_USUAL_ROUNDS = 5
_LEAST_STEP = 0.01
_TOGETHER = 4  # gaps halved at once
_SPREAD_TO_MAD = 0.6745 / 2.563  # 10th to 90th percentile → median absolute deviation, of a normal distribution


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: ``rounds`` of ``runs`` for every point, and points on each axis.

    A round of a short layer has more runs, until it lasts ``round_s`` or they are ``most_runs``: clocks have ticks, and
    rounds that are alike for that reason would hide the noise. ``coarse`` gaps to begin with, at most ``fine`` points
    between them, ``checks`` edges looked for, ``grid`` widths of each axis away from today's.
    """

    rounds: int = 5
    runs: int = 8
    most_runs: int = 64
    round_s: float = 2e-3
    coarse: int = 8
    fine: int = 24
    checks: int = 3
    grid: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that a median and a deviation can come of it."""
        if self.rounds < 3 or self.runs < 1 or self.coarse < 1:
            raise ValueError("at least three rounds of one run, and one gap to begin with")

    @property
    def doubt(self) -> float:
        """Return how uncertain a median over the rounds is against one over five: with the root of their number."""
        return sqrt(_USUAL_ROUNDS / self.rounds)


def empty(probe: Probe, where: Where, *, dtype: str = "fp32", batch: int = 1, between: int = 0) -> StaircaseTable:
    """Return a table with nothing in it: what the probe measures on, and how."""
    return StaircaseTable(where, probe.library, dtype, batch, between)


def staircases(
    shapes: Sequence[Shape],
    probe: Probe,
    so_far: StaircaseTable,
    *,
    effort: Effort = Effort(),
    on_progress: OnProgress = lambda what, done, total: None,
    on_found: Callable[[StaircaseTable], None] = lambda table: None,
) -> StaircaseTable:
    """Measure the distinct shapes that the table does not know yet; each one found is handed on at once.

    Refused where the noise of the device hides the stairs: when what layers take varies by more than 5 % from round to
    round, on the average over their times; by more where there are more than five rounds. What is as noisy alone is
    not handed on then, so that it is measured again.
    """
    table = so_far
    missing = [each for each in dict.fromkeys(shapes) if not table.knows(each)]
    for done, shape in enumerate(missing):
        on_progress(str(shape), done, len(missing))
        begin_s = time.perf_counter()
        table = table.adding([_Search(shape, probe, effort).run()], time.perf_counter() - begin_s)
        on_found(table)
    on_progress("all shapes", len(missing), len(missing))
    noise = _noise(table.staircases)
    if noise * effort.doubt > _MOST_NOISE:
        on_found(replace(table, staircases=tuple(e for e in table.staircases if _noise([e]) <= _MOST_NOISE)))
        raise Refused(
            f"times of layers on {table.where.device} vary by {noise:.0%} from round to round, which hides their "
            f"stairs: stop other work there, or ask for more than {effort.rounds} rounds (--repeats)"
        )
    return table


def _noise(found: Sequence[Staircase]) -> float:
    """Return by how much times vary from round to round, on the average over them."""
    points = [each for staircase in found for each in staircase.points]
    return sum(each.mad_s for each in points) / max(sum(each.latency_s for each in points), 1e-12)


class _Search:
    """The search for one shape's stairs: all points so far, by (inputs, outputs)."""

    def __init__(self, shape: Shape, probe: Probe, effort: Effort) -> None:
        self._shape = shape
        self._probe = probe
        self._effort = effort
        self._rng = np.random.default_rng(effort.seed)
        self._points: dict[tuple[int, int], Point] = {}
        self._whole = (shape.inputs, shape.outputs)
        self._repeats: list[float] = []  # times of the whole layer over the median of their batch

    def run(self) -> Staircase:
        """Measure along both axes, then between them."""
        self._time([self._whole])
        stairs = {axis: self._axis(axis) for axis in self._axes()}
        found = Staircase(self._shape, (), stairs.get("outputs", Stairs()), stairs.get("inputs", Stairs()))
        self._time(self._grid(found))
        self._note_repeats()
        return replace(found, points=tuple(point for _, point in sorted(self._points.items())))

    def _axes(self) -> list[Axis]:
        if self._shape.kind == "depthwise":
            return ["outputs"]
        axes: list[tuple[Axis, bool]] = [("outputs", self._shape.vary_outputs), ("inputs", self._shape.vary_inputs)]
        return [axis for axis, varies in axes if varies]

    def _axis(self, axis: Axis) -> Stairs:
        """Find the stairs along one axis."""
        self._measure(axis, _coarse(self._most(axis), self._effort.coarse, self._step(axis)))
        self._halve(axis, self._effort.fine // _TOGETHER)
        block = 1
        while (narrower := _block(self._rises(axis), self._most(axis))) not in (1, block):
            block = narrower
            self._look_inside(axis, block)
        return self._checked(axis, self._edges(axis), narrower)

    def _halve(self, axis: Axis, times: int, within: tuple[int, int] | None = None) -> None:
        """Halve the gaps that hide a step, a few at once."""
        low, high = within or (0, self._most(axis))
        for _ in range(times):
            gaps = [gap for gap in self._gaps(axis) if low <= gap[0] and gap[1] <= high][:_TOGETHER]
            if not gaps:
                return
            self._measure(axis, [self._between(axis, *gap) for gap in gaps])

    def _look_inside(self, axis: Axis, block: int) -> None:
        """Look for steps inside one stair: a block may hold several narrower ones."""
        low = max(0, (self._most(axis) - 1) // block - 1) * block
        inside = (low + self._step(axis), low + block)
        self._measure(axis, inside)
        self._halve(axis, block.bit_length(), inside)

    def _checked(self, axis: Axis, edges: tuple[int, ...], block: int) -> Stairs:
        """Look for edges that a block predicts; a block that predicts wrong is none."""
        if block == 1:
            return Stairs(edges)
        most = self._most(axis)
        others = [each for each in range(block, most, block) if each not in edges]
        chosen = _spread(others, self._effort.checks)
        self._measure(axis, [width for each in chosen for width in (each, each + self._step(axis))])
        found = self._edges(axis)
        held = sum(each in found for each in chosen)
        if 3 * held < 2 * len(chosen):
            return Stairs(found, 1, len(chosen), held)
        every = tuple(sorted({*edges, *range(block, most + 1, block), most}))
        return Stairs(every, block, len(chosen), held)

    def _gaps(self, axis: Axis) -> list[tuple[int, int]]:
        """Return the gaps that hide a step, the narrowest first, so that edges get found one by one."""
        found = [(a, b) for a, b, rise_s in self._steps(axis) if b - a > self._step(axis) and rise_s > 0]
        return sorted(found, key=lambda gap: (gap[1] - gap[0], -gap[1]))

    def _between(self, axis: Axis, low: int, high: int) -> int:
        step = self._step(axis)
        return low + max(1, (high - low) // (2 * step)) * step

    def _edges(self, axis: Axis) -> tuple[int, ...]:
        """Return the widths after which one channel more costs more, and today's width."""
        return (*self._rises(axis), self._most(axis))

    def _rises(self, axis: Axis) -> dict[int, float]:
        """Return what one channel more costs after each edge [s]."""
        return {a: rise_s for a, b, rise_s in self._steps(axis) if b - a == self._step(axis) and rise_s > 0}

    def _steps(self, axis: Axis) -> list[tuple[int, int, float]]:
        """Return neighbouring widths, and what the wider one costs more whatever is done: 0 where noise may be all.

        A width that is slower than a wider one (a kernel may dislike what is no multiple of its vectors) counts as
        that one: the channels could be filled up.
        """
        line = self._line(axis)
        points = [self._at(axis, width) for width in line]
        least_s = np.minimum.accumulate([each.latency_s for each in reversed(points)])[::-1].tolist()
        pairs = zip(pairwise(line), pairwise(least_s), pairwise(points), strict=True)
        return [
            (a, b, after - before if after - before > self._least_step(p, q) else 0.0)
            for (a, b), (before, after), (p, q) in pairs
        ]

    def _least_step(self, a: Point, b: Point) -> float:
        """Return what two times must differ by: three deviations of these points or of all, and 1 %."""
        usual = float(np.median([each.mad_s / each.latency_s for each in self._points.values()]))
        longest_s, deviations = max(a.latency_s, b.latency_s), 3.0 * self._effort.doubt
        return max(deviations * max(a.mad_s, b.mad_s, usual * longest_s), _LEAST_STEP * longest_s)

    def _line(self, axis: Axis) -> list[int]:
        shape = Staircase(self._shape, tuple(self._points.values()))
        return [width for width, _ in shape.line(axis)]

    def _at(self, axis: Axis, width: int) -> Point:
        return self._points[self._widths(axis, width)]

    def _widths(self, axis: Axis, width: int) -> tuple[int, int]:
        if self._shape.kind == "depthwise":
            return width * self._shape.inputs // self._shape.outputs, width
        return (self._shape.inputs, width) if axis == "outputs" else (width, self._shape.outputs)

    def _most(self, axis: Axis) -> int:
        return self._shape.outputs if axis == "outputs" else self._shape.inputs

    def _step(self, axis: Axis) -> int:
        """Return the finest step: grouped convolutions go by whole groups, depth-wise ones by what an input becomes."""
        if self._shape.kind == "depthwise":
            return self._shape.outputs // self._shape.inputs
        return self._shape.groups if self._most(axis) > self._shape.groups else 1

    def _grid(self, found: Staircase) -> list[tuple[int, int]]:
        if len(self._axes()) < 2:
            return []
        inputs = _inner(self._shape.inputs, found.inputs.block, self._step("inputs"), self._effort.grid)
        outputs = _inner(self._shape.outputs, found.outputs.block, self._step("outputs"), self._effort.grid)
        return [(i, o) for i in inputs for o in outputs]

    def _measure(self, axis: Axis, widths: Iterable[int]) -> None:
        self._time([self._widths(axis, width) for width in widths])

    def _time(self, wanted: Sequence[tuple[int, int]]) -> None:
        """Time points that are not known yet, all of them in each round, in random order.

        The whole layer is timed again beside them: what made it slower or faster than at first did so to all.
        """
        new = [each for each in dict.fromkeys(wanted) if each not in self._points]
        beside = [*new, self._whole] if self._points else new
        found: list[list[Timing]] = [[] for _ in beside]
        runs = self._runs()
        for _ in range(self._effort.rounds):
            for at in map(int, self._rng.permutation(len(beside))):
                found[at].append(self._probe.time(self._shape, *beside[at], runs))
        scale = 1.0
        if self._points:
            whole_s = [each.latency_s for each in found[-1]]
            scale = self._points[self._whole].latency_s / float(np.median(whole_s))
            self._repeats += [each / float(np.median(whole_s)) for each in whole_s]
        for widths, timings in zip(new, found, strict=False):
            self._points[widths] = _point(widths, timings, scale, runs)

    def _runs(self) -> int:
        """Return the runs of a round."""
        whole = self._points.get(self._whole)
        wanted = ceil(self._effort.round_s / whole.latency_s) if whole else 0
        return max(self._effort.runs, min(wanted, self._effort.most_runs))

    def _note_repeats(self) -> None:
        """Give the whole layer, which was timed beside all others, the deviation of all its repeats."""
        if self._repeats:
            whole = self._points[self._whole]
            spread = float(np.median(np.abs(np.array(self._repeats) - 1.0)))
            self._points[self._whole] = replace(whole, mad_s=max(whole.mad_s, spread * whole.latency_s))


def _point(widths: tuple[int, int], timings: Sequence[Timing], scale: float, runs: int) -> Point:
    """Return the median of the rounds; their deviation is not below what the spread of the runs inside them leaves."""
    times_s = scale * np.array([each.latency_s for each in timings])
    middle_s = float(np.median(times_s))
    deviation_s = float(np.median(abs(times_s - middle_s)))
    inside_s = float(np.median([each.spread_s for each in timings])) * _SPREAD_TO_MAD / runs**0.5
    known = [each.energy_j for each in timings if each.energy_j is not None]
    energy_j = float(np.median(known)) if len(known) == len(timings) else None
    return Point(*widths, middle_s, deviation_s or scale * inside_s, energy_j, runs * len(timings))


def _coarse(most: int, gaps: int, step: int) -> list[int]:
    """Return about evenly spaced widths up to ``most``, at multiples of a round number: where blocks would end."""
    size = max(step, 1 << max(0, round(np.log2(max(1.0, most / gaps)))))
    size = -(-size // step) * step
    return sorted({*range(size, most, size), most})


def _inner(most: int, block: int, step: int, count: int) -> list[int]:
    """Return widths between nothing and ``most``, spaced evenly, at the ends of stairs."""
    unit = int(np.lcm(block, step))
    shares = [most * (at + 0.5) / count for at in range(count)]
    return sorted({width for each in shares if 0 < (width := max(unit, round(each / unit) * unit)) < most})


def _spread(values: Sequence[int], count: int) -> list[int]:
    """Return a few values from all over a sequence."""
    if len(values) <= count:
        return list(values)
    return [values[int(at)] for at in np.linspace(0, len(values) - 1, count).round()]


def _block(rises: Mapping[int, float], most: int) -> int:
    """Return the widest block whose multiples explain two thirds of all that edges cost; 1 where none does.

    Two edges must be its multiples, or one that halves ``most``. What is narrower than a block may follow other rules.
    """
    for block in range(most // 2, 1, -1):
        inside = {edge: rise_s for edge, rise_s in rises.items() if edge >= block}
        fitting = {edge: rise_s for edge, rise_s in inside.items() if edge % block == 0}
        enough = len(fitting) >= 2 or (len(fitting) == 1 and 2 * block == most)
        if enough and sum(fitting.values()) >= 2.0 / 3.0 * sum(inside.values()):
            return block
    return 1
