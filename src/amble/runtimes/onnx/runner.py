"""An ONNX file → a Graph; a Graph and inputs → outputs, computed and timed by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import FloatArray, Meter, Tensors, Timing, Timings
from amble.runtimes.onnx.dissecting import dissected
from amble.runtimes.onnx.execution import Execution, now_s_of, pinned, whose_time
from amble.runtimes.onnx.feeds import made_up, vocabularies
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.providers import CPU
from amble.runtimes.onnx.reading import read
from amble.runtimes.onnx.sessions import Sessions
from amble.runtimes.onnx.timing import Runs, corrected, interleave, interrupted, typical
from amble.runtimes.onnx.trace import kernels
from amble.runtimes.values import call

__all__ = ["OnnxRunner", "Sessions", "compute", "example_inputs", "load"]

_WARM_UP = 3
_MOST_KERNELS = 40_000
"""Kernels in one profile; ONNX Runtime writes about a kilobyte for each."""


def load(
    path: Path | str,
    *,
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    execution: Execution | None = None,
) -> Graph:
    """Read an ONNX file → its operators as ONNX Runtime executes them here, or gives them to another provider.

    ``batch`` binds the open batch axes; every other open axis of an input must be in ``shapes`` (input name → shape,
    which may also replace fixed axes). Runs the network once. Refused when the file is missing or no ONNX model, is
    older than opset 7, leaves an axis open, or holds an operator that ONNX Runtime cannot run.
    """
    return Network.open(Path(path), batch, dict(shapes or {}), execution).graph


def example_inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Draw inputs of the right shapes and types; whole numbers stay within the vocabulary that they look up."""
    whole = any("int" in port.dtype for port in graph.inputs)
    vocabulary = vocabularies(read(Path(graph.source))[0].graph) if whole and graph.source else {}
    return made_up(graph.inputs, vocabulary, seed, of=graph.source or graph.name)


def compute(graph: Graph, point: OperatingPoint, inputs: Tensors, sessions: Sessions | None = None) -> Tensors:
    """Compute the outputs of a whole network; nothing without inputs.

    ``sessions`` keeps the network open for the next call. ValueError for a segment, or inputs that do not fit.
    """
    if graph.offset or not graph.ends:
        raise ValueError(f"operators from {graph.offset} of {graph.name} are a segment; outputs need the whole network")
    if not inputs:
        return {}
    _check_precision(graph, point)
    return (sessions or Sessions()).part(graph).run(inputs)


class OnnxRunner:
    """Runs and times graphs by one execution provider, on one thread of this machine's CPU unless told otherwise.

    ``meter`` counts energy where there is one; ``clocks`` reads back the clocks that run. With one thread, times are
    the thread's own CPU time, which other load on the machine does not lengthen; ``ratios`` are wall time over it.
    """

    def __init__(
        self, execution: Execution | None = None, *, meter: Meter | None = None, clocks: Callable[[], Clocks] = Clocks
    ) -> None:
        self.sessions = Sessions(execution)
        self._meter = meter
        self._clocks = clocks

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a graph or one segment of it → its outputs, or what later segments take; without inputs, nothing."""
        _check_precision(graph, point)
        part = self.sessions.part(graph)
        results = part.run(inputs or self.sessions.feed(graph))
        return results if inputs else {}

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time each operator of a whole graph, in ``repeats`` unobserved runs and as many observed ones.

        Only ONNX Runtime's own CPU kernels are told by its profiler; other providers' times come from segments.
        """
        if graph.offset or not graph.ends:
            raise ValueError(f"operators from {graph.offset} of {graph.name} are a segment; profile the whole network")
        if repeats < 1:
            raise ValueError(f"at least one repeat, not {repeats}")
        _check_precision(graph, point)
        if self.sessions.execution.provider is not CPU:
            return dissected(self.sessions, graph, repeats, meter=self._meter, clocks=self._clocks)
        num_observed = min(repeats, max(2 * _WARM_UP, _MOST_KERNELS // len(graph.operators)))
        runs, seen = self._observe(graph, repeats, num_observed)
        notes = (whose_time(self.sessions.execution), *interrupted(runs, seen.durations_s))
        return replace(_timings(runs, seen, self._clocks()), notes=notes)

    def _observe(self, graph: Graph, repeats: int, num_observed: int) -> tuple[Runs, _Observed]:
        """Run with and without ONNX Runtime's profiler."""
        network = self.sessions.network(graph)
        feed = dict(network.feed)
        execution = self.sessions.execution
        observed = execution.open(network.path, fused=True, profile=network.folder / "profile")
        plain = self.sessions.part(graph).session
        run_plain, run_observed = call(plain, feed), call(observed, feed)
        with pinned(execution.cpus):
            for run in (run_plain, run_observed) * _WARM_UP:
                run()
            runs = interleave(
                run_plain,
                run_observed,
                repeats=repeats,
                num_observed=num_observed,
                now_s=now_s_of(execution),
                meter=self._meter,
            )
        return runs, _observed(Path(observed.end_profiling()), graph)


@dataclass(frozen=True, slots=True)
class _Observed:
    """What the profiler saw: durations_s [operator, run], without the first runs; the usual gap between nodes [s]."""

    durations_s: FloatArray
    between_s: float


def _observed(path: Path, graph: Graph) -> _Observed:
    """Read a profile, and drop it."""
    names = {operator.name: row for row, operator in enumerate(graph.operators)}
    found = [kernel for kernel in kernels(path) if kernel.node in names]
    path.unlink()
    durations_s: list[list[float]] = [[] for _ in names]
    for kernel in found:
        durations_s[names[kernel.node]].append(kernel.duration_s)
    count = len(names)
    gaps_s = [
        after.start_s - before.start_s - before.duration_s
        for index, (before, after) in enumerate(pairwise(found))
        if (index + 1) % count
    ]
    return _Observed(np.array(durations_s)[:, _WARM_UP:], float(np.median(gaps_s)) if gaps_s else 0.0)


def _timings(runs: Runs, seen: _Observed, ran_at: Clocks) -> Timings:
    plain_s, observed_s = float(typical(runs.plain_s)), float(typical(runs.observed_s))
    times_s = corrected(
        typical(seen.durations_s),
        plain_s,
        most_inside_s=(observed_s - plain_s) / len(seen.durations_s),
        most_between_s=seen.between_s,
    )
    whole_s = float(np.median(runs.plain_s))
    spreads_s = _spread(seen.durations_s)
    operators = tuple(
        Timing(share * whole_s, float(spread_s), None if runs.energy_j is None else share * runs.energy_j)
        for share, spread_s in zip((times_s / plain_s).tolist(), spreads_s, strict=True)
    )
    return Timings(
        operators=operators,
        whole=Timing(whole_s, float(_spread(runs.plain_s)), runs.energy_j),
        ran_at=ran_at,
        repeats=len(runs.plain_s),
        overhead_ratio=observed_s / plain_s - 1.0,
        ratios=tuple(float(wall_s) / whole_s for wall_s in runs.wall_s),
    )


def _spread(durations_s: FloatArray) -> FloatArray:
    """Return the distance between the 10th and the 90th percentile. durations_s: [..., run]."""
    low, high = np.quantile(durations_s, (0.1, 0.9), axis=-1)
    return np.asarray(high - low, dtype=np.float64)


def _check_precision(graph: Graph, point: OperatingPoint) -> None:
    if point.precision != graph.precision:
        raise Refused(
            f"{graph.name} is {graph.precision} and cannot run at {point.precision} here; "
            f"plan with {graph.precision}, or load a model made in {point.precision}"
        )
