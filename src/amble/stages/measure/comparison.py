"""A device, a reference and examples → how much faster and how much less accurate other networks are, there.

Reading networks and the intervals of shares and medians are handed in: they belong to other stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Device, FloatArray, Tensors
from amble.core.report import Estimate, Share
from amble.core.variants import Metric, Quality
from amble.stages.measure.accuracy import (
    ALIKE,
    Answers,
    Examples,
    ShareOf,
    answers,
    disagreement,
    lost,
    right,
    squared_error,
)
from amble.stages.measure.rounds import rounds

__all__ = ["Comparison", "Statistics"]

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts → a share with its interval; ratios [round] → their median with its interval."""

    share: ShareOf
    median: Callable[[FloatArray], Estimate]


@dataclass(slots=True)
class Comparison:
    """Compares networks with one reference, which answers the examples once.

    ``now_s`` is the time that counts: the thread's own on a shared machine, else the device's.
    """

    device: Device
    reference: Graph
    examples: Examples
    statistics: Statistics
    read: Callable[[Path], Graph]
    now_s: Callable[[], float]
    alike: float = ALIKE
    num_rounds: int = 15
    on_progress: OnProgress = lambda what, done, total: None
    _answers: Answers | None = field(default=None, init=False)

    @property
    def metric(self) -> Metric:
        """Return accuracy where there are labels, agreement where there are none."""
        return "agreement" if self.examples.labels is None else "accuracy"

    def load(self, path: Path) -> Graph:
        """Read a network."""
        return self.read(path)

    def answers(self, graph: Graph, examples: Examples) -> Answers:
        """Let a network answer."""
        told = partial(self.on_progress, f"asking {graph.name}")
        return answers(partial(self._run, graph), examples, batch=graph.batch, on_progress=told)

    def quality(self, graph: Graph) -> Quality:
        """Answer all examples and compare with the reference's answers."""
        if self._answers is None:
            self._answers = self.answers(self.reference, self.examples)
        answered = self._answers if graph is self.reference else self.answers(graph, self.examples)
        error = squared_error(answered, self._answers)
        found = right(answered, self._answers, self.examples, alike=self.alike)
        share = self.statistics.share(int(found.sum()), len(found))
        if self.metric == "agreement":
            return Quality(share, disagreement(found, self.statistics.share), error)
        theirs = right(self._answers, self._answers, self.examples)
        return Quality(share, lost(found, theirs, self.statistics.share), error)

    def times_s(self, graphs: Sequence[Graph]) -> FloatArray:
        """Time networks side by side, on an example [round, graph]."""
        batch = self.examples.batch(0, self.reference.batch)
        works = [partial(self._run, graph, batch) for graph in graphs]
        told = partial(self.on_progress, "timing")
        return rounds(works, self.now_s, num_rounds=self.num_rounds, on_progress=told)

    def median(self, ratios: FloatArray) -> Estimate:
        """Return the median of ratios [round] with its interval."""
        return self.statistics.median(ratios)

    def share(self, graph: Graph, examples: Examples, reference: Answers) -> Share:
        """Return the share of other examples that a network answers well."""
        found = right(self.answers(graph, examples), reference, examples, alike=self.alike)
        return self.statistics.share(int(found.sum()), len(found))

    def _run(self, graph: Graph, inputs: Tensors) -> Tensors:
        clocks = self.device.actuator.current()
        return self.device.runner.run(graph, OperatingPoint(clocks, graph.precision), inputs)
