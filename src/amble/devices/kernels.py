"""A graph's operators, at a precision → the kernels a library would start for them: blocks, work, traffic.

Legend of shapes: [operator].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from amble.core.graph import Graph, Operator
from amble.core.ports import FloatArray
from amble.devices.chip import Chip, Kernel

__all__ = ["ELEMENT_BYTES", "Launches", "Work", "classify", "launches", "work_of"]

ELEMENT_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int32": 4.0, "int8": 1.0}

_FREE = frozenset({"Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze", "Shape", "Constant", "Dropout"})
_PRODUCT_CLASSES = ("gemm", "conv", "winograd", "depthwise", "gemv")
_MAX_GEMV_ROWS = 4
_WINOGRAD_REUSES = ((8.2, 9.6), (4.3, 4.7))  # 3 x 3; half of it with an addition fused, which reads as much again
_MIN_WINOGRAD_CHANNELS = 16
_DRAM_BLOCK_BYTES = 32.0


@dataclass(frozen=True, slots=True)
class Work:
    """What the operators ask for, whoever runs them. All [operator]; sizes in elements, bytes at the precision.

    The product is ``groups`` of [m, k] by [k, n]; ``reuse`` is how often a product reads each activation (R·S of a
    convolution with stride 1); for operators without a product m counts outputs and k the operations for each.
    """

    classes: npt.NDArray[np.str_]
    m: FloatArray
    n: FloatArray
    k: FloatArray
    groups: FloatArray
    reuse: FloatArray
    activation_bytes: FloatArray
    weight_bytes: FloatArray
    output_bytes: FloatArray


@dataclass(frozen=True, slots=True)
class Launches:
    """The kernels chosen. All [operator], and [operator] strings of what was chosen in ``classes``.

    ``cycles`` are issue cycles of one block on an SM of its own; ``l2_bytes`` is a block's; ``dram_bytes`` and ``fma``
    the whole kernel's. ``customers`` is how many waiting warps a resident block adds to the memory queues.
    """

    classes: npt.NDArray[np.str_]
    precision: str
    blocks: FloatArray
    cycles: FloatArray
    l2_bytes: FloatArray
    dram_bytes: FloatArray
    fma: FloatArray
    resident: FloatArray
    warps: FloatArray
    stages: FloatArray
    access: FloatArray


def classify(operator: Operator, element_bytes: float = 4.0) -> str:
    """Name the class of kernels that an operator needs; its byte counts are of elements of this size."""
    product = operator.gemm
    if operator.kind in _FREE or (operator.bytes_written == 0 and operator.flops == 0):
        return "free"
    if product is None:
        return "gemv" if operator.kind in ("LSTM", "GRU", "RNN") else "stream"
    if product.groups > 1 and product.n <= 2 and "Conv" in operator.kind:
        return "depthwise"
    if product.m <= _MAX_GEMV_ROWS:
        return "gemv"
    reuse = _reuse(operator, element_bytes)
    if "Conv" not in operator.kind or reuse <= 1.05:
        return "gemm"
    channels = min(product.n, product.k / 9)
    window = any(low < reuse < high for low, high in _WINOGRAD_REUSES)
    return "winograd" if window and channels >= _MIN_WINOGRAD_CHANNELS and product.groups == 1 else "conv"


def work_of(graph: Graph, precision: str) -> Work:
    """Collect what a graph's operators ask for, with their bytes at this precision."""
    element = ELEMENT_BYTES.get(graph.precision, 4.0)
    ratio = ELEMENT_BYTES[precision] / element
    operators = graph.operators
    activations = [max(0.0, each.bytes_read - each.weight_bytes) * ratio for each in operators]
    shapes = np.array([_shape(each, element) for each in operators], dtype=np.float64).reshape(len(operators), 4)
    return Work(
        classes=np.array([classify(each, element) for each in operators], dtype=np.str_),
        m=shapes[:, 0],
        n=shapes[:, 1],
        k=shapes[:, 2],
        groups=shapes[:, 3],
        reuse=np.array([max(1.0, _reuse(each, element)) for each in operators]),
        activation_bytes=np.array(activations),
        weight_bytes=np.array([each.weight_bytes * ratio for each in operators]),
        output_bytes=np.array([each.bytes_written * ratio for each in operators]),
    )


