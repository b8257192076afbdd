"""A graph and a provider → the times of its operators, from timing the network and segments of it, tensors in place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from amble.core.graph import Graph, Port
from amble.core.point import Clocks
from amble.core.ports import FloatArray, Meter, Tensors, Timing, Timings
from amble.runtimes.onnx.cutting import cut, extract
from amble.runtimes.onnx.execution import (
    Execution,
    Fallback,
    fallbacks,
    now_s_of,
    pinned,
    refuse_mostly_elsewhere,
    whose_time,
)
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.preparing import options, session
from amble.runtimes.onnx.refusals import refusing
from amble.runtimes.onnx.sessions import Sessions
from amble.runtimes.onnx.timing import typical
from amble.runtimes.onnx.trace import kernels
from amble.runtimes.segments import Solution, Span, solve, spans, works_s

__all__ = ["Bound", "WholeRuns", "apart", "bound", "dissected", "every_tensor", "settle", "timings"]

_BLOCK = 5
_SETTLED = 0.03
_MOST_WARM_UP = 60
_OBSERVED = 3
_SEGMENT_S = 0.03
_SEGMENT_RUNS = (7, 60)
_DRIFT = 0.05

_TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64, "bool": np.bool_} | {
    name: np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
}


@dataclass(frozen=True, slots=True)
class Bound:
    """A session whose inputs and outputs stay where the provider computes; ``run`` ends when the work has."""

    session: onnxruntime.InferenceSession
    binding: Any

    def run(self) -> None:
        """Run once."""
        self.session.run_with_iobinding(self.binding)
        self.binding.synchronize_outputs()


def bound(opened: onnxruntime.InferenceSession, feed: Tensors, ports: dict[str, Port], execution: Execution) -> Bound:
    """Put the inputs of a session, and room for its outputs of known shapes, where the provider computes."""
    place, index, binding = execution.provider.place, execution.index, opened.io_binding()
    for value in opened.get_inputs():
        given = np.ascontiguousarray(feed[value.name])
        binding.bind_ortvalue_input(value.name, onnxruntime.OrtValue.ortvalue_from_numpy(given, place, index))
    for value in opened.get_outputs():
        port = ports.get(value.name)
        if port is None or port.dtype not in _TYPES or not all(port.shape):
            binding.bind_output(value.name, place, index)
            continue
        room = onnxruntime.OrtValue.ortvalue_from_shape_and_type(port.shape, _TYPES[port.dtype], place, index)
        binding.bind_ortvalue_output(value.name, room)
    return Bound(opened, binding)


def settle(work: Callable[[], object], now_s: Callable[[], float]) -> float:
    """Run until the middle of five runs is that of the five before → it [s]; clocks, caches and compilers warm up."""
    before_s = float("inf")
    for _ in range(_MOST_WARM_UP // _BLOCK):
        middle_s = float(np.median([_timed_s(work, now_s) for _ in range(_BLOCK)]))
        if abs(middle_s / before_s - 1.0) <= _SETTLED:
            break
        before_s = middle_s
    return middle_s


def dissected(
    sessions: Sessions, graph: Graph, repeats: int, *, meter: Meter | None, clocks: Callable[[], Clocks]
) -> Timings:
    """Time a whole network and its segments by the sessions' provider.

    Refused where most of the time is not the provider's.
    """
    execution, network = sessions.execution, sessions.network(graph)
    with pinned(execution.cpus):
        whole = _Whole(_bound(network, (0, len(graph.operators)), dict(network.feed), execution), now_s_of(execution))
        elsewhere = _elsewhere(network, execution, settle(whole.bound.run, whole.now_s))
        refuse_mostly_elsewhere(graph.name, elsewhere, execution.provider)
        before = whole.runs(repeats, meter)
        ran_at = clocks()
        tensors = every_tensor(network)
        span_s = partial(_segment_s, network, execution=execution, tensors=tensors)
        solution = apart(network, before, tensors, span_s)
        after = whole.runs(max(_BLOCK, repeats // 4), None)
    notes = (whose_time(execution), *_told(elsewhere, execution), *solution.notes, *_drift(before, after))
    return timings(before, solution, ran_at, notes)


@dataclass(frozen=True, slots=True)
class WholeRuns:
    """Runs of the whole network: by the chosen clock and the wall [run] [s], and the mean energy of one."""

    busy_s: FloatArray
    wall_s: FloatArray
    energy_j: float | None


@dataclass(frozen=True, slots=True)
class _Whole:
    bound: Bound
    now_s: Callable[[], float]

    def runs(self, repeats: int, meter: Meter | None) -> WholeRuns:
        busy_s, wall_s = np.empty(repeats), np.empty(repeats)
        before = meter.read() if meter else None
        for index in range(repeats):
            begin_s = time.perf_counter()
            busy_s[index] = _timed_s(self.bound.run, self.now_s)
            wall_s[index] = time.perf_counter() - begin_s
        passed = (meter.read() - before).energy_j if meter and before else None
        return WholeRuns(busy_s, wall_s, None if passed is None else passed / repeats)


def apart(network: Network, whole: WholeRuns, tensors: Tensors, span_s: Callable[[Span], float]) -> Solution:
    """Time segments, each by ``span_s``, and fit the operators' times to them and to the whole."""
    count = len(network.graph.operators)
    fitted, kept = spans(count)
    times_s = {span: span_s(span) for span in (*fitted[:-1], *kept) if _is_tensors(network, span, tensors)}
    times_s[0, count] = float(typical(whole.busy_s))
    operators = network.graph.operators
    return solve(
        [(span, times_s[span]) for span in fitted if span in times_s],
        [(span, times_s[span]) for span in kept if span in times_s],
        crossing_bytes=partial(_crossing_bytes, network, tensors=tensors),
        expected=works_s(
            [each.flops for each in operators], [each.bytes_read + each.bytes_written for each in operators]
        ),
    )


