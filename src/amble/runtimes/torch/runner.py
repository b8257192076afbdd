"""A graph and inputs → outputs, computed and timed by torch on an NVIDIA GPU (extra ``torch``).

The second way onto a GPU, for machines with torch and no build of ONNX Runtime for it. Launching a kernel from Python
takes longer than most kernels do, so what is timed is captured as a CUDA graph and replayed between two events. A
timer of another place may be handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import FloatArray, Meter, Tensors, Timing, Timings
from amble.runtimes.onnx.cutting import cut
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.providers import TORCH
from amble.runtimes.onnx.sessions import Sessions
from amble.runtimes.segments import Span, solve, spans, works_s
from amble.runtimes.torch.importing import Imported, imported

__all__ = ["TorchRunner", "replayed_s"]

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WARM_UP = 3
_SEGMENT_RUNS = 15
_IN_A_GRAPH_S = 200e-6
"""Least time between two events: they are told in steps of half a microsecond."""

Timer = Callable[[Callable[[], object], Callable[[], object], int], FloatArray]
"""The work, what comes between two runs of it, number of runs → times [s], [run]."""


def replayed_s(work: Callable[[], object], between: Callable[[], object], runs: int) -> FloatArray:
    """Time runs of work that is captured once and replayed, so that the host's launches do not count → [run]."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    single = _captured(work, 1)
    copies = int(np.clip(_IN_A_GRAPH_S / max(_event_s(single), 1e-7), 1, 64))
    several = single if copies == 1 else _captured(work, copies)
    _event_s(several)
    times_s = []
    for _ in range(runs):
        between()
        times_s.append(_event_s(several) / copies)
    return np.array(times_s)


def _captured(work: Callable[[], object], copies: int) -> Any:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(copies):
            work()
    return graph


def _event_s(graph: Any) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return 1e-3 * float(start.elapsed_time(end))


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A network on its place: ``values`` of all parameters, and inputs to time it with, by tensor."""

    network: Network
    read: Imported
    values: dict[fx.Node, Any]


class TorchRunner:
    """Runs and times graphs on ``place``, a torch device; FP32 networks are computed in ``precision``.

    ``meter`` counts the board's energy over whole runs; ``clocks`` reads back the clocks that run.
    """

    def __init__(
        self,
        precision: str = "fp32",
        *,
        place: str = "cuda",
        timer: Timer = replayed_s,
        meter: Meter | None = None,
        clocks: Callable[[], Clocks] = Clocks,
    ) -> None:
        if place.startswith("cuda") and not torch.cuda.is_available():
            raise Refused("torch sees no NVIDIA GPU here: check nvidia-smi, and that torch was built for CUDA")
        self._sessions = Sessions(Execution(TORCH, precision=precision))
        self._place, self._precision = place, precision
        self._timer, self._meter, self._clocks = timer, meter, clocks
        self._loaded: dict[str, _Loaded] = {}

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a graph or one segment of it → its outputs, or what later segments take; without inputs, nothing."""
        self._check(graph, point)
        loaded, span = self._load(graph), (graph.offset, graph.offset + len(graph.operators))
        crossing = cut(loaded.network.model.graph, *span)
        given = dict(inputs or {name: loaded.network.feed[name] for name in crossing.inputs if not graph.offset})
        missing = [name for name in crossing.inputs if name not in given]
        if missing:
            raise ValueError(f"{graph.name} needs the tensors {', '.join(missing)}")
        with self._mode():
            values = loaded.values | {loaded.read.tensors[name]: self._put(given[name]) for name in crossing.inputs}
            _run(loaded.read, span, values)
            if not inputs:
                return {}
            made = {name: _array(values[loaded.read.tensors[name]]) for name in crossing.outputs}
        wanted = {value.name for value in loaded.network.model.graph.output} if graph.ends else set(crossing.carried)
        return made | {name: inputs[name] for name in crossing.carried if name in wanted and name not in made}

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time a whole graph and segments of it, and tell the operators' times from them."""
        if graph.offset or not graph.ends:
            raise ValueError(f"operators from {graph.offset} of {graph.name} are a segment; profile the whole network")
        self._check(graph, point)
        loaded = self._load(graph)
        with self._mode():
            values = self._filled(loaded, graph)
            span_s = partial(self._span_s, loaded, values)
            before = self._meter.read() if self._meter else None
            whole_s = span_s((0, len(graph.operators)), runs=repeats)
            passed = (self._meter.read() - before) if self._meter and before else None
            ran_at = self._clocks()
            fitted, kept = spans(len(graph.operators))
            middles = {each: float(np.median(span_s(each, runs=_SEGMENT_RUNS))) for each in (*fitted[:-1], *kept)}
        solution = solve(
            [*((each, middles[each]) for each in fitted[:-1]), (fitted[-1], float(np.median(whole_s)))],
            [(each, middles[each]) for each in kept],
            crossing_bytes=partial(_crossing_bytes, loaded, values),
            expected=works_s(
                [each.flops for each in graph.operators],
                [each.bytes_read + each.bytes_written for each in graph.operators],
            ),
        )
        power_w = None if passed is None or passed.energy_j is None else passed.energy_j / passed.latency_s
        notes = (f"torch {torch.__version__} on {self._place} in {self._precision}, replayed and timed by events",)
        times_s = solution.operators_s + solution.entry_s / len(graph.operators)
        return _timings(times_s, whole_s, power_w, ran_at=ran_at, notes=(*notes, *solution.notes))

    def _load(self, graph: Graph) -> _Loaded:
        if graph.digest not in self._loaded:
            network = self._sessions.network(graph)
            read = imported(network.path)
            read.module.to(self._place, _DTYPES[self._precision])
            constants = [node for node in read.module.graph.nodes if node.op == "get_attr"]
            values = {node: _attribute(read.module, str(node.target)) for node in constants}
            self._loaded[graph.digest] = _Loaded(network, read, values)
        return self._loaded[graph.digest]

    def _filled(self, loaded: _Loaded, graph: Graph) -> dict[fx.Node, Any]:
        """Compute every tensor that passes between operators, once."""
        given = {loaded.read.tensors[name]: self._put(value) for name, value in loaded.network.feed.items()}
        values = loaded.values | given
        _run(loaded.read, (0, len(graph.operators)), values)
        return values

    def _span_s(self, loaded: _Loaded, values: dict[fx.Node, Any], span: Span, *, runs: int) -> FloatArray:
        return self._timer(lambda: _run(loaded.read, span, values), lambda: None, runs)

    def _put(self, value: Any) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(value)).to(self._place)
        return tensor.to(_DTYPES[self._precision]) if tensor.is_floating_point() else tensor

    def _check(self, graph: Graph, point: OperatingPoint) -> None:
        if point.precision != graph.precision or graph.precision != self._precision:
            raise Refused(
                f"{graph.name} is {graph.precision} and this device computes in {self._precision}: load it for this "
                f"device, amble.load(..., device=URI)"
            )

    def _mode(self) -> _Mode:
        return _Mode(self._precision == "tf32")


