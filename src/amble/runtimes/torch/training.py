"""A torch network and labelled inputs → the same network trained: interruptible, repeatable, stopped early.

One loop for first training, fine-tuning after cutting, distillation and retraining with bit errors: they differ in
their loss alone. Orders, augmentations and rates depend on seed and epoch only, so a run that was stopped ends with the
same weights, as far as torch is deterministic for one number of threads.

Letters: N inputs of a set, B inputs of a batch.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from amble.core import files
from amble.core.errors import Refused

__all__ = [
    "CrossEntropy",
    "Distillation",
    "Epoch",
    "Labelled",
    "Loss",
    "Recipe",
    "accuracy",
    "as_stored",
    "classes_known",
    "train",
]

_EVALUATED = 250  # inputs answered together


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Inputs [N, ...] as they are kept, and labels int64 [N]; without labels only a teacher can say what is right."""

    inputs: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        """Return N."""
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Stochastic gradient descent with Nesterov momentum under a one-cycle rate (Smith, 2018).

    ``patience``: epochs without a better held-out accuracy after which training ends, with the best weights.
    ``steepest``: the norm that gradients are cut to.
    """

    epochs: int
    top_rate: float = 0.1
    batch: int = 128
    momentum: float = 0.9
    decay: float = 5e-4
    warm_up: float = 0.25
    seed: int = 0
    patience: int | None = None
    bfloat16: bool = True
    steepest: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.epochs, self.batch) < 1 or self.top_rate <= 0.0:
            raise ValueError("a recipe needs at least one epoch, a batch of at least one and a positive rate")


class Loss(Protocol):
    """What is made small."""

    def __call__(self, network: nn.Module, inputs: Tensor, labels: Tensor | None, *, progress: float) -> Tensor:
        """Return the scalar loss of a batch [B, ...]; ``progress`` is the share of the run that is done, 0 to 1."""
        ...


class CrossEntropy:
    """Against labels."""

    def __call__(self, network: nn.Module, inputs: Tensor, labels: Tensor | None, *, progress: float) -> Tensor:
        """Return the mean over the batch; ValueError without labels."""
        if labels is None:
            raise ValueError("cross entropy needs labels: distil from a teacher instead")
        return nn.functional.cross_entropy(network(inputs).float(), labels)


@dataclass(frozen=True, slots=True, eq=False)
class Distillation:
    """Against a teacher's softened scores, and against labels where there are any (Hinton et al., 2015, section 2).

    ``share`` of the loss is the teacher's; all of it without labels.
    """

    teacher: nn.Module
    temperature: float = 4.0
    share: float = 0.7

    def __call__(self, network: nn.Module, inputs: Tensor, labels: Tensor | None, *, progress: float) -> Tensor:
        """Return the mean over the batch."""
        scores = network(inputs).float()
        with torch.no_grad():
            wanted = self.teacher(inputs).float() / self.temperature
        soft = nn.functional.kl_div(
            (scores / self.temperature).log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean"
        )
        soft = soft * self.temperature**2
        if labels is None:
            return soft
        return self.share * soft + (1.0 - self.share) * nn.functional.cross_entropy(scores, labels)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the data came to."""

    number: int
    loss: float
    held_out_accuracy: float | None
    time_s: float


Prepare = Callable[[Tensor, torch.Generator | None], Tensor]
"""Inputs as kept [B, ...] → what the network takes; the generator augments, None leaves them as they are."""


