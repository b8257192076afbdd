"""A graph → times and outputs from another machine's own ONNX Runtime or trtexec; cutting and fitting happen here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import onnx

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import FloatArray, Tensors, Timings
from amble.runtimes.onnx.cutting import cut, extract
from amble.runtimes.onnx.dissecting import WholeRuns, apart, every_tensor, timings
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.providers import CPU, PROVIDERS, Provider
from amble.runtimes.onnx.sessions import Sessions
from amble.runtimes.onnx.timing import typical
from amble.runtimes.segments import Solution, Span, works_s

__all__ = ["Far", "RemoteRunner", "far_execution", "far_form"]

_WARM_UP = 5
_SEGMENT_RUNS = 20
_TRTEXEC = Provider("trtexec", "", "cuda", "cuda", ("fp32", "fp16", "bf16"), CPU.settings)


class Far(Protocol):
    """Another machine that keeps networks under names and runs them."""

    def open(self, key: str, content: bytes, providers: Sequence[str], threads: int) -> None:
        """Open a network there, by ONNX Runtime's own names of providers."""
        ...

    def run(self, key: str, feed: Tensors, *, runs: int, own_time: bool, answers: bool) -> dict[str, Any]:
        """Run it → ``times_s``, ``wall_s``, ``energy_j`` of all runs, and ``outputs``."""
        ...

    def ask(self, what: str, **given: Any) -> dict[str, Any]:
        """Ask for anything else: ``close`` a network, ``trtexec``."""
        ...


def far_execution(name: str | None, has: Sequence[str], *, gpu: bool, threads: int, precision: str) -> Execution:
    """Choose how a board runs networks; ``has`` are the providers of its ONNX Runtime, by their own names.

    Its CPU kernels are others than those of this machine: they too are given a network before any fusion.
    """
    known = {each.name: each for each in PROVIDERS.values()} | {
        "cpu": replace(CPU, fuses=True),
        "trtexec": _TRTEXEC,
    }
    place = "cuda" if gpu else "cpu"
    usable = [each for each in known.values() if each.place == place and (each.full in has or each is _TRTEXEC)]
    if name is None:
        name = "cpu" if not gpu else usable[0].name
    chosen = known.get(name)
    if chosen is None or chosen not in usable:
        there = ", ".join(each.name for each in usable) or "none"
        raise Refused(f"the board has no provider={name}; it has {there}: install its vendor's onnxruntime there")
    return Execution(chosen, threads, precision=precision)


def far_form(precision: str) -> Execution:
    """Return how a network is read for any board, before it is known what the board has."""
    return Execution(replace(CPU, fuses=True, precisions=(precision,)), precision=precision)


