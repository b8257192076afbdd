"""Bit error rates of banks of several modules → what an unseen bank, or a bank of an unseen module, will have.

A mixed model in log10: a rate is the vendor's mean plus independent normal effects of module type, data pattern, bank,
module, and their pairs, plus noise. The variances are found by maximum likelihood; predictions are the conditional
means (best linear unbiased predictions), which shrink what rests on few measurements. Rates under the smallest one that
can be seen are set to a floor, so that spreads near the floor are too small. Types are told apart only where there are
several modules of each (`_MODULES_OF_A_KIND`): with one or two of a type its effect cannot be told from theirs.

Letters: N rates, M rates asked for, E effects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

__all__ = ["EFFECTS", "BankModel", "Measured", "fit_banks"]

Floats = NDArray[np.float64]
Texts = NDArray[np.str_]

EFFECTS = (
    ("pattern",),
    ("bank",),
    ("kind",),
    ("module",),
    ("pattern", "bank"),
    ("kind", "pattern"),
    ("kind", "bank"),
    ("module", "pattern"),
    ("module", "bank"),
)

_MODULES_OF_A_KIND = 3  # on average


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Rates and what they were measured on, each [N]; ``kind`` is the type of a module."""

    kind: Texts
    module: Texts
    pattern: Texts
    bank: Texts
    log10_ber: Floats

    def rows(self, chosen: NDArray[np.bool_]) -> Measured:
        """Return the chosen rates alone."""
        return Measured(
            self.kind[chosen], self.module[chosen], self.pattern[chosen], self.bank[chosen], self.log10_ber[chosen]
        )


@dataclass(frozen=True, slots=True, eq=False)
class BankModel:
    """A fitted model: mean, standard deviation of each effect [E] (0 where it is left out) and of the noise, the rates
    behind it."""

    mean: float
    spreads: Floats
    noise: float
    seen: Measured
    weights: Floats  # [N]: inverse covariance times deviations
    factor: tuple[Floats, bool]

    def predict(self, asked: Measured) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of log10 of each rate asked for [M]; its own values are not looked at."""
        shared = _covariance(asked, self.seen, self.spreads)
        mean = self.mean + shared @ self.weights
        explained = (shared * cho_solve(self.factor, shared.T).T).sum(axis=1)
        variance = (self.spreads**2).sum() + self.noise**2 - explained
        return mean, np.sqrt(np.maximum(variance, self.noise**2))


def fit_banks(seen: Measured) -> BankModel:
    """Fit the standard deviations by maximum likelihood; ValueError for fewer than three rates."""
    if len(seen.log10_ber) < 3:
        raise ValueError("fit at least three rates")
    told = _told_apart(seen)
    same = [_same(seen, seen, effect) for effect in told]
    scale = max(float(seen.log10_ber.std()), 1e-3)
    start = np.log(np.full(len(told) + 1, scale / 3.0))

    def cost(logs: Floats) -> tuple[float, Floats]:
        return _minus_log_likelihood(logs, same, seen.log10_ber)

    bounds = [(np.log(scale * 1e-3), np.log(scale * 10.0))] * len(start)
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
    fitted = dict(zip(told, np.exp(found.x[:-1]), strict=True))
    spreads, noise = np.array([fitted.get(effect, 0.0) for effect in EFFECTS]), float(np.exp(found.x[-1]))
    covariance = _covariance(seen, seen, spreads) + noise**2 * np.eye(len(seen.log10_ber))
    factor = cho_factor(covariance, lower=True)
    mean = _mean(factor, seen.log10_ber)
    return BankModel(mean, spreads, noise, seen, cho_solve(factor, seen.log10_ber - mean), factor)


def _told_apart(seen: Measured) -> tuple[tuple[str, ...], ...]:
    """Return the effects that these modules can tell."""
    enough = len(np.unique(seen.module)) >= _MODULES_OF_A_KIND * len(np.unique(seen.kind))
    return EFFECTS if enough else tuple(effect for effect in EFFECTS if "kind" not in effect)


def _minus_log_likelihood(logs: Floats, same: list[Floats], values: Floats) -> tuple[float, Floats]:
    """Return the cost and its gradient; the mean is at its optimum (Rasmussen and Williams, 2006, eq. 5.9)."""
    variances = np.exp(2.0 * logs)
    covariance = sum(variance * each for variance, each in zip(variances[:-1], same, strict=True))
    covariance = covariance + variances[-1] * np.eye(len(values))
    factor = cho_factor(covariance, lower=True)
    weights = cho_solve(factor, values - _mean(factor, values))
    inverse = cho_solve(factor, np.eye(len(values)))
    cost = 0.5 * float((values - _mean(factor, values)) @ weights) + float(np.log(np.diag(factor[0])).sum())
    inner = inverse - np.outer(weights, weights)
    gradient = [variance * float((inner * each).sum()) for variance, each in zip(variances[:-1], same, strict=True)]
    return cost, np.array([*gradient, variances[-1] * float(np.trace(inner))])


def _mean(factor: tuple[Floats, bool], values: Floats) -> float:
    """Return the generalised least squares mean."""
    ones = cho_solve(factor, np.ones(len(values)))
    return float(ones @ values / ones.sum())


def _covariance(left: Measured, right: Measured, spreads: Floats) -> Floats:
    total = np.zeros((len(left.log10_ber), len(right.log10_ber)))
    for spread, effect in zip(spreads, EFFECTS, strict=True):
        total += spread**2 * _same(left, right, effect)
    return total


def _same(left: Measured, right: Measured, effect: tuple[str, ...]) -> Floats:
    """Return 1 where two rates share all that an effect names: [left, right]."""
    shared = np.ones((len(left.log10_ber), len(right.log10_ber)))
    for name in effect:
        shared *= getattr(left, name)[:, None] == getattr(right, name)[None, :]
    return shared
