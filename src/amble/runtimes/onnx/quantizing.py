"""An ONNX file → the same network in INT8: calibrated static, dynamic, or calibrated with some operators left alone.

Static quantisation writes QuantizeLinear and DequantizeLinear pairs (QDQ) around every operator that ONNX Runtime has
an INT8 kernel for, weights per output channel. Its ranges come from running examples once; after that any number of
networks, with any operators left in floating point, is made from the same ranges. Which of them is worth having only a
measurement tells (`adapt.choose`).

Activations are unsigned (U8) or signed (S8), weights signed (S8). On x86 with VNNI U8S8 is the one with fast kernels.
Without VNNI those kernels cut sums of two products at 16 bits (`adapt.products`): weights of 7 bits (S7) never make
them too large, and unsigned weights (U8) have kernels that do not cut, which take twice as long.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_dynamic
from onnxruntime.quantization.calibrate import CalibrationDataReader, HistogramCollector, TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from amble.core.errors import Refused
from amble.core.ports import Tensors

__all__ = [
    "Activations",
    "Prepared",
    "Ranges",
    "Weights",
    "calibrate",
    "dynamic",
    "layers",
    "prepare",
    "refusing",
    "static",
]

Activations = Literal["u8", "s8"]
Weights = Literal["s8", "s7", "u8"]

_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_KINDS = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
_WIDE = 1e37  # beyond it float32 has no room for a range of both signs
_MOST_WIDER = 1000  # times that a histogram may grow, bin by bin
_DYNAMIC_KINDS = ("MatMul", "Gemm", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network made ready for quantisation: folded, fused, its shapes inferred, every node named."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """What every tensor of a prepared network went through, smallest and largest, over ``num_examples``.

    ``endless`` are those that were not always finite, as scores behind a mask of −∞: bytes cannot hold that.
    """

    tensors: Any  # onnxruntime.quantization's TensorsData
    num_examples: int
    endless: frozenset[str] = frozenset()


def prepare(source: Path, folder: Path) -> Prepared:
    """Fold and fuse a network, and infer its shapes anew; Refused when ONNX Runtime cannot.

    Shapes that an exporter left behind are dropped first: quantisation changes nodes and then finds them wrong.
    Symbolic inference is left out, which fails on transformers and is not needed where ranks are known.
    """
    model = onnx.load(str(source))
    del model.graph.value_info[:]
    _name_nodes(model.graph)
    lean, ready = folder / "lean.onnx", folder / "prepared.onnx"
    onnx.save(model, str(lean))
    with refusing(source.name, "prepared for quantisation"):
        quant_pre_process(str(lean), str(ready), skip_symbolic_shape=True)
    lean.unlink()
    return Prepared(ready, source.stem)


def calibrate(prepared: Prepared, feeds: Sequence[Tensors], *, percentile: float | None = None) -> Ranges:
    """Run examples, each a batch → the range of every tensor. ValueError without any.

    The range is from the least value to the greatest, or is cut at this percentile at both ends:
    a few outliers then do not widen the steps of all others.
    """
    if not feeds:
        raise ValueError("calibration needs at least one example")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="amble-"))
        stack.enter_context(refusing(prepared.name, "calibrated"))
        calibrator = create_calibrator(
            prepared.path,
            None,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax if percentile is None else CalibrationMethod.Percentile,
            extra_options={} if percentile is None else {"percentile": percentile, "symmetric": False},
        )
        stack.enter_context(redirect_stdout(StringIO()))  # where it reports on its percentiles
        finite = _Finite()
        if percentile is not None:
            calibrator.collector = finite.before(calibrator)
        for feed in feeds:  # one by one: every tensor of a network is kept until its batch is counted
            calibrator.collect_data(_Feeds([feed]))
        tensors = calibrator.compute_data()
    num = sum(len(next(iter(feed.values()))) for feed in feeds)
    endless = {name for name, each in tensors.items() if not np.isfinite(each.range_value).all()}
    return Ranges(tensors, num, frozenset(endless | finite.endless))


def static(
    prepared: Prepared,
    ranges: Ranges,
    output: Path,
    *,
    activations: Activations,
    weights: Weights = "s8",
    leave: Iterable[str] = (),
) -> None:
    """Write the network in INT8, all but the nodes to ``leave`` in floating point; Refused when it cannot be done.

    Nodes stay in floating point as well whose tensors are not always finite: the quantiser leaves what has no range.
    """
    with refusing(prepared.name, "quantised"):
        quantiser = QDQQuantizer(
            onnx.load(str(prepared.path)),
            per_channel=True,
            reduce_range=weights == "s7",
            weight_qType=_KINDS["u8" if weights == "u8" else "s8"],
            activation_qType=_KINDS[activations],
            tensors_range=_without(ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=sorted(leave),
            op_types_to_quantize=list(QDQRegistry),
            extra_options={"WeightSymmetric": True},  # unsigned ones need the same zero for every channel
        )
        quantiser.quantize_model()
        _save(quantiser.model.model, output)


def dynamic(prepared: Prepared, output: Path, *, weights: Weights = "s8", leave: Iterable[str] = ()) -> None:
    """Write the network with INT8 weights, its activations quantised as they come; needs no examples.

    The nodes to ``leave`` stay in floating point.
    """
    with refusing(prepared.name, "quantised"):
        quantize_dynamic(
            str(prepared.path),
            str(output),
            op_types_to_quantize=list(_DYNAMIC_KINDS),
            nodes_to_exclude=sorted(leave),
            per_channel=True,
            reduce_range=weights == "s7",
            weight_type=_KINDS["u8" if weights == "u8" else "s8"],
        )


def layers(prepared: Prepared) -> tuple[tuple[str, ...], ...]:
    """Return the nodes in groups, each a product (convolution, Gemm, MatMul) and what follows until the next one.

    [layer][node]: what an operator-wise mix decides on; what comes before the first product belongs to it.
    """
    groups: list[list[str]] = [[]]
    seen = False
    for node in onnx.load(str(prepared.path), load_external_data=False).graph.node:
        if node.op_type in _HEAVY:
            if seen:
                groups.append([])
            seen = True
        groups[-1].append(node.name)
    return tuple(tuple(group) for group in groups)


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # the runtime is not typed
    """Hands batches to the calibrator, one at a time."""

    def __init__(self, feeds: Sequence[Tensors]) -> None:
        self._left: Iterator[Tensors] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch; None at the end."""
        feed = next(self._left, None)
        return None if feed is None else dict(feed)


