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

from amble.runtimes.preparing import options
from amble.runtimes.trace import kernels

__all__ = ["Overhead", "overhead"]

_LONG = 33
_RUNS = 120
_PERCENT = 25
_SIZE = (1, 16, 2, 2)
_OPSET = 17


@dataclass(frozen=True, slots=True)
class Overhead:
    """What entering and leaving a run takes [s], and what the profiler adds to each kernel [s]."""

    run_s: float
    profiler_s: float


@lru_cache(maxsize=1)
def overhead() -> Overhead:
    """Measure it, once in a process; a tenth of a second.

    The profiler evicts code and data from the caches, which costs convolutions more than simpler kernels: they stand
    for all.
    """
    kernel_s = max(0.0, (_plain_s("Sigmoid", _LONG) - _plain_s("Sigmoid", 1)) / (_LONG - 1))
    conv_s = max(0.0, (_plain_s("Conv", _LONG) - _plain_s("Conv", 1)) / (_LONG - 1))
    return Overhead(max(0.0, _plain_s("Sigmoid", 1) - kernel_s), max(0.0, _profiled_s("Conv") - conv_s))


def _plain_s(kind: str, length: int) -> float:
    """Return what a run of a chain takes [s]: the thread's own time."""
    session, taken_s = _session(kind, length, options(1, optimised=False)), []
    for _ in range(_RUNS):
        begin_s = time.thread_time()
        session.run(None, _feed())
        taken_s.append(time.thread_time() - begin_s)
    return float(np.percentile(taken_s, _PERCENT))


def _profiled_s(kind: str) -> float:
    """Return what a kernel of a chain takes by the profiler [s]."""
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        chosen = options(1, optimised=False)
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(kind, _LONG, chosen)
        for _ in range(_RUNS):
            session.run(None, _feed())
        found = [each.duration_s for each in kernels(Path(session.end_profiling())) if each.details.op_name == kind]
    runs_s = np.array(found).reshape(_RUNS, _LONG).sum(axis=1)
    return float(np.percentile(runs_s, _PERCENT)) / _LONG


def _feed() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {"x0": np.zeros(_SIZE, np.float32)}


def _session(kind: str, length: int, chosen: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    weights = [numpy_helper.from_array(np.zeros((_SIZE[1], _SIZE[1], 1, 1), np.float32), "w")] if kind == "Conv" else []
    others = [each.name for each in weights]
    nodes = [helper.make_node(kind, [f"x{at}", *others], [f"x{at + 1}"], name=f"n{at}") for at in range(length)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, _SIZE) for name in ("x0", f"x{length}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 8
    return onnxruntime.InferenceSession(model.SerializeToString(), chosen, providers=["CPUExecutionProvider"])
