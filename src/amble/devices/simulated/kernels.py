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
from amble.devices.simulated.chip import Chip, Kernel

__all__ = ["ELEMENT_BYTES", "Launches", "Work", "classify", "launches", "work_of"]

ELEMENT_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int32": 4.0, "int8": 1.0}

_FREE = frozenset({"Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze", "Shape", "Constant", "Dropout"})
_PRODUCT_CLASSES = ("gemm", "conv", "winograd", "depthwise", "gemv")
_TILED_CLASSES = ("gemm", "conv", "winograd")
_MAX_GEMV_ROWS = 4
_SHORTEST_SPLIT = 64  # of k
_MOST_L1_REUSE = 3.0
_WINOGRAD_REUSES = ((8.2, 9.6), (4.3, 4.7))  # 3 x 3; half of it with an addition fused, which reads as much again
_MIN_WINOGRAD_CHANNELS = 16


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


@dataclass(frozen=True, slots=True)
class _Grid:
    """Tiles of a launch: rows × columns a group, slots on the chip, parts that k is split into. All [operator]."""

    tile: dict[str, FloatArray]
    rows: FloatArray
    columns: FloatArray
    slots: FloatArray
    split: FloatArray


def _grid(work: Work, chip: Chip, kernels: Sequence[Kernel]) -> _Grid:
    tile = {
        field.name: np.array([getattr(each, field.name) for each in kernels], dtype=np.float64)
        for field in fields(Kernel)
    }
    rows, columns = np.ceil(work.m / tile["tile_m"]), np.ceil(work.n / tile["tile_n"])
    slots = chip.compute.units * tile["resident"]
    wanted = np.floor(np.minimum(slots / (rows * columns * work.groups), work.k / _SHORTEST_SPLIT))
    return _Grid(tile, rows, columns, slots, np.clip(wanted, 1, tile["split_max"]))


def _lay_out(work: Work, precision: str, *, chip: Chip, kernels: Sequence[Kernel], factors: FloatArray) -> Launches:
    grid = _grid(work, chip, kernels)
    tile, compute, product = grid.tile, chip.compute, np.isin(work.classes, _PRODUCT_CLASSES)
    blocks, outputs = grid.rows * grid.columns * work.groups, tile["tile_m"] * tile["tile_n"]
    steps = np.where(work.classes == "depthwise", work.k, np.ceil(work.k / 8) * 8)
    fma = np.where(product, blocks * outputs * steps * tile["flops_ratio"], work.m * work.k)
    rate = compute.fma_per_clock[precision] * compute.issue_efficiency[precision] * tile["efficiency"] * factors
    rate = np.where(product, rate * compute.kernel_efficiency.get(precision, 1.0), rate)
    around = compute.prologue_slots * 32.0 * tile["warps"] + compute.epilogue_slots * outputs
    around = np.where(product, around, 0.0) / compute.fma_per_clock["fp32"]
    between = _between_bytes(work, grid, ELEMENT_BYTES[precision])
    dram = _dram_bytes(work, grid, chip.memory.l2_size_bytes, between)
    l2 = np.maximum(dram, _l2_bytes(work, grid, ELEMENT_BYTES[precision], between))
    blocks, works = blocks * grid.split, np.where(work.classes == "free", 0.0, 1.0)
    return Launches(
        classes=work.classes,
        precision=precision,
        blocks=np.where(works > 0, blocks, 1.0),
        cycles=works * (fma / blocks / rate + around),
        l2_bytes=works * l2 / blocks,
        dram_bytes=works * dram,
        fma=works * fma,
        resident=tile["resident"],
        warps=tile["warps"],
        stages=tile["stages"],
        access=tile["access"],
    )


def _between_bytes(work: Work, grid: _Grid, element_bytes: float) -> FloatArray:
    """What passes through memory inside a kernel: Winograd's transforms, and split products' partial sums in FP32."""
    transforms = grid.tile["transforms"] * (work.activation_bytes + work.output_bytes)
    return np.asarray(transforms + 2.0 * work.output_bytes * (grid.split - 1) * (4.0 / element_bytes))


def _dram_bytes(work: Work, grid: _Grid, l2_size_bytes: float, between_bytes: FloatArray) -> FloatArray:
    """Traffic with DRAM [operator].

    The waves run over the tiles along the rows or along the columns, whichever re-reads less; what fits in L2 is not
    read again, and a small activation is still there from the operator before.
    """

    def missed(bytes_: FloatArray, kept: float) -> FloatArray:
        return np.clip(1.0 - kept * l2_size_bytes / np.maximum(bytes_, 1.0), 0.0, 1.0)

    wide = np.ceil(grid.rows / np.maximum(1.0, np.floor(grid.slots / grid.columns))) - 1
    tall = np.ceil(grid.columns / np.maximum(1.0, np.floor(grid.slots / grid.rows))) - 1
    weights = work.weight_bytes * missed(work.weight_bytes, 0.75)
    activations = work.activation_bytes * missed(work.activation_bytes, 0.75)
    by_rows = wide * weights + (np.ceil(grid.columns / grid.slots) - 1) * activations
    by_columns = tall * activations + (np.ceil(grid.rows / grid.slots) - 1) * weights
    again = np.where(np.isin(work.classes, _TILED_CLASSES), np.minimum(by_rows, by_columns), 0.0)
    first = work.activation_bytes * missed(work.activation_bytes, 0.5) + work.weight_bytes + work.output_bytes
    return np.asarray(first + again + between_bytes * missed(between_bytes, 1.0))


def _l2_bytes(work: Work, grid: _Grid, element_bytes: float, between_bytes: FloatArray) -> FloatArray:
    """Traffic between L2 and the SMs [operator]: every block loads its rows and columns; L1 catches some windows."""
    sides = grid.tile["tile_m"] / np.minimum(work.reuse, _MOST_L1_REUSE) + grid.tile["tile_n"]
    loads = grid.rows * grid.columns * work.groups * work.k * element_bytes * sides + work.output_bytes
    touched = work.activation_bytes + work.weight_bytes + work.output_bytes
    return np.asarray(np.where(np.isin(work.classes, _TILED_CLASSES), loads, touched) + between_bytes)


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
