"""A network in torch and examples → what each channel is worth to the answers, by the places of its weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import onnx
from torch import fx, nn

from amble.core.errors import Refused
from amble.levers.widths.channels.coupling import Coupling
from amble.levers.widths.channels.file import Array, name_of
from amble.levers.widths.channels.ranking import Worth, normalisations, written_axis
from amble.runtimes.torch.reading import Origin
from amble.runtimes.torch.training import Labelled

__all__ = ["gates", "scales"]

_BATCH = 64


def scales(coupled: Coupling) -> Worth:
    """Return what channels are worth by the scales of batch normalisation (Liu et al., 2017)."""
    found = {each.input[1]: np.abs(coupled.file.constants[each.input[1]]) for each in _norms(coupled)}
    for group, own in coupled.members.items():
        if not any(set(coupled.places[each, 0].tolist()) & set(own) for each in found if (each, 0) in coupled.places):
            raise Refused(f"{group} has no batch normalisation to rank its channels by: ask for taylor or l1")
    return lambda constant, axis: found.get(constant)


def _norms(coupled: Coupling) -> list[onnx.NodeProto]:
    return [each for each in coupled.file.model.graph.node if each.op_type == "BatchNormalization"]


def gates(module: fx.GraphModule, origins: Mapping[str, Origin], coupled: Coupling, data: Labelled) -> Worth:
    """Return what channels are worth to first order in a gate on each (Molchanov et al., 2019, equation 8).

    The mean over batches of |sum of weight x gradient|, in the layer that writes a channel or in the normalisation
    behind it. Without labels the network's own answers stand for them.
    """
    writers = list(_writers(coupled))
    found: dict[tuple[str, int], Array] = {}
    batches = data.inputs.split(_BATCH)
    for number, batch in enumerate(batches):
        answers = module(batch).float()
        wanted = answers.flatten(1).argmax(1) if data.labels is None else data.labels.split(_BATCH)[number]
        module.zero_grad()
        nn.functional.cross_entropy(answers.flatten(1), wanted).backward()
        slopes = _slopes(module, origins)
        for constant, axis, bias in writers:
            score = np.abs(_gate(slopes, constant, axis, bias)) / len(batches)
            found[constant, axis] = found.get((constant, axis), 0.0) + score
    module.zero_grad()
    return lambda constant, axis: found.get((constant, axis))


def _writers(coupled: Coupling) -> list[tuple[str, int, str]]:
    """Return of each layer, or of the normalisation behind it, its weights, the axis it writes along, and its bias."""
    normalised = normalisations(coupled)
    found = {}
    for layer in coupled.layers:
        norm = normalised.get(name_of(layer.node))
        if norm is not None:
            found[norm.input[1]] = (norm.input[1], 0, norm.input[2])
        else:
            bias = layer.node.input[2] if len(layer.node.input) > 2 else ""
            found[layer.constant] = (layer.constant, written_axis(layer), bias)
    return list(found.values())


def _slopes(module: fx.GraphModule, origins: Mapping[str, Origin]) -> dict[str, Array]:
    """Return weight x gradient of every constant that is trained, as it lies in the file."""
    found: dict[str, Array] = defaultdict(lambda: np.zeros(1))
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and name in origins:
            found[origins[name].constant] = origins[name].laid_out(
                (parameter.detach() * parameter.grad).float().numpy()
            )
    return found


def _gate(slopes: Mapping[str, Array], constant: str, axis: int, bias: str) -> Array:
    weights = slopes[constant]
    found = weights.sum(axis=tuple(each for each in range(weights.ndim) if each != axis))
    shift = slopes[bias].reshape(-1)
    return np.asarray(found + shift if shift.shape == found.shape else found)