def as_stored(inputs: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return the inputs themselves."""
    return inputs


def train(
    network: nn.Module,
    data: Labelled,
    recipe: Recipe,
    *,
    loss: Loss,
    held_out: Labelled | None = None,
    prepare: Prepare = as_stored,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[Epoch, ...]:
    """Train in place, and return all epochs; a checkpoint is continued, and written after every epoch.

    A checkpoint of another recipe, or of another number of inputs, is not continued: training begins anew. With
    ``patience`` the weights are in the end those of the epoch with the best held-out accuracy. ValueError with
    patience and nothing held out, or with less data than a batch.
    """
    if recipe.patience is not None and held_out is None:
        raise ValueError("patience needs held-out data to judge epochs by")
    if len(data) < recipe.batch:
        raise ValueError(f"{len(data)} inputs are less than a batch of {recipe.batch}")
    run = _Run.start(network, data, recipe)
    run.resume(checkpoint)
    while not run.is_over(recipe):
        begin_s = time.perf_counter()
        mean = run.epoch(data, recipe, loss, prepare)
        right = accuracy(network, held_out, prepare=prepare) if held_out else None
        run.note(Epoch(len(run.epochs) + 1, mean, right, time.perf_counter() - begin_s))
        run.save(checkpoint)
        on_epoch(run.epochs[-1])
    if recipe.patience is not None:
        network.load_state_dict(run.best)
    network.eval()
    return tuple(run.epochs)


def accuracy(network: nn.Module, data: Labelled, *, prepare: Prepare = as_stored) -> float:
    """Return the share of right answers, in FP32; ValueError without labels."""
    if data.labels is None:
        raise ValueError("accuracy needs labels")
    network.eval()
    with torch.inference_mode():
        answers = [network(prepare(part, None)).argmax(1) for part in data.inputs.split(_EVALUATED)]
    return float((torch.cat(answers) == data.labels).float().mean())


def classes_known(network: nn.Module, data: Labelled) -> None:
    """Refuse labels that are none of the network's classes, and networks that do not give each class a score."""
    if data.labels is None:
        return
    network.eval()
    with torch.inference_mode():
        scores = network(data.inputs[:1])
    if scores.dim() != 2:
        raise Refused(f"labels need a score for each class [example, class]; the network gives {list(scores.shape)}")
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= scores.shape[1]:
        raise Refused(f"the array labels has {low} to {high}, the network's classes are 0 to {scores.shape[1] - 1}")


@dataclass(slots=True)
class _Run:
    """All that changes while training."""

    network: nn.Module
    optimiser: torch.optim.SGD
    schedule: OneCycleLR
    epochs: list[Epoch]
    best: dict[str, Tensor]
    terms: dict[str, float | int | bool | None]

    @classmethod
    def start(cls, network: nn.Module, data: Labelled, recipe: Recipe) -> _Run:
        rate = recipe.top_rate
        optimiser = torch.optim.SGD(
            network.parameters(), rate, recipe.momentum, weight_decay=recipe.decay, nesterov=recipe.momentum > 0
        )
        steps = recipe.epochs * (len(data) // recipe.batch)
        warm_up = recipe.warm_up if recipe.warm_up * steps != 1.0 else 1.5 / steps  # torch divides by its steps less 1
        schedule = OneCycleLR(optimiser, rate, steps, pct_start=warm_up)
        return cls(network, optimiser, schedule, [], {}, {**asdict(recipe), "inputs": len(data)})

    def is_over(self, recipe: Recipe) -> bool:
        if len(self.epochs) >= recipe.epochs:
            return True
        if recipe.patience is None or not self.epochs:
            return False
        return len(self.epochs) - max(self.epochs, key=_score).number >= recipe.patience

    def epoch(self, data: Labelled, recipe: Recipe, loss: Loss, prepare: Prepare) -> float:
        """One pass in the order of seed and epoch; the mean loss."""
        generator = torch.Generator().manual_seed(recipe.seed * 1_000 + len(self.epochs))
        torch.manual_seed(recipe.seed * 1_000 + len(self.epochs))
        order = torch.randperm(len(data), generator=generator)
        batches = order[: len(order) // recipe.batch * recipe.batch].split(recipe.batch)
        self.network.train()
        total = 0.0
        for done, batch in enumerate(batches):
            labels = None if data.labels is None else data.labels[batch]
            progress = (len(self.epochs) + done / len(batches)) / recipe.epochs
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                found = loss(self.network, prepare(data.inputs[batch], generator), labels, progress=progress)
            self.optimiser.zero_grad()
            found.backward()
            if recipe.steepest is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), recipe.steepest)
            self.optimiser.step()
            self.schedule.step()
            total += found.item()
        return total / len(batches)

    def note(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        if max(self.epochs, key=_score) is epoch:
            self.best = {name: value.clone() for name, value in self.network.state_dict().items()}

    def save(self, path: Path | None) -> None:
        if path is None:
            return
        buffer = io.BytesIO()
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "epochs": [(each.number, each.loss, each.held_out_accuracy, each.time_s) for each in self.epochs],
                "best": self.best,
                "terms": self.terms,
            },
            buffer,
        )
        files.write_bytes(path, buffer.getvalue())

    def resume(self, path: Path | None) -> None:
        if path is None or not path.exists():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state.get("terms") != self.terms:
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.epochs, self.best = [Epoch(*each) for each in state["epochs"]], state["best"]


def _score(epoch: Epoch) -> float:
    return -epoch.loss if epoch.held_out_accuracy is None else epoch.held_out_accuracy