def launches(
    work: Work,
    precision: str,
    *,
    chip: Chip,
    tables: dict[str, tuple[Kernel, ...]],
    time_s: Callable[[Launches], FloatArray],
) -> Launches:
    """Choose for every operator the candidate kernel that is fastest at the top clocks, as an autotuner does.

    ``time_s`` prices a whole set of launches at those clocks → [operator].
    """
    candidates = [_launch(work, precision, chip=chip, tables=tables, index=index) for index in range(_depth(tables))]
    times = np.stack([np.where(valid, time_s(launch), np.inf) for launch, valid in candidates])
    best = np.argmin(times, axis=0)
    return _pick([launch for launch, _ in candidates], best)


def _depth(tables: dict[str, tuple[Kernel, ...]]) -> int:
    return max(len(candidates) for candidates in _candidates(tables).values())


def _candidates(tables: dict[str, tuple[Kernel, ...]]) -> dict[str, tuple[Kernel, ...]]:
    """Winograd's operators may also run as plain convolutions, and all free ones as nothing."""
    return {**tables, "winograd": tables["winograd"] + tables["conv"], "free": tables["stream"]}


def _launch(
    work: Work, precision: str, *, chip: Chip, tables: dict[str, tuple[Kernel, ...]], index: int
) -> tuple[Launches, npt.NDArray[np.bool_]]:
    known = _candidates(tables)
    options = [known[each] for each in work.classes.tolist()]
    chosen = [option[min(index, len(option) - 1)] for option in options]
    valid = np.array([index < len(option) for option in options])
    factors = np.array([chip.efficiency.get(each, 1.0) for each in work.classes.tolist()])
    return _lay_out(work, precision, chip=chip, kernels=chosen, factors=factors), valid


def _lay_out(work: Work, precision: str, *, chip: Chip, kernels: Sequence[Kernel], factors: FloatArray) -> Launches:
    tile = {
        field.name: np.array([getattr(each, field.name) for each in kernels], dtype=np.float64)
        for field in fields(Kernel)
    }
    rows, columns = np.ceil(work.m / tile["tile_m"]), np.ceil(work.n / tile["tile_n"])
    slots = chip.compute.units * tile["resident"]
    blocks = rows * columns * work.groups
    split = np.clip(np.floor(np.minimum(slots / blocks, work.k / 64)), 1, tile["split_max"])
    element = ELEMENT_BYTES[precision]
    steps = np.where(work.classes == "depthwise", work.k, np.ceil(work.k / 8) * 8)
    fma = blocks * tile["tile_m"] * tile["tile_n"] * steps * tile["flops_ratio"]
    compute, product = chip.compute, np.isin(work.classes, _PRODUCT_CLASSES)
    fma = np.where(product, fma, work.m * work.k)
    rate = compute.fma_per_clock[precision] * compute.issue_efficiency[precision] * tile["efficiency"] * factors
    rate = np.where(product, rate * compute.kernel_efficiency.get(precision, 1.0), rate)
    outputs, threads = tile["tile_m"] * tile["tile_n"], 32.0 * tile["warps"]
    around = (compute.prologue_slots * threads + compute.epilogue_slots * outputs) / compute.fma_per_clock["fp32"]
    around = np.where(product, around, 0.0)
    dram, l2 = _traffic(work, tile, rows, columns, slots, split, chip=chip, element=element)
    free = work.classes == "free"
    blocks = blocks * split
    return Launches(
        classes=work.classes,
        precision=precision,
        blocks=np.where(free, 1.0, blocks),
        cycles=np.where(free, 0.0, fma / blocks / rate + around),
        l2_bytes=np.where(free, 0.0, l2 / blocks),
        dram_bytes=np.where(free, 0.0, dram),
        fma=np.where(free, 0.0, fma),
        resident=tile["resident"],
        warps=tile["warps"],
        stages=tile["stages"],
        access=tile["access"],
    )


