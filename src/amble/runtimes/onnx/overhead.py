"""Networks of next to nothing → what a run of ONNX Runtime costs, and what its profiler adds to each kernel.

A kernel of a few microseconds is shorter than what the profiler takes to write it down, and that time counts as the
kernel's. A chain of kernels that do next to nothing, run with and without the profiler, tells the two apart.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from amble.runtimes.onnx.preparing import options
from amble.runtimes.onnx.trace import kernels

__all__ = ["Overhead", "overhead"]

_LONG = 33
_RUNS = 120
_PERCENT = 25
_SIZES = ((1, 16, 2, 2), (1, 16, 7, 7), (1, 32, 7, 7), (1, 32, 14, 14))
_OPSET = 17

_Size = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Overhead:
    """What entering and leaving a run takes [s], and what the profiler adds to each kernel [s]."""

    run_s: float
    profiler_s: float


@lru_cache(maxsize=1)
def overhead() -> Overhead:
    """Measure it, once in a process; half a second.

    The profiler evicts code and data from the caches, which costs convolutions more than simpler kernels: they stand
    for all. Its clock has ticks of a microsecond, so what it adds is a mean over kernels of several lengths.
    """
    size = _SIZES[0]
    added_s = [_profiled_s("Conv", each) - _kernel_s("Conv", each) for each in _SIZES]
    return Overhead(
        max(0.0, _plain_s("Sigmoid", 1, size) - _kernel_s("Sigmoid", size)), max(0.0, float(np.mean(added_s)))
    )


def _kernel_s(kind: str, size: _Size) -> float:
    """Return what a kernel of a chain takes without the profiler [s]."""
    return max(0.0, (_plain_s(kind, _LONG, size) - _plain_s(kind, 1, size)) / (_LONG - 1))


def _plain_s(kind: str, length: int, size: _Size) -> float:
    """Return what a run of a chain takes [s]: the thread's own time."""
    session, taken_s = _session(kind, length, size, options(1, optimised=False)), []
    feed = _feed(size)
    for _ in range(_RUNS):
        begin_s = time.thread_time()
        session.run(None, feed)
        taken_s.append(time.thread_time() - begin_s)
    return float(np.percentile(taken_s, _PERCENT))


def _profiled_s(kind: str, size: _Size) -> float:
    """Return what a kernel of a chain takes by the profiler [s]."""
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        chosen = options(1, optimised=False)
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(kind, _LONG, size, chosen)
        for _ in range(_RUNS):
            session.run(None, _feed(size))
        found = [each.duration_s for each in kernels(Path(session.end_profiling())) if each.details.op_name == kind]
    runs_s = np.array(found).reshape(_RUNS, _LONG).sum(axis=1)
    return float(np.percentile(runs_s, _PERCENT)) / _LONG


def _feed(size: _Size) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {"x0": np.zeros(size, np.float32)}


def _session(kind: str, length: int, size: _Size, chosen: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    weights = [numpy_helper.from_array(np.zeros((size[1], size[1], 1, 1), np.float32), "w")] if kind == "Conv" else []
    others = [each.name for each in weights]
    nodes = [helper.make_node(kind, [f"x{at}", *others], [f"x{at + 1}"], name=f"n{at}") for at in range(length)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("x0", f"x{length}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 8
    return onnxruntime.InferenceSession(model.SerializeToString(), chosen, providers=["CPUExecutionProvider"])
