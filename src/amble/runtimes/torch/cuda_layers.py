"""One layer at any width → its time on an NVIDIA GPU, by torch's own kernels and the GPU's events (extra ``torch``).

A layer follows one that wrote its input, so its input is warm and its weights are not: a buffer as large as the rest of
the network is rewritten between two runs. cuDNN picks its algorithm once for each width, before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from amble.core.errors import Refused
from amble.core.layers import Shape
from amble.core.ports import FloatArray, Timing

__all__ = ["CudaLayers", "events_s", "layer_of"]

_WARM_UP = 5
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Timer = Callable[[Callable[[], object], Callable[[], object], int], FloatArray]
"""The work, what comes between two runs of it, number of runs → times [s], [run]."""


def events_s(work: Callable[[], object], between: Callable[[], object], runs: int) -> FloatArray:
    """Time runs by events on the current stream, which the host's own delays do not lengthen."""
    ends = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
    for start, end in ends:
        between()
        start.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return np.array([1e-3 * start.elapsed_time(end) for start, end in ends])


@dataclass(frozen=True, slots=True)
class CudaLayers:
    """Times layers on one GPU; ``place`` is a torch device, ``timer`` how runs of it are timed."""

    batch: int = 1
    between_bytes: int = 0
    precision: str = "fp32"
    place: str = "cuda"
    timer: Timer = events_s

    def __post_init__(self) -> None:
        """Refused where torch sees no GPU."""
        if self.place.startswith("cuda") and not torch.cuda.is_available():
            raise Refused("torch sees no NVIDIA GPU here: check nvidia-smi and that torch was built for CUDA")
        if self.precision not in _DTYPES:
            raise ValueError(f"precision is one of {', '.join(_DTYPES)}, not {self.precision!r}")

    @property
    def device(self) -> str:
        """Return the GPU's name."""
        return str(torch.cuda.get_device_name(self.place)) if self.place.startswith("cuda") else self.place

    @property
    def library(self) -> str:
        """Return torch and the libraries behind it, with their versions."""
        return f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"

    def time(self, shape: Shape, inputs: int, outputs: int, runs: int) -> Timing:
        """Run the layer at these widths so many times; energy is not known for single kernels here."""
        dtype = _DTYPES[self.precision]
        layer = layer_of(shape, inputs, outputs).to(self.place, dtype, memory_format=_format(shape)).eval()
        size = (self.batch, inputs) if shape.kind == "gemm" else (self.batch, inputs, *shape.size)
        given = torch.randn(size).to(self.place, dtype, memory_format=_format(shape))
        buffer = torch.ones(self.between_bytes // 4 + 1, device=self.place)
        with torch.inference_mode():
            times_s = self.timer(lambda: layer(given), lambda: buffer.add_(1.0), runs + _WARM_UP)[_WARM_UP:]
        low_s, middle_s, high_s = np.quantile(times_s, (0.1, 0.5, 0.9))
        return Timing(float(middle_s), float(high_s - low_s), None)


def layer_of(shape: Shape, inputs: int, outputs: int) -> nn.Module:
    """Return the layer with a rectifier, as inside a network."""
    if shape.kind == "gemm":
        return nn.Linear(inputs, outputs)
    groups = inputs if shape.kind == "depthwise" else shape.groups
    conv = nn.Conv2d(inputs, outputs, shape.kernel, shape.stride, shape.padding, shape.dilation, groups)
    return nn.Sequential(conv, nn.ReLU(inplace=True))


def _format(shape: Shape) -> torch.memory_format:
    return torch.contiguous_format if shape.kind == "gemm" else torch.channels_last
