"""A network and labelled inputs → the same network, retrained to bear bit errors: EDEN's curriculum, and a better one.

`curricular` is faithful (Koppula et al., 2019): the bit error rate climbs in steps, the forward pass has errors, the
gradient goes straight through to clean weights; where a step leaves too little accuracy it is undone and halved.
`robust` follows Stutz et al. (2021): weights clipped, the loss of a clean and of a corrupted pass averaged, errors
fresh in every batch; the rate climbs within one run, the best epoch is that of the best accuracy under errors, and
batch normalisation is settled anew at the end. What is read, and how it errs, both take as an `Unreliable` network.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from amble.core import files
from amble.levers.memory.learning.reads import layers
from amble.levers.memory.learning.unreliable import Unreliable
from amble.runtimes.torch.training import (
    CrossEntropy,
    Epoch,
    Labelled,
    Loss,
    Prepare,
    Recipe,
    accuracy,
    as_stored,
    train,
)

__all__ = ["Averaged", "Climb", "Corrupted", "Stage", "curricular", "robust", "settle", "weight_limits"]


@dataclass(frozen=True, slots=True)
class Climb:
    """How the bit error rate rises: steps of equal ratio from ``first`` to ``target``.

    ``floor`` is the least held-out accuracy under errors that a step may leave; a ratio below ``least_ratio`` ends it.
    """

    first: float
    target: float
    num_steps: int
    floor: float
    least_ratio: float = 1.1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0.0 < self.first <= self.target < 0.5 or self.num_steps < 1 or self.least_ratio <= 1.0:
            raise ValueError("a climb needs 0 < first <= target < 0.5, a step or more and a least ratio above 1")

    @property
    def ratio(self) -> float:
        """Return the ratio of neighbouring rates."""
        return math.pow(self.target / self.first, 1.0 / max(self.num_steps - 1, 1))


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the curriculum: its rate, the accuracy under errors that it left, and whether it was kept."""

    rate: float
    accuracy: float
    kept: bool


class Corrupted:
    """Cross entropy of a pass with errors at the network's own rate: EDEN's."""

    def __call__(self, network: nn.Module, inputs: Tensor, labels: Tensor | None, *, progress: float) -> Tensor:
        """Return the mean over the batch."""
        return CrossEntropy()(network, inputs, labels, progress=progress)


@dataclass(frozen=True, slots=True, eq=False)
class Averaged:
    """The mean of the cross entropies of a clean pass and of one with fresh errors (Stutz et al., 2021, Algorithm 1).

    Each pass has its half of the batch, where theirs both have all of it: as many steps for half of the time.
    The rate climbs from ``first`` to ``target`` in equal ratios over the first ``ramp`` of the run; there are no errors
    while the clean loss is above ``most_clean``. Weights are clipped to ``limits`` (by layer) before every pass.
    ``inner`` is what either pass is judged by; distilled from the network as it was, it unlearns less.
    """

    first: float
    target: float
    limits: Mapping[str, float]
    ramp: float = 0.5
    most_clean: float = 1.75
    inner: Loss = field(default_factory=CrossEntropy)

    def __call__(self, network: nn.Module, inputs: Tensor, labels: Tensor | None, *, progress: float) -> Tensor:
        """Return the mean over the batch; ValueError without labels, or for a network in reliable memory."""
        if not isinstance(network, Unreliable):
            raise ValueError("errors need an Unreliable network")
        _clip(network.network, self.limits)
        half = len(inputs) // 2
        known = (None, None) if labels is None else (labels[:half], labels[half:])
        clean = self.inner(partial(network.forward, rate=0.0), inputs[:half], known[0], progress=progress)
        rate = self.rate(progress) if clean.item() <= self.most_clean else 0.0
        return 0.5 * (
            clean + self.inner(partial(network.forward, rate=rate), inputs[half:], known[1], progress=progress)
        )

    def rate(self, progress: float) -> float:
        """Return the bit error rate at this share of the run."""
        return self.first * math.pow(self.target / self.first, min(progress / self.ramp, 1.0))


