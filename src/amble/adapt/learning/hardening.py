"""A network and labelled inputs → the network as one to deploy in approximate memory: retrained, its inputs cut.

The better recipe of `retrain`, distilled from the network as it was, with the numbers of `train/retrain.py`. Cutting
every layer's input to what it usually is makes the loads that a memory controller finds plausible few, and small.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from amble.adapt.learning.retrain import Averaged, robust, weight_limits
from amble.adapt.learning.training import Distillation, Epoch, Labelled, Recipe
from amble.adapt.learning.unreliable import FreshErrors, Precision, Unreliable, layers, ranges, stores

__all__ = ["TOP_RATE", "as_tensors", "cut_inputs", "harden"]

TOP_RATE = 0.004  # of learning: a trained network must not be unlearned
_TAIL = 1e-3  # of values on either side, which are cut
_SPREADS = 4.0  # of weights, in root mean squares
_RISE = 16.0  # of the bit error rate while retraining
_NUM_WATCHED = 1_000  # inputs, for the ranges


def harden(
    network: nn.Module,
    data: Labelled,
    recipe: Recipe,
    *,
    ber: float,
    held_out: Labelled,
    precision: Precision = "fp32",
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[Epoch, ...]:
    """Retrain in place to bear this bit error rate, and cut the inputs of layers → all epochs, judged under errors."""
    if not 0.0 < ber < 0.5:
        raise ValueError(f"a bit error rate to retrain for lies between 0 and 0.5, not {ber}")
    limits = ranges(network, data.inputs[:_NUM_WATCHED].split(recipe.batch), tail=_TAIL)
    teacher = copy.deepcopy(network).eval()
    how = stores(network, limits, precision, cut=True, asymmetric=True)
    epochs = robust(
        Unreliable(network, how, FreshErrors()),
        data,
        recipe,
        loss=Averaged(
            ber / _RISE, ber, weight_limits(network, spreads=_SPREADS), inner=Distillation(teacher, 2.0, 0.8)
        ),
        held_out=held_out,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    cut_inputs(network, limits)
    return epochs


def as_tensors(inputs: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> Labelled:
    """Return examples [N, ...] and their labels [N] as training takes them."""
    return Labelled(torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(labels))


def cut_inputs(network: nn.Module, limits: Mapping[str, tuple[float, float]]) -> None:
    """Put a cut to these limits before each of these layers, in place."""
    for name, layer in layers(network).items():
        if name in limits:
            parent, _, last = name.rpartition(".")
            low, high = limits[name]
            setattr(network.get_submodule(parent), last, nn.Sequential(nn.Hardtanh(low, high), layer))