class RemoteRunner:
    """Runs and times graphs on a board; ``clocks`` reads back the clocks that run there."""

    def __init__(self, far: Far, execution: Execution, *, clocks: Callable[[], Clocks] = Clocks) -> None:
        self._far, self._execution, self._clocks = far, execution, clocks
        self._sessions = Sessions(execution)

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a graph or one segment of it → its outputs, or what later segments take; without inputs, nothing."""
        self._check(graph, point)
        if self._execution.provider is _TRTEXEC:
            raise Refused("trtexec times networks and gives no answers: use the board's ONNX Runtime, provider=cuda")
        network = self._sessions.network(graph)
        span = (graph.offset, graph.offset + len(graph.operators))
        crossing = cut(network.model.graph, *span)
        feed = inputs or {name: every_tensor(network)[name] for name in crossing.inputs}
        found = self._run(network, span, {name: feed[name] for name in crossing.inputs}, runs=1, answers=True)
        if not inputs:
            return {}
        wanted = {each.name for each in network.model.graph.output} if graph.ends else set(crossing.carried)
        outputs: dict[str, Any] = found["outputs"]
        return outputs | {name: inputs[name] for name in crossing.carried if name in wanted and name not in outputs}

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time a whole graph and segments of it there, and tell the operators' times from them."""
        if graph.offset or not graph.ends:
            raise ValueError(f"operators from {graph.offset} of {graph.name} are a segment; profile the whole network")
        self._check(graph, point)
        network, provider = self._sessions.network(graph), self._execution.provider
        if provider is _TRTEXEC:
            return self._by_trtexec(network, repeats)
        tensors = every_tensor(network)
        whole = self._whole(network, repeats)
        ran_at = self._clocks()
        solution = apart(network, whole, tensors, partial(self._segment_s, network, tensors))
        whose = "the thread's own CPU time there" if self._execution.times_own_work else "of the board's wall clock"
        return timings(
            whole, solution, ran_at, (f"provider {provider.name} on the board; times are {whose}", *solution.notes)
        )

    def _check(self, graph: Graph, point: OperatingPoint) -> None:
        if point.precision != graph.precision:
            raise Refused(f"{graph.name} is {graph.precision} and cannot run at {point.precision} on the board")

    def _whole(self, network: Network, repeats: int) -> WholeRuns:
        span = (0, len(network.graph.operators))
        self._run(network, span, network.feed, runs=_WARM_UP, answers=False)
        found = self._run(network, span, network.feed, runs=repeats, answers=False)
        energy_j = None if found["energy_j"] is None else float(found["energy_j"]) / repeats
        return WholeRuns(np.array(found["times_s"]), np.full(repeats, float(found["wall_s"]) / repeats), energy_j)

    def _segment_s(self, network: Network, tensors: Tensors, span: Span) -> float:
        feed = {name: tensors[name] for name in cut(network.model.graph, *span).inputs}
        found = self._run(network, span, feed, runs=_WARM_UP + _SEGMENT_RUNS, answers=False)
        self._far.ask("close", key=_key(network, span))
        return float(typical(np.array(found["times_s"])[_WARM_UP:]))

    def _run(self, network: Network, span: Span, feed: Tensors, *, runs: int, answers: bool) -> dict[str, Any]:
        key = _key(network, span)
        providers = [self._execution.provider.full, *([] if self._execution.provider.full == CPU.full else [CPU.full])]
        self._far.open(key, _content(network, span), providers, self._execution.threads)
        return self._far.run(key, feed, runs=runs, own_time=self._execution.times_own_work, answers=answers)

    def _by_trtexec(self, network: Network, repeats: int) -> Timings:
        content = base64.b64encode(_content(network, (0, len(network.graph.operators)))).decode()
        found = self._far.ask("trtexec", content=content, runs=repeats, precision=self._execution.precision)
        runs_s = np.array([float(each["latencyMs"]) for each in found["times"]]) * 1e-3
        layers = {str(each["name"]): float(each["averageMs"]) * 1e-3 for each in found["layers"] if "name" in each}
        if not len(runs_s) or not layers:
            raise Refused(
                "the board's trtexec told no times: try it there by hand, with --exportTimes and --exportProfile"
            )
        whole = WholeRuns(runs_s, runs_s, None)
        solution = _shared(network, layers, float(np.median(runs_s)))
        note = (
            "times are of TensorRT's engine, by trtexec; a layer that fuses several operators is shared out among them "
            f"by work; its layers sum to {solution.sum_error:+.1%} of the whole; energy is unknown"
        )
        return timings(whole, solution, self._clocks(), (note,))


def _shared(network: Network, layers: dict[str, float], whole_s: float) -> Solution:
    """Share each of TensorRT's layers among the operators that its name tells; what names none, among all."""
    operators = network.graph.operators
    work = works_s([each.flops for each in operators], [each.bytes_read + each.bytes_written for each in operators])
    work = np.maximum(work, 1e-12)
    times_s: FloatArray = np.zeros(len(operators))
    for name, time_s in layers.items():
        parts = set(name.replace("[", " ").replace("]", " ").replace(",", " ").split())
        named = np.array([each.name in parts for each in operators])
        shares = work * named if named.any() else work
        times_s += time_s * shares / shares.sum()
    return Solution(times_s, 0.0, 0.0, float(times_s.sum()) / whole_s - 1.0, np.array([]))


def _key(network: Network, span: Span) -> str:
    return hashlib.sha256(f"{network.graph.digest}{span}".encode()).hexdigest()[:20]


def _content(network: Network, span: Span) -> bytes:
    """Return a network or a segment of it with all its weights inside."""
    if span == (0, len(network.graph.operators)):
        return bytes(onnx.load(str(network.path)).SerializeToString())
    path = network.folder / "part.onnx"
    onnx.save(extract(network.model, network.tensors, *span), str(path))
    return bytes(onnx.load(str(path)).SerializeToString())
