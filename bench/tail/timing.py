"""Layers at any widths → their times inside a network, each measured once and kept in `build/train/layers.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from amble.levers.widths.network import Layer, Network
from amble.levers.widths.staircase import shape_of
from amble.runtimes.onnx.layers import OnnxLayers

__all__ = ["Times"]

_RUNS = 60
_ROUNDS = 3  # the fastest counts: other work on the machine only ever slows a round down


@dataclass(slots=True)
class Times:
    """The time of each layer at any widths [s], for one network and batch."""

    network: Network
    path: Path
    batch: int = 1
    between_bytes: int = 0  # that pass through the caches between two runs, as the rest of the network would read
    _known: dict[str, float] = field(default_factory=dict)
    _unsaved: int = 0

    def __post_init__(self) -> None:
        """Read what is known."""
        if self.path.exists():
            self._known = json.loads(self.path.read_text())

    def __call__(self, layer: Layer, inputs: int, outputs: int) -> float:
        """Return the time [s], measuring it where it is not known."""
        shape = shape_of(layer, self.network)
        key = f"{shape} batch {self.batch} {shape.padding} {inputs} {outputs}"
        if key not in self._known:
            probe = OnnxLayers(self.batch, self.between_bytes)
            self._known[key] = min(probe.time(shape, inputs, outputs, _RUNS).latency_s for _ in range(_ROUNDS))
            self._unsaved += 1
            if self._unsaved >= 50:
                self.save()
        return self._known[key]

    def save(self) -> None:
        """Write what is known, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".partial{id(self)}")
        partial.write_text(json.dumps(self._known))
        partial.replace(self.path)
        self._unsaved = 0
