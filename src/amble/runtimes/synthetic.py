"""A few numbers → graphs without weights, for teaching and for tests: what they compute and move is known exactly.

Three classes of operators behave differently when clocks change: a matrix product with much reuse (compute-bound)
follows the core clock, an addition of large tensors (memory-bound) the memory clock, and a tiny operator (launch-bound)
neither of them.
"""

from __future__ import annotations

import hashlib

import numpy as np

from amble.core.graph import Gemm, Graph, Operator, Port

__all__ = ["chain", "compute_bound", "launch_bound", "memory_bound", "three"]

_ELEMENT_BYTES = 4.0
_NUM_CLASSES = 3


def compute_bound(name: str, *, size: int = 1024, batch: int = 1) -> Operator:
    """Return a product of [batch · size, size] by a weight matrix [size, size]: size / 6 operations a byte."""
    rows = batch * size
    weight_bytes = _ELEMENT_BYTES * size * size
    activation_bytes = _ELEMENT_BYTES * rows * size
    return Operator(
        name=name,
        kind="MatMul",
        flops=2.0 * rows * size * size,
        bytes_read=activation_bytes + weight_bytes,
        bytes_written=activation_bytes,
        weight_bytes=weight_bytes,
        output_shape=(rows, size),
        gemm=Gemm(rows, size, size),
    )


def memory_bound(name: str, *, size: int = 1_000_000, batch: int = 1) -> Operator:
    """Return an addition of two tensors of batch × ``size`` elements: 1 / 12 operations a byte."""
    elements = batch * size
    read_bytes = 2.0 * _ELEMENT_BYTES * elements
    return Operator(name, "Add", float(elements), read_bytes, _ELEMENT_BYTES * elements, output_shape=(batch, size))


def launch_bound(name: str, *, size: int = 64, batch: int = 1) -> Operator:
    """Return a rectification of batch × ``size`` elements, over before it has begun."""
    elements = batch * size
    moved_bytes = _ELEMENT_BYTES * elements
    return Operator(name, "Relu", float(elements), moved_bytes, moved_bytes, output_shape=(batch, size))


def three(batch: int = 1) -> Graph:
    """Return one operator of each class, for teaching."""
    operators = (
        compute_bound("compute", batch=batch),
        memory_bound("memory", batch=batch),
        launch_bound("launch", batch=batch),
    )
    return _graph("three", operators, batch)


def chain(num_operators: int, seed: int = 0, *, batch: int = 1) -> Graph:
    """Return operators of mixed classes and sizes (log-uniform, a factor of 4 to either side), the same for a seed."""
    if num_operators < 1:
        raise ValueError(f"a chain has at least one operator, not {num_operators}")
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, _NUM_CLASSES, num_operators)
    scales = 4.0 ** rng.uniform(-1.0, 1.0, num_operators)
    drawn = zip(range(num_operators), classes.tolist(), scales.tolist(), strict=True)
    operators = tuple(_drawn(index, chosen, scale, batch) for index, chosen, scale in drawn)
    return _graph(f"chain-{num_operators}-{seed}", operators, batch)


def _drawn(index: int, chosen: int, scale: float, batch: int) -> Operator:
    match chosen:
        case 0:
            return compute_bound(f"compute_{index}", size=16 * round(16 * scale), batch=batch)
        case 1:
            return memory_bound(f"memory_{index}", size=round(500_000 * scale), batch=batch)
        case _:
            return launch_bound(f"launch_{index}", size=round(64 * scale), batch=batch)


def _graph(name: str, operators: tuple[Operator, ...], batch: int) -> Graph:
    digest = hashlib.sha256(repr((name, batch, operators)).encode()).hexdigest()
    output = Port("output", operators[-1].output_shape, "float")
    return Graph(name, operators, batch, digest, (Port("input", (batch, 64), "float"),), (output,))