class _Finite:
    """Stands before the calibrator's collector of histograms, and hands it what it can take; knows who was endless.

    It takes finite values, of a type whose numbers lie close enough for its bins, and adds bins of the first batch's
    width for as long as a later one is wider: without number where the first was next to nothing.
    """

    def __init__(self) -> None:
        self.endless: set[str] = set()
        self._kinds: dict[str, Any] = {}
        self._collector: Any = None

    def before(self, calibrator: Any) -> _Finite:
        """Take the place of the collector that the calibrator would make."""
        self._collector = HistogramCollector(
            method=calibrator.method,
            symmetric=calibrator.symmetric,
            num_bins=calibrator.num_bins,
            num_quantized_bins=calibrator.num_quantized_bins,
            percentile=calibrator.percentile,
            scenario=calibrator.scenario,
        )
        return self

    def collect(self, arrays: dict[str, list[Any]]) -> Any:
        """Hand on what is finite, flat, and one zero where nothing is."""
        finite = {}
        for name, values in arrays.items():
            whole = np.concatenate([np.ravel(each) for each in values])
            kept = whole[np.isfinite(whole)]
            if len(kept) < len(whole):
                self.endless.add(name)
            self._kinds[name] = whole.dtype if whole.dtype == np.float16 else np.float32
            finite[name] = [self._fitted(name, kept if len(kept) else np.zeros(1, whole.dtype))]
        return self._collector.collect(finite)

    def _fitted(self, name: str, values: Any) -> Any:
        """Return the values as the histogram of their tensor takes them; it is made coarser where they lie far out."""
        most = float(np.abs(values).max())
        told = self._collector.histogram_dict.get(name)
        if told is not None and 0 < float(told[4]) * _MOST_WIDER < most:
            counts, edges, low, high, _ = told
            middles = (edges[:-1].astype(np.float64) + edges[1:]) / 2
            counts, edges = np.histogram(middles, self._collector.num_bins, range=(-most, most), weights=counts)
            self._collector.histogram_dict[name] = (counts.astype(np.int64), edges, low, high, np.float64(most))
        return values if values.dtype == np.float32 and most < _WIDE else values.astype(np.float64)

    def compute_collection_result(self) -> Any:
        """Return the ranges, in the types of their tensors; none where no tensor is of a type that is quantised."""
        if not self._collector.histogram_dict:
            return {}
        found = self._collector.compute_collection_result()
        return {
            name: (low.astype(self._kinds[name]), high.astype(self._kinds[name]), *others)
            for name, (low, high, *others) in found.items()
        }


def _without(ranges: Ranges) -> TensorsData:
    """Return the ranges of the tensors that are always finite."""
    finite = {name: each for name, each in ranges.tensors.items() if name not in ranges.endless}
    return TensorsData(ranges.tensors.calibration_method, finite)


@contextmanager
def refusing(name: str, doing: str) -> Iterator[None]:
    """Turn whatever the runtime's quantiser raises into one line, and keep its remarks off the root logger.

    It logs there directly, which would also install a handler that nobody asked for.
    """
    silent, drop = logging.NullHandler(), _Drop()
    logging.root.addHandler(silent)
    logging.root.addFilter(drop)
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise Refused(f"{name} cannot be {doing}: {type(error).__name__}: {reason}") from error
    finally:
        logging.root.removeFilter(drop)
        logging.root.removeHandler(silent)


class _Drop(logging.Filter):
    """Drops what is logged to the root logger itself; what comes up from other loggers does not pass here."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop it."""
        return False


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Name every node uniquely: nodes are left out of quantisation by name."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        while node.name in taken:
            node.name += "_"
        taken.add(node.name)


def _save(model: onnx.ModelProto, output: Path) -> None:
    """Save without the shapes that were inferred before quantisation."""
    del model.graph.value_info[:]
    onnx.save(model, str(output))