def curricular(
    network: Unreliable,
    data: Labelled,
    recipe: Recipe,
    *,
    climb: Climb,
    held_out: Labelled,
    prepare: Prepare = as_stored,
    checkpoint: Path | None = None,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> tuple[Stage, ...]:
    """Retrain in place, ``recipe.epochs`` at every rate → all stages, kept or undone; a checkpoint is continued."""
    run = _Run.start(network, climb, checkpoint)
    while not run.is_over(climb):
        network.rate = rate = run.next_rate(climb)
        at = replace(recipe, seed=recipe.seed + 100 * len(run.stages))
        part = None if checkpoint is None else checkpoint.with_suffix(f".{len(run.stages)}")
        train(network, data, at, loss=Corrupted(), prepare=prepare, checkpoint=part)
        right = accuracy(network, held_out, prepare=prepare)
        run.note(Stage(rate, right, right >= climb.floor), network)
        run.save(checkpoint)
        if part is not None:
            part.unlink()
        on_stage(run.stages[-1])
    network.eval()
    return tuple(run.stages)


def robust(
    network: Unreliable,
    data: Labelled,
    recipe: Recipe,
    *,
    loss: Averaged,
    held_out: Labelled,
    prepare: Prepare = as_stored,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[Epoch, ...]:
    """Retrain in place → all epochs; held-out accuracies are those under errors at the target rate."""
    network.rate = loss.target
    epochs = train(
        network,
        data,
        recipe,
        loss=loss,
        held_out=held_out,
        prepare=prepare,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    _clip(network.network, loss.limits)
    settle(network, (prepare(part, None) for part in data.inputs[:2_000].split(recipe.batch)))
    return epochs


def settle(network: Unreliable, batches: Iterable[Tensor]) -> None:
    """Estimate the statistics of batch normalisation anew, with errors at the network's rate; nothing else changes."""
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [each.momentum for each in norms]
    for each in norms:
        each.reset_running_stats()
        each.momentum = None  # the plain mean over batches
    network.train()
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum
    network.eval()


def weight_limits(network: nn.Module, *, spreads: float) -> dict[str, float]:
    """Return where to clip each layer's weights: so many times their root mean square."""
    return {
        name: spreads * float(each.weight.detach().square().mean().sqrt()) for name, each in layers(network).items()
    }


def _clip(network: nn.Module, limits: Mapping[str, float]) -> None:
    named = layers(network)
    with torch.no_grad():
        for name, limit in limits.items():
            named[name].weight.clamp_(-limit, limit)


@dataclass(slots=True)
class _Run:
    """Where the curriculum stands: the last rate kept, the next step's ratio, and the weights to fall back to."""

    rate: float | None
    ratio: float
    stages: list[Stage]
    kept: dict[str, Tensor]

    @classmethod
    def start(cls, network: Unreliable, climb: Climb, path: Path | None) -> _Run:
        if path is None or not path.exists():
            return cls(None, climb.ratio, [], _weights(network))
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["kept"])
        return cls(state["rate"], state["ratio"], [Stage(**each) for each in state["stages"]], state["kept"])

    def is_over(self, climb: Climb) -> bool:
        if self.rate is None:
            return bool(self.stages)  # not even the first step was borne
        return self.rate >= climb.target * (1 - 1e-9) or self.ratio < climb.least_ratio

    def next_rate(self, climb: Climb) -> float:
        return climb.first if self.rate is None else min(self.rate * self.ratio, climb.target)

    def note(self, stage: Stage, network: Unreliable) -> None:
        self.stages.append(stage)
        if stage.kept:
            self.rate, self.kept = stage.rate, _weights(network)
        else:
            network.load_state_dict(self.kept)
            self.ratio = math.sqrt(self.ratio)

    def save(self, path: Path | None) -> None:
        if path is None:
            return
        buffer = io.BytesIO()
        stages = [asdict(each) for each in self.stages]
        torch.save({"rate": self.rate, "ratio": self.ratio, "stages": stages, "kept": self.kept}, buffer)
        files.write_bytes(path, buffer.getvalue())


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