class _Mode:
    """No gradients, and TF32 only where it is asked for, inside a block."""

    def __init__(self, tf32: bool) -> None:
        self._tf32, self._inference = tf32, torch.inference_mode()
        self._found = (False, False)

    def __enter__(self) -> None:
        self._found = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self._tf32
        self._inference.__enter__()

    def __exit__(self, *error: object) -> None:
        self._inference.__exit__(*error)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._found


def _run(read: Imported, span: Span, values: dict[fx.Node, Any]) -> None:
    """Run the parts of ONNX nodes; ``values`` has what they take, and gets what they give."""
    for node in (each for part in read.parts[span[0] : span[1]] for each in part):
        if node.op == "get_attr":
            continue
        args = fx.node.map_arg(node.args, lambda each: values[each])
        named = fx.node.map_arg(node.kwargs, lambda each: values[each])
        if node.op == "call_module":
            values[node] = read.module.get_submodule(str(node.target))(*args, **named)
        else:
            assert callable(node.target), "the importer makes calls of layers and functions only"
            values[node] = node.target(*args, **named)


def _attribute(module: torch.nn.Module, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


def _array(tensor: torch.Tensor) -> Any:
    found = tensor.detach()
    return (found.float() if found.is_floating_point() else found).cpu().numpy()


def _crossing_bytes(loaded: _Loaded, values: dict[fx.Node, Any], span: Span) -> float:
    """Count what only passes because the network was cut there: its own inputs and outputs pass in the whole too."""
    crossing = cut(loaded.network.model.graph, *span)
    own = {*loaded.network.feed, *(value.name for value in loaded.network.model.graph.output)}
    return float(sum(_sizes(loaded, values, {*crossing.inputs, *crossing.outputs} - own)))


def _sizes(loaded: _Loaded, values: dict[fx.Node, Any], names: Iterable[str]) -> Iterable[int]:
    for name in names:
        value = values.get(loaded.read.tensors[name]) if name in loaded.read.tensors else None
        if isinstance(value, torch.Tensor):
            yield prod(value.shape) * value.element_size()


def _timings(
    times_s: FloatArray, whole_s: FloatArray, power_w: float | None, *, ran_at: Clocks, notes: Sequence[str]
) -> Timings:
    low_s, middle_s, high_s = np.quantile(whole_s, (0.1, 0.5, 0.9)).tolist()

    def timing(latency_s: float, spread_s: float) -> Timing:
        return Timing(latency_s, spread_s, None if power_w is None else power_w * latency_s)

    shares = (times_s / times_s.sum()).tolist()
    return Timings(
        operators=tuple(timing(share * middle_s, share * (high_s - low_s)) for share in shares),
        whole=timing(middle_s, high_s - low_s),
        ran_at=ran_at,
        repeats=len(whole_s),
        ratios=tuple(float(each) / middle_s for each in whole_s),
        notes=tuple(notes),
    )
