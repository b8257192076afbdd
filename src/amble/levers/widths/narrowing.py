"""An ONNX file and examples → its coupled channels with their worth; widths → a narrower ONNX file, tuned or not.

The one door to pruning for code that has no torch: arrays and paths go in and out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from amble.core.errors import Refused
from amble.levers.widths import surgery
from amble.levers.widths.network import Network, Widths
from amble.levers.widths.surgery import Coupling, Worth
from amble.runtimes.torch import exporting, importing, training
from amble.runtimes.torch.training import Distillation, Epoch, Labelled, Recipe

__all__ = ["Narrowing", "opened"]

_BATCH = 128
_TOP_RATE = 0.01  # low: normalisation has been folded into the weights of an ONNX file
_STEEPEST = 1.0  # of gradients: without normalisation a network that has just been cut is easily thrown off
_RANKED = 512  # examples that tell what channels are worth

_NOTHING = 1e-9

OnEpoch = Callable[[int, float], None]
"""Epochs done, mean loss of the last one."""


@dataclass(frozen=True, slots=True, eq=False)
class Narrowing:
    """A network that can be had narrower; ``data`` is what it is ranked and tuned with."""

    module: nn.Module
    coupled: Coupling
    data: Labelled
    inputs: str
    outputs: str

    @property
    def network(self) -> Network:
        """Return its layers and groups, with what every channel is worth."""
        return self.coupled.network

    def write(self, widths: Widths, path: Path) -> None:
        """Write it with these widths, as it is after cutting."""
        self._export(surgery.pruned(self.module, self.coupled, widths), path)

    def tune(
        self,
        widths: Widths,
        path: Path,
        *,
        epochs: int,
        checkpoint: Path | None = None,
        on_epoch: OnEpoch = lambda done, loss: None,
    ) -> None:
        """Cut, tune (going on from a checkpoint) and write it; the network as it was is the teacher."""
        smaller = surgery.pruned(self.module, self.coupled, widths).to(memory_format=torch.channels_last)
        batch = min(_BATCH, len(self.data))
        recipe = Recipe(epochs, top_rate=_TOP_RATE, steepest=_STEEPEST, batch=batch)

        def told(epoch: Epoch) -> None:
            on_epoch(epoch.number, epoch.loss)

        loss = Distillation(self.module)
        training.train(smaller, self.data, recipe, loss=loss, checkpoint=checkpoint, on_epoch=told)
        self._export(smaller, path)

    def epoch_s(self) -> float:
        """Return about how long an epoch of tuning takes [s], from two batches of the network as it is."""
        batch = min(_BATCH, len(self.data))
        labels = None if self.data.labels is None else self.data.labels[: 2 * batch]
        some = Labelled(self.data.inputs[: 2 * batch], labels)
        copied = copy.deepcopy(self.module).to(memory_format=torch.channels_last)
        recipe = Recipe(1, top_rate=_TOP_RATE, steepest=_STEEPEST, batch=batch)
        (epoch,) = training.train(copied, some, recipe, loss=Distillation(self.module))
        return epoch.time_s * (len(self.data) // batch) / (len(some) // batch)

    def _export(self, module: nn.Module, path: Path) -> None:
        exporting.to_onnx(module, path, self.coupled.example, inputs=self.inputs, outputs=self.outputs)


def opened(
    path: Path, inputs: npt.NDArray[Any], labels: npt.NDArray[np.int64] | None, *, worth: Worth = "taylor"
) -> Narrowing:
    """Read a network, find which channels go together and rank them by their worth on these examples.

    inputs: [example, ...]; labels: [example], or none. Refused for a network with several inputs or outputs, for an
    operator that cannot be read, with its name, and for labels that are none of the network's classes.
    """
    names = _ports(path)
    module = importing.to_torch(path)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    data = Labelled(torch.from_numpy(inputs), None if labels is None else torch.from_numpy(labels))
    training.classes_known(module, data)
    coupled = surgery.coupling(module, data.inputs[:2], name=path.stem)
    some = Labelled(data.inputs[:_RANKED], None if data.labels is None else data.labels[:_RANKED])
    ranked = surgery.importance(module, coupled, some, kind=worth)
    if max((each.importance[-1] for each in ranked.network.groups), default=1.0) < _NOTHING:
        raise Refused("no example tells what channels are worth, the network is certain of all: take --importance l1")
    return Narrowing(module, ranked, data, *names)


def _ports(path: Path) -> tuple[str, str]:
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {each.name for each in graph.initializer}
    inputs = [each.name for each in graph.input if each.name not in weights]
    outputs = [each.name for each in graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise Refused(
            f"{path.name} has {len(inputs)} inputs and {len(outputs)} outputs; only networks with one of each can be "
            f"pruned: cut out the part between two tensors first"
        )
    return inputs[0], outputs[0]
