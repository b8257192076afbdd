"""Candidates for a cheaper network → which are worth having: measured side by side with the reference, on this device.

A candidate is kept when it is faster than the reference beyond doubt (the whole interval of the speed-up lies above 1)
and loses no more accuracy than allowed beyond doubt (the whole interval of the loss lies within the allowance).
Everything else is refused with its numbers, also a candidate that the runtime cannot run at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import FloatArray
from amble.core.processor import Saturations
from amble.core.report import Estimate
from amble.core.variants import Metric, Quality, Variant, Verdict

__all__ = ["Bench", "Candidate", "Tried", "measured", "reference_of", "tried"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cheaper network that can be made: ``make`` writes its file, or refuses; ``count`` counts what saturates."""

    name: str
    precision: str
    about: str
    make: Callable[[Path], None]
    float_nodes: tuple[str, ...] = ()
    count: Callable[[Path], Saturations | None] = lambda path: None


class Bench(Protocol):
    """What a job hands in: how networks are read, answer and are timed on a device."""

    @property
    def metric(self) -> Metric:
        """Return what the qualities count."""
        ...

    def load(self, path: Path) -> Graph:
        """Read a network; Refused when the runtime cannot run it."""
        ...

    def quality(self, graph: Graph) -> Quality:
        """Answer all examples, and compare with the reference's answers."""
        ...

    def times_s(self, graphs: Sequence[Graph]) -> FloatArray:
        """Time networks side by side [round, graph]."""
        ...

    def median(self, ratios: FloatArray) -> Estimate:
        """Return the median of ratios [round] with its interval."""
        ...


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate that runs: its network, and how well it answers."""

    candidate: Candidate
    path: Path
    graph: Graph
    quality: Quality
    saturations: Saturations | None = None


def tried(candidate: Candidate, folder: Path, bench: Bench) -> Tried | Variant:
    """Make a candidate and let it answer; a refused variant where it cannot be made or run."""
    path = folder / f"{candidate.name}.onnx"
    try:
        candidate.make(path)
        graph = bench.load(path)
        return Tried(candidate, path, graph, bench.quality(graph), candidate.count(path))
    except Refused as error:
        path.unlink(missing_ok=True)
        return _variant(candidate, "refused", f"does not run here: {error}")


def measured(reference: Graph, found: Sequence[Tried], bench: Bench, allowed_points: float) -> list[Variant]:
    """Time the reference and what runs side by side → the reference's variant and a verdict on each of the others.

    The files of those refused are removed.
    """
    times_s = bench.times_s([reference, *(each.graph for each in found)])
    ratios = times_s[:, [0]] / times_s
    verdicts = []
    for column, each in enumerate(found, start=1):
        speedup = bench.median(np.asarray(ratios[:, column]))
        refusal = _refusal(speedup, each.quality, bench.metric, allowed_points)
        if refusal:
            each.path.unlink(missing_ok=True)
        reason = refusal or _praise(speedup, each.quality)
        made = _variant(each.candidate, "refused" if refusal else "kept", reason)
        verdicts.append(
            replace(
                made,
                file="" if refusal else each.path.name,
                latency_s=float(np.median(times_s[:, column])),
                speedup=speedup,
                quality=each.quality.share,
                loss=each.quality.loss,
                saturations=each.saturations,
            )
        )
    return [replace(reference_of(reference), latency_s=float(np.median(times_s[:, 0]))), *verdicts]


def reference_of(graph: Graph) -> Variant:
    """Return the variant that stands for the network as it was given."""
    about = "the network as given"
    return Variant(graph.precision, graph.precision, about, "reference", "others are compared with it", graph.source)


def _variant(candidate: Candidate, verdict: Verdict, reason: str) -> Variant:
    return Variant(
        candidate.name, candidate.precision, candidate.about, verdict, reason, float_nodes=candidate.float_nodes
    )


def _refusal(speedup: Estimate, quality: Quality, metric: Metric, allowed_points: float) -> str:
    """Return why a candidate is refused, with its numbers; nothing when it is not."""
    reasons = []
    if speedup.value <= 1.0:
        reasons.append(f"is not faster: {_times(speedup)} as fast")
    elif (speedup.low or 0.0) <= 1.0:
        reasons.append(f"is not faster beyond doubt: {_times(speedup)} as fast")
    if quality.loss.value > allowed_points:
        reasons.append(f"loses {_points(quality.loss)} of {metric}, {allowed_points:.3g} allowed")
    elif (quality.loss.high or 100.0) > allowed_points:
        reasons.append(
            f"loses {_points(quality.loss)} of {metric}: {quality.share.out_of} examples do not show that it is "
            f"within {allowed_points:.3g}; give more"
        )
    return " and ".join(reasons)


def _praise(speedup: Estimate, quality: Quality) -> str:
    return f"{_times(speedup)} as fast, loses {_points(quality.loss)}"


def _times(speedup: Estimate) -> str:
    return f"{speedup.value:.2f} ({_end(speedup.low)} to {_end(speedup.high)}) times"


def _points(loss: Estimate) -> str:
    return f"{_end(loss.value)} ({_end(loss.low)} to {_end(loss.high)}) points"


def _end(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}".replace("-", "−")
