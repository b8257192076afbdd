"""An ONNX file and examples → its coupled channels with their worth; widths → a narrower ONNX file, tuned or not.

The one way to pruning for code that has no torch: arrays and paths go in and out. Torch ranks channels and trains;
the file itself is cut, and trained weights go back to where they lay in it, so that it keeps the operators it had.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import fx

from amble.core.errors import Refused
from amble.levers.widths import renormalising, worth
from amble.levers.widths.channels.coupling import Coupling
from amble.levers.widths.channels.cutting import checked
from amble.levers.widths.channels.file import answers, name_of
from amble.levers.widths.channels.ranking import Ranked, ranked, sizes
from amble.levers.widths.channels.trial import ALIKE, tried
from amble.levers.widths.network import Network, Widths
from amble.levers.widths.renormalising import Spread
from amble.runtimes.torch import training
from amble.runtimes.torch.importing import read
from amble.runtimes.torch.reading import Origin, plain
from amble.runtimes.torch.training import Distillation, Epoch, Labelled, Recipe

__all__ = ["Narrowing", "opened"]

Worth = Literal["taylor", "l1", "bn"]
"""Loss to first order in a gate on each channel (Taylor); sum of absolute weights; scale of batch normalisation."""

_BATCH = 128
_TOP_RATE = 0.01  # where nothing is normalised
_TOP_RATE_NORMALISED, _BATCH_NORMALISED = 0.05, 64  # what was cut far learns from many steps
_STEEPEST = 1.0  # of gradients: a network that has just been cut is easily thrown off
_RANKED = 512  # examples that tell what channels are worth
_SETTLED = 1024  # examples that statistics are taken from
_LEAST_NORMALISED = 16  # examples of a batch that its own statistics can stand for

_NOTHING = 1e-9
_READ_ALIKE = 1e-2  # of the largest answer: kernels of torch and of the runtime add in other orders

OnEpoch = Callable[[int, float], None]
"""Epochs done, mean loss of the last one."""


@dataclass(frozen=True, slots=True, eq=False)
class Narrowing:
    """A network that can be had narrower; ``data`` is what it is ranked and tuned with, ``spreads`` what it writes."""

    module: fx.GraphModule
    ranked: Ranked
    data: Labelled
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        """Return its layers and groups, with what every channel is worth."""
        return self.ranked.network

    @property
    def stays(self) -> Mapping[str, str]:
        """Return the layers that keep their channels, with the reasons."""
        return self.ranked.coupled.stays

    def write(self, widths: Widths, path: Path) -> None:
        """Write it with these widths, as it is after cutting; Refused where it would not answer as it should."""
        if checked(self.ranked.coupled, self.ranked.gone(widths)) > ALIKE:
            raise Refused(
                f"{self.network.name}: cut to {dict(widths)} it does not give the answers of the network with those "
                "weights at zero; ask for other widths (--width), and please report the network"
            )
        _save(self.ranked.cut(widths), path)

    def tune(
        self,
        widths: Widths,
        path: Path,
        *,
        epochs: int,
        checkpoint: Path | None = None,
        on_epoch: OnEpoch = lambda done, loss: None,
    ) -> None:
        """Cut, tune (going on from a checkpoint) and write it; the network as it was is the teacher.

        Without epochs only what layers write gets the spread again that it had, if that brings answers nearer.
        """
        model = self.ranked.cut(widths)
        _with_biases(model, self._kept(widths))
        smaller, origins = read(model, path.name)
        plainly = copy.deepcopy(smaller)
        renormalising.normalised(smaller, self._kept(widths))
        renormalising.settled(smaller, self.data.inputs[:_SETTLED])
        if epochs:
            self._train(smaller, origins, epochs, checkpoint, on_epoch)
            renormalising.settled(smaller, self.data.inputs[:_SETTLED])
        elif self._far(plainly) <= self._far(smaller):
            smaller = plainly
        renormalising.folded(smaller)
        _put_back(model, smaller, origins)
        _save(model, path)

    def epoch_s(self) -> float:
        """Return about how long an epoch of tuning takes [s], from two batches of the network as it is."""
        recipe = self._recipe(1)
        batch = recipe.batch
        labels = None if self.data.labels is None else self.data.labels[: 2 * batch]
        some = Labelled(self.data.inputs[: 2 * batch], labels)
        copied = copy.deepcopy(self.module).to(memory_format=torch.channels_last)
        (epoch,) = training.train(copied, some, recipe, loss=Distillation(self.module))
        return epoch.time_s * (len(self.data) // batch) / (len(some) // batch)

    def _train(
        self,
        smaller: fx.GraphModule,
        origins: Mapping[str, Origin],
        epochs: int,
        checkpoint: Path | None,
        on_epoch: OnEpoch,
    ) -> None:
        for name, parameter in smaller.named_parameters():
            parameter.requires_grad_(name in origins or renormalising.SUFFIX in name)
        smaller.to(memory_format=torch.channels_last)

        def told(epoch: Epoch) -> None:
            on_epoch(epoch.number, epoch.loss)

        loss = Distillation(self.module)
        training.train(smaller, self.data, self._recipe(epochs), loss=loss, checkpoint=checkpoint, on_epoch=told)

    def _recipe(self, epochs: int) -> Recipe:
        rate, batch = (_TOP_RATE_NORMALISED, _BATCH_NORMALISED) if self.spreads else (_TOP_RATE, _BATCH)
        return Recipe(epochs, top_rate=rate, steepest=_STEEPEST, batch=min(batch, len(self.data)))

    def _kept(self, widths: Widths) -> dict[str, Spread]:
        """Return the spread that layers wrote before, of the channels that they keep."""
        coupled, gone = self.ranked.coupled, self.ranked.gone(widths)
        found = {}
        for layer in coupled.layers:
            name = plain(name_of(layer.node))
            if name in self.spreads:
                kept = torch.from_numpy(~np.isin(coupled.classes[layer.written], gone))
                found[name] = self.spreads[name].of(kept)
        return found

    def _far(self, network: fx.GraphModule) -> float:
        """Return how far the answers are from the teacher's."""
        inputs = self.data.inputs[:_RANKED]
        network.eval()
        with torch.inference_mode():
            return float(Distillation(self.module)(network, inputs, None, progress=1.0))


