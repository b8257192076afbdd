"""An ONNX file in FP32 → the file that a device really runs: the same, or the network in INT8."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from amble.core.processor import Processor
from amble.runtimes import processors
from amble.runtimes.onnx.layers import Precision
from amble.runtimes.onnx.quantizing import Weights, calibrate, prepare, static
from amble.runtimes.onnx.reading import plain
from amble.stages.measure.accuracy import Examples

__all__ = ["Form"]

_MOST_CALIBRATION = 128


@dataclass(frozen=True, slots=True)
class Form:
    """How networks are run. INT8 is static: weights per channel, unsigned activations, ranges from ``examples``.

    Weights have 7 bits where the CPU, this machine's unless told, cuts the sums of INT8 products. Files in INT8 are
    written to ``folder``.
    """

    precision: Precision
    folder: Path
    examples: Examples
    batch: int
    processor: Processor | None = None

    def of(self, path: Path) -> Path:
        """Return the file that runs; Refused where the runtime cannot quantise the network."""
        if self.precision == "fp32":
            return path
        output = self.folder / f"{path.stem}-{self.precision}.onnx"
        with tempfile.TemporaryDirectory(prefix="amble-") as scratch:
            prepared = prepare(plain(path, Path(scratch) / "plain"), Path(scratch))
            num = min(_MOST_CALIBRATION, len(self.examples))
            feeds = [self.examples.batch(first, self.batch) for first in range(0, num, self.batch)]
            weights: Weights = "s7" if (self.processor or processors.here()).saturates else "s8"
            static(prepared, calibrate(prepared, feeds), output, activations="u8", weights=weights)
        return output