def _segment_s(network: Network, span: Span, *, execution: Execution, tensors: Tensors) -> float:
    """Return what a segment takes that nothing disturbs [s]."""
    part, now_s = _bound(network, span, tensors, execution), now_s_of(execution)
    first_s = settle(part.run, now_s)
    fewest, most = _SEGMENT_RUNS
    runs = int(np.clip(_SEGMENT_S / max(first_s, 1e-6), fewest, most))
    return float(typical(np.array([_timed_s(part.run, now_s) for _ in range(runs)])))


def _bound(network: Network, span: Span, tensors: Tensors, execution: Execution) -> Bound:
    start, stop = span
    path = network.path
    if span != (0, len(network.graph.operators)):
        path = network.folder / "part.onnx"
        onnx.save(extract(network.model, network.tensors, start, stop), str(path))
    with refusing(f"{network.graph.name}, operators {start} to {stop - 1},", f"opened by {execution.provider.name}"):
        opened = execution.open(path, fused=execution.fused, graphs=True)
        made = bound(opened, tensors, dict(network.tensors), execution)
        made.run()
    return made


def _is_tensors(network: Network, span: Span, tensors: Tensors) -> bool:
    """Tell whether a segment has work of its own, and only tensors go in."""
    crossing = cut(network.model.graph, *span)
    return bool(crossing.outputs) and all(name in tensors for name in crossing.inputs)


def _crossing_bytes(network: Network, span: Span, *, tensors: Tensors) -> float:
    """Count what only passes because the network was cut there: its own inputs and outputs pass in the whole too."""
    crossing = cut(network.model.graph, *span)
    results = {value.name for value in network.model.graph.output}
    made = [name for name in crossing.outputs if name in network.tensors and name not in results]
    ports = (network.tensors[name] for name in made)
    given = sum(float(np.asarray(tensors[name]).nbytes) for name in crossing.inputs if name not in network.feed)
    return given + sum(
        float(prod(port.shape)) * np.dtype(_TYPES.get(port.dtype, np.float32)).itemsize for port in ports
    )


def every_tensor(network: Network) -> dict[str, Any]:
    """Compute every tensor that passes between operators, once, on the CPU."""
    model, names = onnx.ModelProto(), {value.name for value in network.model.graph.output}
    model.CopyFrom(network.model)
    made = {name for node in model.graph.node for name in node.output if name}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(made - names))
    path = network.folder / "all.onnx"
    onnx.save(model, str(path))
    opened = session(path, options(1))
    outputs = [value.name for value in opened.get_outputs()]
    results = zip(outputs, opened.run(outputs, dict(network.feed)), strict=True)
    found = {name: value for name, value in results if isinstance(value, np.ndarray)}
    return dict(network.feed) | found


def _elsewhere(network: Network, execution: Execution, whole_s: float) -> tuple[Fallback, ...]:
    opened = execution.open(network.path, fused=execution.fused, profile=network.folder / "profile")
    for _ in range(_OBSERVED):
        opened.run(None, dict(network.feed))
    path = Path(opened.end_profiling())
    found = kernels(path)
    path.unlink()
    return fallbacks(found[-(len(found) // _OBSERVED) :], whole_s, execution.provider)


def _told(elsewhere: tuple[Fallback, ...], execution: Execution) -> tuple[str, ...]:
    ran = f"provider {execution.provider.name}, FP32 networks computed in {execution.precision}"
    if not elsewhere:
        return (f"{ran}; it takes every operator",)
    return (f"{ran}; these run on the CPU instead: {', '.join(map(str, elsewhere))}",)


def _drift(before: WholeRuns, after: WholeRuns) -> tuple[str, ...]:
    ratio = float(typical(after.busy_s) / typical(before.busy_s)) - 1.0
    return (
        (f"the whole run took {ratio:+.0%} at the end: the machine did not keep still",) if abs(ratio) > _DRIFT else ()
    )


def timings(whole: WholeRuns, solution: Solution, ran_at: Clocks, notes: tuple[str, ...]) -> Timings:
    """Share the whole run's time and energy out by the operators' times."""
    middle_s = float(np.median(whole.busy_s))
    low_s, high_s = np.quantile(whole.busy_s, (0.1, 0.9))
    times_s = solution.operators_s + solution.entry_s / len(solution.operators_s)
    shares = times_s / times_s.sum()
    spread = float(high_s - low_s) / middle_s
    return Timings(
        operators=tuple(
            Timing(
                share * middle_s, spread * share * middle_s, None if whole.energy_j is None else share * whole.energy_j
            )
            for share in shares.tolist()
        ),
        whole=Timing(middle_s, float(high_s - low_s), whole.energy_j),
        ran_at=ran_at,
        repeats=len(whole.busy_s),
        ratios=tuple(float(wall_s) / middle_s for wall_s in whole.wall_s),
        notes=notes,
    )


def _timed_s(work: Callable[[], object], now_s: Callable[[], float]) -> float:
    begin_s = now_s()
    work()
    return now_s() - begin_s
