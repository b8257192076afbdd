"""An ONNX file and examples → the cheaper networks that are worth trying, each made when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph, NotImplemented  # noqa: A004

from amble.core.errors import Refused
from amble.core.ports import Tensors
from amble.core.processor import Saturations
from amble.levers.precision.choose import Candidate
from amble.levers.precision.half import Half, halved
from amble.levers.precision.integer import saturations
from amble.runtimes.onnx.quantizing import (
    Activations,
    Prepared,
    Ranges,
    Weights,
    calibrate,
    dynamic,
    prepare,
    refusing,
    static,
)

__all__ = ["Workshop"]

_PERCENTILE = 99.99
_NO_KERNEL = re.compile(r"implementation for (\w+)\(|of operator \((\w+)\)")
_MOST_CLIPPED = 32  # examples: counting magnitudes takes many times as long as running them
_ABOUT = {
    "int8-u8s8": "INT8 weights per channel, unsigned INT8 activations, calibrated",
    "int8-s8s8": "INT8 weights per channel, signed INT8 activations, calibrated",
    "int8-u8s8-clipped": f"the same as int8-u8s8, ranges cut at the {_PERCENTILE:g}th percentile",
    "int8-dynamic": "INT8 weights per channel, activations as they come",
}
_WITHOUT_SATURATION = {
    "int8-u8s7": "weights of 7 bits per channel, whose products fit in 16, unsigned INT8 activations, calibrated",
    "int8-u8u8": "unsigned INT8 weights per channel, whose sums are exact, unsigned INT8 activations, calibrated",
    "int8-u8s7-clipped": f"the same as int8-u8s7, ranges cut at the {_PERCENTILE:g}th percentile",
    "int8-dynamic-s7": "weights of 7 bits per channel, activations as they come",
}
"""Tried beside the others where the CPU cuts the sums of INT8 products at 16 bits."""


@dataclass(slots=True)
class Workshop:
    """Makes candidates from one network; it is prepared and calibrated once, when the first candidate needs it.

    ``saturates`` tells whether the CPU cuts the sums of INT8 products.
    """

    source: Path
    folder: Path
    feeds: Sequence[Tensors]
    saturates: bool
    _prepared: Prepared | None = field(default=None, init=False)
    _ranges: dict[bool, Ranges] = field(default_factory=dict, init=False)

    @property
    def prepared(self) -> Prepared:
        """Return the network, ready for quantisation; Refused when it cannot be prepared."""
        if self._prepared is None:
            self._prepared = prepare(self.source, self.folder)
        return self._prepared

    def candidates(self) -> tuple[Candidate, ...]:
        """Return every whole-network variant."""
        kinds = [*_ABOUT, *(_WITHOUT_SATURATION if self.saturates else ())]
        return (*(self.int8(kind) for kind in kinds), self._half("fp16"), self._half("bf16"))

    def int8(self, kind: str, leave: Collection[str] = (), name: str = "") -> Candidate:
        """Return an INT8 variant by its kind, these nodes left in floating point (then it is called ``mixed``)."""
        about = {**_ABOUT, **_WITHOUT_SATURATION}[kind]
        about += f", {len(leave)} operators left in floating point" if leave else ""
        precision, left = "mixed" if leave else "int8", tuple(leave)
        return Candidate(name or kind, precision, about, partial(self._quantise, kind, left), left, self._count)

    def _count(self, path: Path) -> Saturations:
        with refusing(self.source.name, "searched for products that saturate"):
            return saturations(path, self.feeds)

    def _quantise(self, kind: str, leave: Collection[str], output: Path) -> None:
        weights: Weights = "s7" if "s7" in kind else "u8" if "u8u8" in kind else "s8"
        if kind.startswith("int8-dynamic"):
            dynamic(self.prepared, output, weights=weights, leave=leave)
            return
        activations: Activations = "s8" if kind == "int8-s8s8" else "u8"
        ranges = self._calibrated(clipped=kind.endswith("clipped"))
        static(self.prepared, ranges, output, activations=activations, weights=weights, leave=leave)

    def _calibrated(self, *, clipped: bool) -> Ranges:
        if clipped not in self._ranges:
            feeds, percentile = (self.feeds[:_MOST_CLIPPED], _PERCENTILE) if clipped else (self.feeds, None)
            self._ranges[clipped] = calibrate(self.prepared, feeds, percentile=percentile)
        return self._ranges[clipped]

    def _half(self, precision: Half) -> Candidate:
        return Candidate(precision, precision, "cast to half precision", partial(self._halve, precision))

    def _halve(self, precision: Half, output: Path) -> None:
        with refusing(self.source.name, f"cast to {precision}"):
            made = halved(onnx.load(str(self.source)), precision)
            onnx.save(made, str(output))
            _need_kernels(output, precision)


def _need_kernels(path: Path, precision: Half) -> None:
    """Refuse a network in half precision whose operators the runtime neither has kernels for nor casts around."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (InvalidGraph, NotImplemented) as error:
        found = _NO_KERNEL.search(str(error))
        kind = found[1] or found[2] if found else "one of its operators"
        raise Refused(f"ONNX Runtime takes no {precision} in {kind} on this CPU at the network's opset") from error
