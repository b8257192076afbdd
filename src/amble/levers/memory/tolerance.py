"""A trial (bit error rates and a seed → accuracy lost) → the rates a network bears, found with few trials.

A judgement repeats trials, each with fresh errors, until the confidence interval of the mean loss lies on one side of
what is allowed: Student's t, its level split over the looks so that all of them together err as rarely as asked. What
stays unclear counts as not borne. A delivered mapping is held to more (`verify`): that single trials keep the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from amble.core.errors import Refused

__all__ = [
    "CONFIDENCE",
    "KEPT_ON_OTHERS",
    "KEPT_SHARE",
    "Judged",
    "Known",
    "Rule",
    "Tolerance",
    "Trial",
    "Verified",
    "coarse",
    "confidence_of",
    "fine",
    "judge",
    "num_needed",
    "on_others",
    "verify",
]

KEPT_SHARE, CONFIDENCE = 0.95, 0.95
"""Of modules, that keep the target of a mapping to be delivered; and how sure that is."""
KEPT_ON_OTHERS = 0.98
"""The same on other examples, estimated: where it is true, 38 of 40 modules keep the target in 95 % of cases."""

Trial = Callable[[Mapping[str, float], int], float]
"""Bit error rate of each data type, seed → accuracy lost against the clean network, same examples (0.01: a point)."""

Rates = Mapping[str, float]
Known = MutableMapping[tuple[tuple[str, float], ...], "Judged"]
"""Judgements by rates: filled as they are made, and looked at first, so that a stopped search goes on where it was."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How much may be lost and how sure to be: ``error`` is the chance of a wrong judgement.

    ``resolution``: the least loss that the examples can show (one over their number).
    """

    max_loss: float
    resolution: float
    error: float = 0.05
    min_trials: int = 6
    max_trials: int = 24

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0.0 < self.error < 1.0 or not 3 <= self.min_trials <= self.max_trials:
            raise ValueError("a rule needs 0 < error < 1 and 3 <= min_trials <= max_trials")
        if self.max_loss < 0.0 or not 0.0 < self.resolution < 1.0:
            raise ValueError("a rule needs max_loss >= 0 and a resolution in (0, 1)")


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict on rates: mean loss, its interval over seeds, and the trials it took."""

    verdict: Literal["holds", "fails", "unclear"]
    loss: float
    low: float
    high: float
    num_trials: int


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The highest rates found to hold, what was judged of them, and all trials used."""

    rates: dict[str, float]
    judged: Judged
    num_trials: int


@dataclass(frozen=True, slots=True)
class Verified:
    """How many of the trials kept the target, the lower confidence bound of the share that does, and all losses."""

    num_trials: int
    num_kept: int
    share_low: float
    worst_loss: float
    losses: tuple[float, ...] = ()


def judge(trial: Trial, rates: Rates, rule: Rule, *, seeds: Iterator[int]) -> Judged:
    """Repeat trials until it is clear whether the mean loss is allowed, or trials run out."""
    losses: list[float] = []
    for look in range(1, rule.max_trials + 1):
        losses.append(trial(rates, next(seeds)))
        if look < 3:
            continue
        level = rule.error * 6.0 / (math.pi * (look - 2)) ** 2
        low, high = _interval(losses, level, rule.resolution)
        mean = float(np.mean(losses))
        if low > rule.max_loss:
            return Judged("fails", mean, low, high, look)
        if high <= rule.max_loss and look >= rule.min_trials:
            return Judged("holds", mean, low, high, look)
    return Judged("unclear", mean, low, high, rule.max_trials)


def coarse(
    trial: Trial, types: tuple[str, ...], rule: Rule, *, known: Known, seed: int, decades: tuple[float, float, float]
) -> Tolerance:
    """Bisect log10 of one rate for all data types; ``decades``: floor, ceiling and the precision wanted.

    Refused where the floor is not borne.
    """
    low, high, precision = decades
    seeds, before = _seeds(seed, known), _used(known)
    best = _ask(trial, dict.fromkeys(types, 10.0**low), rule, known, seeds)
    if best.verdict != "holds":
        raise Refused(
            f"not even a bit error rate of 1e{low:g} keeps the loss within {rule.max_loss:g} "
            f"(it is {best.loss:.3g} in {best.num_trials} trials): allow more loss, give more data, or bound the values"
        )
    while high - low > precision:
        middle = (low + high) / 2.0
        judged = _ask(trial, dict.fromkeys(types, 10.0**middle), rule, known, seeds)
        if judged.verdict == "holds":
            low, best = middle, judged
        else:
            high = middle
    return Tolerance(dict.fromkeys(types, 10.0**low), best, _used(known) - before)


def fine(
    trial: Trial, start: Rates, rule: Rule, *, known: Known, seed: int, factor: float, ceiling: float = 0.1
) -> Tolerance:
    """Raise one data type at a time by ``factor``; a type that breaks the target leaves the list (EDEN, fine-grained).

    All types have their errors in every trial, so the rates found hold together.
    """
    if factor <= 1.0:
        raise ValueError(f"the factor must be above 1, not {factor}")
    rates, seeds, before = dict(start), _seeds(seed, known), _used(known)
    best = _ask(trial, rates, rule, known, seeds)
    left = list(rates)
    while left:
        for name in tuple(left):
            raised = {**rates, name: rates[name] * factor}
            if raised[name] > ceiling:
                left.remove(name)
                continue
            judged = _ask(trial, raised, rule, known, seeds)
            if judged.verdict == "holds":
                rates, best = raised, judged
            else:
                left.remove(name)
    return Tolerance(rates, best, _used(known) - before)


def verify(trial: Trial, rates: Rates, *, max_loss: float, share: float, confidence: float, seed: int) -> Verified:
    """Run as many fresh trials as it takes to show that this share of them keeps the target; stop at the first miss.

    Without a miss in n trials the share is at least (1 - confidence)^(1/n).
    """
    losses: list[float] = []
    for number in range(num_needed(share, confidence)):
        losses.append(trial(rates, seed + number))
        if losses[-1] > max_loss:
            break
    kept = sum(loss <= max_loss for loss in losses)
    low = float(betaincinv(kept, len(losses) - kept + 1, 1.0 - confidence)) if kept else 0.0
    return Verified(len(losses), kept, low, max(losses), tuple(losses))


def num_needed(share: float, confidence: float) -> int:
    """Return how many trials must all keep the target to show that this share does.

    >>> num_needed(0.95, 0.95)
    59
    """
    if not 0.0 < share < 1.0 or not 0.0 < confidence < 1.0:
        raise ValueError("share and confidence lie between 0 and 1")
    return math.ceil(math.log1p(-confidence) / math.log(share))


def confidence_of(attempt: int) -> float:
    """Return how sure each of several attempts must be, so that all of them together are as sure as ``CONFIDENCE``.

    Half of what is left of the risk goes to each.

    >>> round(confidence_of(0), 4), round(confidence_of(1), 4)
    (0.975, 0.9875)
    """
    return 1.0 - (1.0 - CONFIDENCE) / 2.0 ** (attempt + 1)


def on_others(lost: NDArray[np.int8], *, max_loss: float, seed: int, draws: int = 1_000) -> float:
    """Estimate the share of trials that keep the target on as many other examples, by drawing examples again, twice.

    ``lost`` [trial, example] is 1 where a right answer was lost, -1 where one was won, and 0. Where the few examples at
    the border of two classes are answered wrong now and then, other sets hold more of them, or fewer (Efron, 1979).
    These are such a set themselves: the first draw is of sets they may stand for, the second of others like those.
    """
    num = lost.shape[1]
    generator = np.random.default_rng(seed)
    like_these = generator.multinomial(num, np.full(num, 1.0 / num), size=draws) / num
    counts = generator.multinomial(num, like_these)
    return float(np.mean(lost.astype(np.float64) @ counts.T / num <= max_loss + 1e-9))


def _ask(trial: Trial, rates: Rates, rule: Rule, known: Known, seeds: Iterator[int]) -> Judged:
    key = tuple(sorted(rates.items()))
    if key not in known:
        known[key] = judge(trial, rates, rule, seeds=seeds)
    return known[key]


def _interval(losses: list[float], level: float, resolution: float) -> tuple[float, float]:
    """Return Student's two-sided interval of the mean; equal losses still have the grain of the examples."""
    spread = max(float(np.std(losses, ddof=1)), resolution / 2.0)
    half = -float(stdtrit(len(losses) - 1, level / 2.0)) * spread / math.sqrt(len(losses))
    mean = float(np.mean(losses))
    return mean - half, mean + half


def _seeds(seed: int, known: Known) -> Iterator[int]:
    """Yield seeds that no judgement so far has used."""
    number = seed + _used(known)
    while True:
        yield number
        number += 1


def _used(known: Known) -> int:
    return sum(judged.num_trials for judged in known.values())
