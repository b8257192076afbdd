"""Bit error rates of modules at lowered voltages → one slope, an onset for each module, and how modules differ.

log10 of the rate falls linearly in V; a module's onset is the voltage ratio at which it is -9. Measurements without an
error only say "below what could be seen", saturated ones "above"; both enter the likelihood as such (Tobin, 1958).
Onsets are normal between modules and integrated out by Gauss-Hermite quadrature. Letters: N rates, K nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr, logsumexp

__all__ = ["ONSET_LOG10", "AtVoltage", "OnsetFit", "fit_onsets"]

Floats = NDArray[np.float64]

ONSET_LOG10 = -9.0
_NODES = 24


@dataclass(frozen=True, slots=True, eq=False)
class AtVoltage:
    """Rates at voltages, each [N]: log10 of the rate, and whether it is exact (0), an upper (-1) or lower (1) bound."""

    module: NDArray[np.str_]
    voltage_ratio: Floats
    log10_ber: Floats
    censored: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OnsetFit:
    """Onset of the typical module and its spread between modules [V / V_nominal], slope, residual in decades."""

    onset_ratio: float
    onset_spread: float
    decades_per_ratio: float
    residual_spread: float


def fit_onsets(seen: AtVoltage) -> OnsetFit:
    """Fit by maximum likelihood; ValueError where fewer than two rates have errors."""
    exact = seen.censored == 0
    if exact.sum() < 2:
        raise ValueError("fit at least two rates that are neither without errors nor saturated")
    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    start = np.array([float(seen.voltage_ratio[exact].mean()), np.log(0.02), np.log(100.0), np.log(0.5)])

    def cost(at: Floats) -> float:
        return -_log_likelihood(at, seen, nodes, np.log(weights / np.sqrt(np.pi)))

    bounds = [(0.5, 1.2), (np.log(1e-4), np.log(0.3)), (np.log(5.0), np.log(2000.0)), (np.log(0.02), np.log(5.0))]
    starts = [start + np.array([0.0, 0.0, shift, 0.0]) for shift in (-0.7, 0.0, 0.7)]
    best = min((minimize(cost, each, method="L-BFGS-B", bounds=bounds) for each in starts), key=lambda found: found.fun)
    return OnsetFit(float(best.x[0]), *(float(value) for value in np.exp(best.x[1:])))


def _log_likelihood(at: Floats, seen: AtVoltage, nodes: Floats, log_weights: Floats) -> float:
    """Sum over modules the log of the likelihood with its onset integrated out."""
    onset = at[0] + np.sqrt(2.0) * np.exp(at[1]) * nodes
    predicted = ONSET_LOG10 + np.exp(at[2]) * (onset[:, None] - seen.voltage_ratio)  # [K, N]
    spread = np.exp(at[3])
    score = (seen.log10_ber - predicted) / spread
    exact = -0.5 * score**2 - np.log(spread) - 0.5 * np.log(2.0 * np.pi)
    each = np.where(seen.censored == 0, exact, log_ndtr(np.where(seen.censored < 0, score, -score)))
    return sum(
        float(logsumexp(each[:, seen.module == module].sum(axis=1) + log_weights)) for module in np.unique(seen.module)
    )