def opened(
    path: Path, inputs: npt.NDArray[Any], labels: npt.NDArray[np.int64] | None, *, worth: Worth = "taylor"
) -> Narrowing:
    """Read a network, find which channels go together and rank them by their worth on these examples.

    inputs: [example, ...]; labels: [example], or none. Refused for a network with several inputs or outputs, for an
    operator that cannot be read, with its name, and for labels that are none of the network's classes.
    """
    _one_of_each(path)
    coupled = tried(path, inputs[:1])
    module, origins = read(coupled.file.model, path.name)
    data = Labelled(torch.from_numpy(inputs), None if labels is None else torch.from_numpy(labels))
    _read_rightly(module, coupled, data.inputs[:2], path.name)
    training.classes_known(module, data)
    some = Labelled(data.inputs[:_RANKED], None if data.labels is None else data.labels[:_RANKED])
    found = ranked(coupled, _worth(worth, module, origins, coupled, some))
    if max((each.importance[-1] for each in found.network.groups), default=1.0) < _NOTHING:
        raise Refused("no example tells what channels are worth, the network is certain of all: take --importance l1")
    enough = min(_BATCH, len(data)) >= _LEAST_NORMALISED
    return Narrowing(module, found, data, renormalising.measured(module, data.inputs[:_SETTLED]) if enough else {})


def _worth(
    kind: Worth, module: fx.GraphModule, origins: Mapping[str, Origin], coupled: Coupling, data: Labelled
) -> Callable[[str, int], npt.NDArray[Any] | None]:
    if kind == "taylor":
        return worth.gates(module, origins, coupled, data)
    return sizes(coupled) if kind == "l1" else worth.scales(coupled)


def _one_of_each(path: Path) -> None:
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's own errors have no public name
        raise Refused(f"{path} cannot be read as an ONNX network ({error}): export it again") from error
    weights = {each.name for each in graph.initializer}
    inputs = [each.name for each in graph.input if each.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise Refused(
            f"{path.name} has {len(inputs)} inputs and {len(graph.output)} outputs; only networks with one of each can "
            f"be pruned: cut out the part between two tensors first"
        )


def _read_rightly(module: fx.GraphModule, coupled: Coupling, inputs: torch.Tensor, name: str) -> None:
    """Refuse a network that answers in torch otherwise than in the runtime, or takes one example at a time only."""
    (given,) = coupled.file.feed.values()
    (wanted,) = answers(coupled.file.model, coupled.file.feed, name).values()
    try:
        with torch.inference_mode():
            found = module.forward(torch.from_numpy(given)).numpy()  # a call would print where it fails
            whole = module.forward(inputs)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Refused(
            f"{name} cannot be trained, since it does not take several examples at once ({reason}): "
            "export it with a first dimension that is open (dynamic_axes)"
        ) from error
    if found.shape != wanted.shape or len(whole) != len(inputs) or _apart(found, wanted) > _READ_ALIKE:
        raise Refused(f"{name} does not answer in torch as it does in ONNX Runtime, so it cannot be trained here")


def _apart(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    return float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), _NOTHING))


def _with_biases(model: onnx.ModelProto, spreads: Mapping[str, Spread]) -> None:
    """Give layers a bias of zeros that have none and get a normalisation, which folds into it."""
    for node in model.graph.node:
        spread = spreads.get(plain(name_of(node)))
        if spread is not None and len(node.input) == 2:
            zeros = np.zeros(len(spread.mean), dtype=np.float32)
            name = f"{node.output[0]}_bias"
            model.graph.initializer.append(numpy_helper.from_array(zeros, name))
            node.input.append(name)


def _put_back(model: onnx.ModelProto, network: fx.GraphModule, origins: Mapping[str, Origin]) -> None:
    """Write trained weights to where they lie in the file."""
    values = {**dict(network.named_parameters(remove_duplicate=False)), **dict(network.named_buffers())}
    made = {
        origin.constant: (origin.laid_out(values[name].detach().numpy()) * origin.scale).astype(np.float32)
        for name, origin in origins.items()
    }
    for each in model.graph.initializer:
        if each.name in made:
            each.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(made[each.name]), each.name))


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    onnx.save(model, partial)
    partial.replace(path)
