"""An ONNX file and examples → the cheaper networks that are worth trying, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx

from amble.core.ports import Tensors
from amble.levers.precision.choose import Candidate
from amble.levers.precision.half import Half, halved
from amble.runtimes.onnx.quantizing import Prepared, Ranges, calibrate, dynamic, prepare, refusing, static

__all__ = ["Workshop"]

_PERCENTILE = 99.99
_MOST_CLIPPED = 32  # examples: counting magnitudes takes many times as long as running them
_ABOUT = {
    "int8-u8s8": "INT8 weights per channel, unsigned INT8 activations, calibrated",
    "int8-s8s8": "INT8 weights per channel, signed INT8 activations, calibrated",
    "int8-u8s8-clipped": f"the same as int8-u8s8, ranges cut at the {_PERCENTILE:g}th percentile",
    "int8-dynamic": "INT8 weights per channel, activations as they come",
}


@dataclass(slots=True)
class Workshop:
    """Makes candidates from one network; it is prepared and calibrated once, when the first candidate needs it."""

    source: Path
    folder: Path
    feeds: Sequence[Tensors]
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
        return (*(self.int8(kind) for kind in _ABOUT), self._half("fp16"), self._half("bf16"))

    def int8(self, kind: str, leave: Collection[str] = (), name: str = "") -> Candidate:
        """Return an INT8 variant by its kind, these nodes left in floating point (then it is called ``mixed``)."""
        about = _ABOUT[kind] + (f", {len(leave)} operators left in floating point" if leave else "")
        precision = "mixed" if leave else "int8"
        return Candidate(name or kind, precision, about, partial(self._quantise, kind, tuple(leave)), tuple(leave))

    def _quantise(self, kind: str, leave: Collection[str], output: Path) -> None:
        if kind == "int8-dynamic":
            dynamic(self.prepared, output, leave=leave)
            return
        ranges = self._calibrated(clipped=kind == "int8-u8s8-clipped")
        static(self.prepared, ranges, output, activations="s8" if kind == "int8-s8s8" else "u8", leave=leave)

    def _calibrated(self, *, clipped: bool) -> Ranges:
        if clipped not in self._ranges:
            feeds, percentile = (self.feeds[:_MOST_CLIPPED], _PERCENTILE) if clipped else (self.feeds, None)
            self._ranges[clipped] = calibrate(self.prepared, feeds, percentile=percentile)
        return self._ranges[clipped]

    def _half(self, precision: Half) -> Candidate:
        return Candidate(precision, precision, "cast to half precision", partial(self._halve, precision))

    def _halve(self, precision: Half, output: Path) -> None:
        with refusing(self.source.name, f"cast to {precision}"):
            onnx.save(halved(onnx.load(str(self.source)), precision), str(output))
