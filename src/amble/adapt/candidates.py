"""An ONNX file and examples → the cheaper networks that are worth trying, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx

from amble.adapt.choose import Candidate
from amble.adapt.half import Half, halved
from amble.adapt.quantize import Activations, Prepared, Ranges, calibrate, dynamic, prepare, static
from amble.core.ports import Tensors

__all__ = ["Workshop"]

_ABOUT = {
    "u8": "INT8 weights per channel, unsigned INT8 activations, calibrated",
    "s8": "INT8 weights per channel, signed INT8 activations, calibrated",
}


@dataclass(slots=True)
class Workshop:
    """Makes candidates from one network; it is prepared and calibrated once, when the first candidate needs it."""

    source: Path
    folder: Path
    feeds: Sequence[Tensors]
    _prepared: Prepared | None = field(default=None, init=False)
    _ranges: Ranges | None = field(default=None, init=False)

    @property
    def prepared(self) -> Prepared:
        """Return the network, ready for quantisation; Refused when it cannot be prepared."""
        if self._prepared is None:
            self._prepared = prepare(self.source, self.folder)
        return self._prepared

    def candidates(self) -> tuple[Candidate, ...]:
        """Return every whole-network variant."""
        return (
            self.static("u8"),
            self.static("s8"),
            Candidate("int8-dynamic", "int8", "INT8 weights per channel, activations as they come", self._dynamic),
            self._half("fp16"),
            self._half("bf16"),
        )

    def static(self, activations: Activations, leave: Collection[str] = (), name: str = "") -> Candidate:
        """Return the calibrated INT8 variant, these nodes left in floating point."""
        about = _ABOUT[activations] + (f", {len(leave)} operators left in floating point" if leave else "")
        make: Callable[[Path], None] = partial(self._static, activations, tuple(leave))
        precision = "mixed" if leave else "int8"
        return Candidate(name or f"int8-{activations}s8", precision, about, make, tuple(leave))

    def _static(self, activations: Activations, leave: Collection[str], output: Path) -> None:
        if self._ranges is None:
            self._ranges = calibrate(self.prepared, self.feeds)
        static(self.prepared, self._ranges, output, activations=activations, leave=leave)

    def _dynamic(self, output: Path) -> None:
        dynamic(self.prepared, output)

    def _half(self, precision: Half) -> Candidate:
        return Candidate(precision, precision, "cast to half precision", partial(self._halve, precision))

    def _halve(self, precision: Half, output: Path) -> None:
        onnx.save(halved(onnx.load(str(self.source)), precision), str(output))