def _traffic(
    work: Work,
    tile: dict[str, FloatArray],
    rows: FloatArray,
    columns: FloatArray,
    slots: FloatArray,
    split: FloatArray,
    *,
    chip: Chip,
    element: float,
) -> tuple[FloatArray, FloatArray]:
    """Bytes from DRAM and through L2 [operator].

    The waves run over the tiles along the rows or along the columns, whichever re-reads less; what fits in L2 is not
    read again, and a small activation is still there from the operator before.
    """
    size = chip.memory.l2_size_bytes

    def missed(bytes_: FloatArray) -> FloatArray:
        return np.clip(1.0 - 0.75 * size / np.maximum(bytes_, 1.0), 0.0, 1.0)

    first = np.clip(1.0 - 0.5 * size / np.maximum(work.activation_bytes, 1.0), 0.0, 1.0)
    wide = np.ceil(rows / np.maximum(1.0, np.floor(slots / columns))) - 1
    tall = np.ceil(columns / np.maximum(1.0, np.floor(slots / rows))) - 1
    again_weights = work.weight_bytes * missed(work.weight_bytes)
    again_activations = work.activation_bytes * missed(work.activation_bytes)
    by_rows = wide * again_weights + (np.ceil(columns / slots) - 1) * again_activations
    by_columns = tall * again_activations + (np.ceil(rows / slots) - 1) * again_weights
    product = np.isin(work.classes, ("gemm", "conv", "winograd"))
    again = np.where(product, np.minimum(by_rows, by_columns), 0.0)
    moved = tile["transforms"] * (work.activation_bytes + work.output_bytes)
    partial = 2.0 * work.output_bytes * (split - 1) * (4.0 / element)
    unique = work.activation_bytes * first + work.weight_bytes + work.output_bytes
    dram = unique + again + (moved + partial) * np.clip(1.0 - size / np.maximum(moved + partial, 1.0), 0.0, 1.0)
    loads = (
        rows
        * columns
        * work.groups
        * work.k
        * element
        * (tile["tile_m"] / np.minimum(work.reuse, 3.0) + tile["tile_n"])
    )
    touched = work.activation_bytes + work.weight_bytes + work.output_bytes
    l2 = np.where(product, loads + work.output_bytes, touched) + moved + partial
    return dram, np.maximum(l2, dram)


def _pick(sets: Sequence[Launches], best: npt.NDArray[np.intp]) -> Launches:
    columns = np.arange(len(best))

    def take(name: str) -> FloatArray:
        return np.asarray(np.stack([getattr(each, name) for each in sets])[best, columns])

    numbers = {field.name: take(field.name) for field in fields(Launches) if field.name not in ("classes", "precision")}
    return Launches(classes=sets[0].classes, precision=sets[0].precision, **numbers)


def _shape(operator: Operator, element_bytes: float) -> tuple[float, float, float, float]:
    if operator.gemm is not None:
        product = operator.gemm
        return product.m, product.n, product.k, product.groups
    outputs = max(1.0, operator.bytes_written / element_bytes)
    return outputs, 1.0, max(1.0, operator.flops / 2 / outputs), 1.0


def _reuse(operator: Operator, element_bytes: float) -> float:
    """How often the product reads each activation: R·S / stride² of a convolution."""
    activation_bytes = operator.bytes_read - operator.weight_bytes
    if operator.gemm is None or activation_bytes <= 0:
        return 1.0
    product = operator.gemm
    return element_bytes * product.m * product.k * product.groups / activation_bytes
