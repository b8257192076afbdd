"""Widths worth trying, their cost and their score → the best network found by evolution, in so many evaluations.

The search of single-path architecture search (Guo et al., "Single Path One-Shot Neural Architecture Search", 2020,
section 3.4): crossover and mutation among the fittest, every child within the budget. Spaces are compared by giving
each the same number of evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from amble.core.errors import Refused
from amble.levers.widths.network import Widths
from amble.runtimes.torch import training
from amble.runtimes.torch.training import Labelled, Prepare, as_stored
from bench.tail import surgery
from bench.tail.surgery import Coupling

__all__ = ["Effort", "Found", "evolve", "inherited"]

Space = Mapping[str, Sequence[int]]
"""Group → its widths, ascending."""
_MOST_TRIES = 1_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is searched: ``evaluations`` in all, the ``fittest`` have children, ``mutation`` is a gene's chance."""

    evaluations: int = 96
    population: int = 24
    fittest: int = 8
    mutation: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that there are parents."""
        if not 2 <= self.fittest <= self.population <= self.evaluations:
            raise ValueError("at least two of the fittest, no more than the population, no more than all evaluations")


@dataclass(frozen=True, slots=True)
class Found:
    """The best widths, their score, and the best score after each evaluation."""

    widths: dict[str, int]
    score: float
    history: tuple[float, ...]


def evolve(
    space: Space,
    score: Callable[[Widths], float],
    fits: Callable[[Widths], bool],
    effort: Effort = Effort(),
    *,
    start: Widths | None = None,
) -> Found:
    """Look for the widths with the highest score among those that fit; ``start`` is a first member.

    Raises Refused when not even the smallest widths fit.
    """
    run = _Evolution(space, score, fits, effort)
    if start is not None and fits(start):
        run.judge(tuple(start[name] for name in space))
    while run.wants_more():
        run.judge(run.founder() if len(run.scores) < effort.population else run.child())
    best = max(run.scores, key=run.scores.__getitem__)
    return Found(dict(zip(space, best, strict=True)), run.scores[best], tuple(run.history))


def inherited(
    module: nn.Module, coupled: Coupling, held_out: Labelled, *, prepare: Prepare = as_stored
) -> Callable[[Widths], float]:
    """Return a score without training: accuracy with the weights of the whole network, normalised anew.

    The first half of the data sets the statistics of batch normalisation, the other half judges.
    """
    half = len(held_out) // 2
    if held_out.labels is None:
        raise ValueError("a score needs labels")
    judged = Labelled(held_out.inputs[half:], held_out.labels[half:])

    def score(widths: Widths) -> float:
        smaller = surgery.pruned(module, coupled, widths)
        surgery.recalibrated(smaller, held_out.inputs[:half], prepare=prepare)
        return training.accuracy(smaller, judged, prepare=prepare)

    return score


Genes = tuple[int, ...]


class _Evolution:
    """Everything judged so far; the same genes are never judged twice."""

    def __init__(
        self, space: Space, score: Callable[[Widths], float], fits: Callable[[Widths], bool], effort: Effort
    ) -> None:
        self._space = space
        self._score = score
        self._fits = fits
        self._effort = effort
        self._random = np.random.default_rng(effort.seed)
        self._is_exhausted = False
        self.scores: dict[Genes, float] = {}
        self.history: list[float] = []
        if not self._is_within(tuple(widths[0] for widths in space.values())):
            raise Refused("not even the smallest widths of the space meet the budget: allow more time")

    def wants_more(self) -> bool:
        """Tell whether evaluations are left, and anything new to evaluate."""
        return not self._is_exhausted and len(self.scores) < self._effort.evaluations

    def judge(self, genes: Genes) -> None:
        """Score new genes."""
        if genes in self.scores:
            self._is_exhausted = True  # after so many tries: the budget leaves no others
            return
        self.scores[genes] = self._score(self._named(genes))
        self.history.append(max(self.scores.values()))

    def founder(self) -> Genes:
        """Return random widths below a random ceiling, so that small budgets are met as well."""
        return self._new(self._random_genes)

    def child(self) -> Genes:
        """Cross two of the fittest or mutate one, half and half."""
        return self._new(lambda: self._mixed() if self._random.random() < 0.5 else self._mutated())

    def _new(self, make: Callable[[], Genes]) -> Genes:
        genes = make()
        for _ in range(_MOST_TRIES):
            if genes not in self.scores and self._is_within(genes):
                return genes
            genes = make()
        smallest = tuple(widths[0] for widths in self._space.values())
        return next(iter(self.scores), smallest)

    def _random_genes(self) -> Genes:
        ceiling = self._random.random()
        return tuple(
            int(self._random.choice(widths[: max(1, round(ceiling * len(widths)))])) for widths in self._space.values()
        )

    def _mixed(self) -> Genes:
        first, second = self._parent(), self._parent()
        chosen = self._random.random(len(first)) < 0.5
        return tuple(a if take else b for a, b, take in zip(first, second, chosen, strict=True))

    def _mutated(self) -> Genes:
        changed = self._random.random(len(self._space)) < self._effort.mutation
        parent = zip(self._parent(), self._space.values(), changed, strict=True)
        return tuple(int(self._random.choice(widths)) if change else gene for gene, widths, change in parent)

    def _parent(self) -> Genes:
        fittest = sorted(self.scores, key=self.scores.__getitem__, reverse=True)[: self._effort.fittest]
        return fittest[int(self._random.integers(len(fittest)))]

    def _is_within(self, genes: Genes) -> bool:
        return self._fits(self._named(genes))

    def _named(self, genes: Genes) -> dict[str, int]:
        return dict(zip(self._space, genes, strict=True))
