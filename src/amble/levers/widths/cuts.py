"""Widths chosen by staircases → networks really cut to them and measured whole, before anything is trained.

What a cut network takes or needs is its own, not the sum of its layers: a width may cost conversions between layers, or
a slower kernel. So the target is corrected by what was found, and a network that is not faster, or misses the budget by
more than a tenth, is not trained at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from amble.core.errors import Infeasible
from amble.core.graph import Graph
from amble.core.quantity import format_energy, format_time
from amble.core.report import Estimate
from amble.levers.widths import choosing
from amble.levers.widths.choosing import Chosen, Knapsack, Resource
from amble.levers.widths.judging import with_ends
from amble.levers.widths.staircases import STATISTICS, Work

__all__ = ["Cut", "Cutter", "slower"]

OVER = 1.01
"""Of the budget: above it, it is missed."""

_UNDER = 0.97  # of the budget, where a measured time is as wanted
_TRIES = 4
_HOPELESS = 1.1  # of the budget: training would not help
_SLOWER, _LEAST_S = 1.05, 1e-6  # by which an operator takes longer
_MOST_TOLD = 3


@dataclass(frozen=True, slots=True)
class Cut:
    """Widths that were chosen, cut and measured: the file, seconds before and after in the same rounds.

    ``ratio`` is the time after over that before, round by round; ``corrected`` the target that the widths were chosen
    for over the budget. Energies [J] are those of whole runs, None without a meter.
    """

    chosen: Chosen
    file: Path
    before_s: float
    after_s: float
    ratio: Estimate
    before_j: float | None = None
    after_j: float | None = None
    corrected: float = 1.0


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts and measures for a ``budget`` [s, or J]."""

    work: Work
    resource: Resource
    budget: float

    def plan(self, knapsack: Knapsack, folder: Path) -> Cut:
        """Choose widths; measure the network cut to them; correct the target by what was found, and choose again."""
        target, tried = self.budget, list[Cut]()
        for number in range(_TRIES):
            self.work.on_progress("cutting and measuring", number, _TRIES)
            try:
                chosen = choosing.choose(knapsack, target, resource=self.resource)
            except Infeasible:
                if not tried:
                    raise
                break
            path = folder / f"cut-{number}.onnx"
            self.work.narrower.write(chosen.widths, path)
            tried.append(replace(self.measured(chosen, path), corrected=target / self.budget))
            share = self.share(tried[-1])
            if _UNDER <= share <= OVER or chosen.widths == self.work.network.today:
                break
            target *= 1.0 / share
        return min(tried, key=lambda each: (max(self.share(each), OVER), each.chosen.lost))

    def measured(self, chosen: Chosen, path: Path) -> Cut:
        """Time a network that was cut beside the one it was cut from, and read the meter where there is one."""
        cut = self.work.load(path)
        times_s = self.work.times_s([self.work.graph, cut])
        before_s, after_s = (float(each) for each in np.median(times_s, axis=0))
        before_j = self.work.profile(self.work.graph).whole.energy_j
        after_j = None if before_j is None else self.work.profile(cut).whole.energy_j
        return Cut(chosen, path, before_s, after_s, STATISTICS.median(times_s[:, 1] / times_s[:, 0]), before_j, after_j)

    def share(self, cut: Cut) -> float:
        """Return what was measured over the budget."""
        if self.resource == "latency":
            return cut.after_s / self.budget
        return (cut.chosen.cost if cut.after_j is None else cut.after_j) / self.budget

    def hopeless(self, cut: Cut) -> str:
        """Say why a network is not worth training, as it was measured; nothing where it is."""
        if cut.ratio.high is None or cut.ratio.high >= 1.0:
            why = f"is not faster, as far as can be told: takes {with_ends(cut.ratio)} of the time before"
        elif self.share(cut) > _HOPELESS:
            say = format_time if self.resource == "latency" else format_energy
            why = f"takes {say(self.share(cut) * self.budget)}, {say(self.budget)} was asked"
        else:
            return ""
        told = "; ".join(slower(self.work, cut.file))
        return f"{why}; not trained" + (f"; slower than before: {told}" if told else "")


def slower(work: Work, cut: Path) -> Iterator[str]:
    """Say which operators take longer than before, those first that cost most; conversions are told by their kind."""
    graph = work.load(cut)
    known = {_plain(each.name) for each in work.graph.operators} & {_plain(each.name) for each in graph.operators}
    before, after = (_times_s(work, each, known) for each in (work.graph, graph))
    more = {key: time_s - before.get(key, 0.0) for key, time_s in after.items()}
    longer = [key for key in after if after[key] > _SLOWER * before.get(key, 0.0) + _LEAST_S]
    for key in sorted(longer, key=more.__getitem__, reverse=True)[:_MOST_TOLD]:
        was = f"{format_time(before[key])} before" if key in before else "none before"
        yield f"{key} {format_time(after[key])}, {was}"


def _times_s(work: Work, graph: Graph, known: set[str]) -> dict[str, float]:
    """Time operators, by their names where both networks have them, else by their kinds [s]."""
    found: dict[str, float] = {}
    for operator, timing in zip(graph.operators, work.profile(graph).operators, strict=True):
        name = _plain(operator.name)
        key = name if name in known else operator.kind
        found[key] = found.get(key, 0.0) + timing.latency_s
    return found


def _plain(name: str) -> str:
    """Return a name without what the runtime adds where it lays channels out in blocks."""
    return name.removesuffix("_nchwc")
