"""A network and labelled inputs → the network as one to deploy in approximate memory: retrained, its inputs cut.

The better recipe of `retrain`, with the numbers of `bench/eden/retrain.py`. Cutting a layer's input to what it usually
is makes the loads that a memory controller finds plausible few, and small. Tight limits pay where there are steps
enough to learn to live with them; where there are not, the limits are wide, and the network as it was is the teacher.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from amble.levers.memory.learning.reads import placed, places
from amble.levers.memory.learning.retrain import Averaged, robust, weight_limits
from amble.levers.memory.learning.unreliable import FreshErrors, Precision, Unreliable, ranges, stores
from amble.runtimes.torch.training import Distillation, Epoch, Labelled, Prepare, Recipe, as_stored

__all__ = ["BELOW_TWO", "ENOUGH_STEPS", "Lesson", "as_tensors", "cut_inputs", "gentle", "harden", "relearn", "top_rate"]

ENOUGH_STEPS = 1_000  # to learn to live with tight limits
_TOP_RATE, _GENTLE_RATE = 0.01, 0.004  # of learning
BELOW_TWO = float(np.nextafter(np.float32(2), np.float32(0)))
"""Flipping the highest exponent bit of an FP32 zero makes 2: not plausible where inputs are cut below it."""
_RISE = 16.0  # of the bit error rate while retraining
_NUM_WATCHED = 1_000  # inputs, for the ranges


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a network is retrained for, and how: its bit error rate, and the values that are left.

    ``tail``: the share of a layer's inputs, on either side, that is cut. ``spreads``: where weights are clipped, in
    root mean squares. ``ceiling``: where FP32 inputs are cut at the latest. ``taught``: the share of the loss that
    compares with the network as it was. A checkpoint is continued.
    """

    ber: float
    precision: Precision = "fp32"
    tail: float = 0.003
    spreads: float = 2.0
    ceiling: float = BELOW_TWO
    taught: float = 0.0
    prepare: Prepare = as_stored
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        """Check the rate."""
        if not 0.0 < self.ber < 0.5:
            raise ValueError(f"a bit error rate to retrain for lies between 0 and 0.5, not {self.ber}")


def gentle(lesson: Lesson) -> Lesson:
    """Return a lesson that leaves a network more as it is, for few steps or few examples."""
    return replace(lesson, tail=1e-3, spreads=4.0, ceiling=math.inf, taught=0.8)


def top_rate(num_steps: int) -> float:
    """Return the highest rate of learning in a run of so many steps."""
    return _TOP_RATE if num_steps >= ENOUGH_STEPS else _GENTLE_RATE


def harden(
    network: nn.Module,
    data: Labelled,
    recipe: Recipe,
    *,
    ber: float,
    held_out: Labelled,
    precision: Precision = "fp32",
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> fx.GraphModule:
    """Retrain in place to bear this bit error rate → the network with the inputs of its layers cut.

    Epochs are judged under errors. In fewer than ``ENOUGH_STEPS`` steps, gently.
    """
    lesson = Lesson(ber, precision)
    if recipe.epochs * (len(data) // recipe.batch) < ENOUGH_STEPS:
        lesson = gentle(lesson)
    return cut_inputs(network, relearn(network, data, recipe, lesson=lesson, held_out=held_out, on_epoch=on_epoch))


def relearn(
    network: nn.Module,
    data: Labelled,
    recipe: Recipe,
    *,
    lesson: Lesson,
    held_out: Labelled,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> dict[str, tuple[float, float]]:
    """Retrain in place → the limits that each layer's input must be cut to, which it was in training."""
    prepare = lesson.prepare
    batches = (prepare(part, None) for part in data.inputs[:_NUM_WATCHED].split(recipe.batch))
    limits = ranges(network, batches, tail=lesson.tail)
    if lesson.precision == "fp32":
        most = lesson.ceiling
        limits = {name: (max(low, -most), min(high, most)) for name, (low, high) in limits.items()}
    how = stores(network, limits, lesson.precision, cut=True, asymmetric=True)
    rising = Averaged(lesson.ber / _RISE, lesson.ber, weight_limits(network, spreads=lesson.spreads))
    if lesson.taught:
        rising = replace(rising, inner=Distillation(copy.deepcopy(network).eval(), 2.0, lesson.taught))
    robust(
        Unreliable(network, how, FreshErrors()),
        data,
        recipe,
        loss=rising,
        held_out=held_out,
        prepare=prepare,
        checkpoint=lesson.checkpoint,
        on_epoch=on_epoch,
    )
    return limits


def as_tensors(inputs: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> Labelled:
    """Return examples [N, ...] and their labels [N] as training takes them."""
    return Labelled(torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(labels))


def cut_inputs(network: nn.Module, limits: Mapping[str, tuple[float, float]]) -> fx.GraphModule:
    """Return the network with what these layers read cut to these limits, for all that read it."""
    made = placed(network)
    for layer, place in places(made).items():
        if layer in limits:
            made.set_submodule(place, nn.Hardtanh(*limits[layer]))
    return made
