"""Repeated reads of memory cells → the error model that explains cells it was not fitted on best.

Each cell was read n times and was wrong k times. Weak cells (a share P) are wrong with probability F at each read, the
others never: k is a zero-inflated binomial, whose maximum likelihood the EM algorithm finds. Lines (models 1 and 2)
have thousands of parameters; each is shrunk towards the mean of its kind by a Beta prior from the moments over lines.

Identifiability: with one read of each cell, or with error rates alone, only the product P F is determined. F is then
what the caller assumes, and the fit says so. Letters: C cells, L lines; the axis of 2 is the stored bit, 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlog1py, xlogy

from amble.core.dram import Bitline, Cells, DataDependent, ErrorModel, Uniform, Wordline
from amble.core.draws import hashed, key_of

__all__ = ["Choice", "Fitted", "Reads", "choose", "fit_data_dependent", "fit_lines", "fit_uniform", "log_likelihood"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_ROUNDS = 500
_TOLERANCE = 1e-9
_CLEARLY = 2.0  # standard errors by which a richer model must win over model 0


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """How often each cell was read and was wrong, by the bit it held. num_reads, num_errors: [C, 2]."""

    cells: Cells
    num_reads: Ints
    num_errors: Ints

    def __post_init__(self) -> None:
        """Check the shapes and counts."""
        if self.num_reads.shape != self.num_errors.shape or self.num_reads.shape != (len(self.cells.row), 2):
            raise ValueError("num_reads and num_errors must both be [cell, 2]: how often it held a 0, and a 1")
        if (self.num_errors < 0).any() or (self.num_errors > self.num_reads).any():
            raise ValueError("a cell cannot be wrong more often than it was read, or less than never")
        if not self.num_reads.any():
            raise ValueError("nothing was read; give at least one read of one cell")

    @property
    def rate(self) -> float:
        """Return the share of reads that were wrong."""
        return float(self.num_errors.sum() / self.num_reads.sum())

    @property
    def repeated(self) -> bool:
        """Tell whether any cell was read more than once: what it takes to tell P from F."""
        return bool((self.num_reads.sum(axis=1) > 1).any())

    def of(self, chosen: NDArray[np.bool_]) -> Reads:
        """Return the chosen cells alone."""
        cells = self.cells
        kept = Cells(cells.chip[chosen], cells.bank[chosen], cells.row[chosen], cells.bitline[chosen])
        return Reads(kept, self.num_reads[chosen], self.num_errors[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A model, the log-likelihood of what it was fitted on, and whether P and F were told apart or F was assumed."""

    model: ErrorModel
    log_likelihood: float
    flip_identified: bool


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The model that was chosen, and the held-out log-likelihood per cell of every candidate over model 0's.

    ``gain`` and ``spread`` (standard error of the gain) by the model's name.
    """

    fitted: Fitted
    name: str
    gain: dict[str, float]
    spread: dict[str, float]


def fit_uniform(reads: Reads, *, assumed_flip: float) -> Fitted:
    """Fit model 0; ``assumed_flip`` is F where the reads cannot tell it."""
    if not reads.repeated:
        model = Uniform(_product_over(reads.rate, assumed_flip), assumed_flip)
    else:
        share, flip = _em(reads.num_reads.sum(axis=1), reads.num_errors.sum(axis=1))
        model = Uniform(share, flip)
    return Fitted(model, float(log_likelihood(model, reads).sum()), reads.repeated)


def fit_data_dependent(reads: Reads, *, assumed_flip: float) -> Fitted:
    """Fit model 3; where the reads cannot tell, ``assumed_flip`` is F of the bit that flips more often."""
    if reads.repeated:
        share, flips = _em_by_bit(reads.num_reads, reads.num_errors)
    else:
        rates = reads.num_errors.sum(axis=0) / np.maximum(reads.num_reads.sum(axis=0), 1)
        share = _product_over(float(rates.max()), assumed_flip)
        flips = np.clip(rates / share, 0.0, 1.0) if share > 0 else np.zeros(2)
    model = DataDependent(share, p_flip_one=float(flips[1]), p_flip_zero=float(flips[0]))
    return Fitted(model, float(log_likelihood(model, reads).sum()), reads.repeated)


def fit_lines(reads: Reads, kind: Literal["bitline", "wordline"], *, num_lines: int, assumed_flip: float) -> Fitted:
    """Fit model 1 or 2 with ``num_lines`` lines; a line without reads gets the mean of the others."""
    line = (reads.cells.bitline if kind == "bitline" else reads.cells.row) % num_lines
    reads_of, errors_of = reads.num_reads.sum(axis=1), reads.num_errors.sum(axis=1)
    uniform = fit_uniform(reads, assumed_flip=assumed_flip).model
    share, flip = np.full(num_lines, uniform.most_weak), np.full(num_lines, uniform.most_flip)
    for _ in range(_MOST_ROUNDS if reads.repeated else 1):
        weak = _responsibility(reads_of, errors_of, share[line], flip[line])
        if not reads.repeated:
            weak = errors_of / max(assumed_flip, _TOLERANCE)  # an unbiased count of weak cells, F being assumed
        before = share
        share = _shrunk(_per_line(line, weak, num_lines), _per_line(line, np.ones(len(line)), num_lines))
        if reads.repeated:
            flip = _shrunk(_per_line(line, weak * errors_of, num_lines), _per_line(line, weak * reads_of, num_lines))
        if np.abs(share - before).max() < 1e-7:
            break
    model: ErrorModel = Bitline(share, flip) if kind == "bitline" else Wordline(share, flip)
    return Fitted(model, float(log_likelihood(model, reads).sum()), reads.repeated)


def log_likelihood(model: ErrorModel, reads: Reads) -> Floats:
    """Return the log-likelihood of each cell's errors [C], without the binomial coefficient, which no model changes."""
    share = model.weak(reads.cells)
    total = np.zeros(len(share))
    for bit in (0, 1):
        flip = model.flip(reads.cells, np.full(len(share), bit, dtype=np.uint8))
        wrong, num = reads.num_errors[:, bit], reads.num_reads[:, bit]
        total += xlogy(wrong, flip) + xlog1py(num - wrong, -flip)
    never = reads.num_errors.sum(axis=1) == 0
    with np.errstate(divide="ignore"):
        as_weak = np.log(share) + total
        as_strong = np.where(never, np.log1p(-share), -np.inf)
    return np.logaddexp(as_weak, as_strong)


def choose(reads: Reads, *, num_bitlines: int, num_rows: int, assumed_flip: float, seed: int) -> Choice:
    """Fit every model on one half of the cells and score it on the other; model 0 unless another wins clearly."""
    fits: dict[str, Callable[[Reads], Fitted]] = {
        "uniform": lambda some: fit_uniform(some, assumed_flip=assumed_flip),
        "bitline": lambda some: fit_lines(some, "bitline", num_lines=num_bitlines, assumed_flip=assumed_flip),
        "wordline": lambda some: fit_lines(some, "wordline", num_lines=num_rows, assumed_flip=assumed_flip),
        "data": lambda some: fit_data_dependent(some, assumed_flip=assumed_flip),
    }
    half = hashed(key_of("half", seed), np.arange(len(reads.cells.row))) < 0.5
    held_out = reads.of(~half)
    scores = {name: log_likelihood(fit(reads.of(half)).model, held_out) for name, fit in fits.items()}
    floor = np.log(1e-12)  # a model that calls something impossible is very wrong, but comparable
    gains = {name: np.maximum(score, floor) - np.maximum(scores["uniform"], floor) for name, score in scores.items()}
    gain = {name: float(each.mean()) for name, each in gains.items()}
    spread = {name: float(each.std() / np.sqrt(len(each))) for name, each in gains.items()}
    clear = [name for name in fits if gain[name] > _CLEARLY * spread[name]]
    name = max(clear, key=lambda each: gain[each], default="uniform")
    return Choice(fits[name](reads), name, gain, spread)


def _em(num_reads: Ints, num_errors: Ints) -> tuple[float, float]:
    """Return the maximum likelihood of P and F of model 0."""
    share, flip = 0.5, max(float(num_errors.sum() / num_reads.sum()), _TOLERANCE)
    for _ in range(_MOST_ROUNDS):
        weak = _responsibility(num_reads, num_errors, share, flip)
        before = share, flip
        share = float(weak.mean())
        flip = float((weak * num_errors).sum() / max((weak * num_reads).sum(), _TOLERANCE))
        if abs(share - before[0]) < _TOLERANCE * share and abs(flip - before[1]) < _TOLERANCE * flip:
            break
    return share, min(flip, 1.0)


def _em_by_bit(num_reads: Ints, num_errors: Ints) -> tuple[float, Floats]:
    """Return the maximum likelihood of P and of F by stored bit [2] of model 3."""
    never = num_errors.sum(axis=1) == 0
    share, flips = 0.5, np.maximum(num_errors.sum(axis=0) / np.maximum(num_reads.sum(axis=0), 1), _TOLERANCE)
    for _ in range(_MOST_ROUNDS):
        missed = share * np.exp((num_reads * np.log1p(-np.minimum(flips, 1.0 - 1e-12))).sum(axis=1))
        weak = np.where(never, missed / (missed + 1.0 - share + 1e-300), 1.0)
        before = share
        share = float(weak.mean())
        flips = (weak[:, None] * num_errors).sum(axis=0) / np.maximum((weak[:, None] * num_reads).sum(axis=0), 1e-12)
        if abs(share - before) < _TOLERANCE * share:
            break
    return share, np.minimum(flips, 1.0)


def _responsibility(num_reads: Ints, num_errors: Ints, share: float | Floats, flip: float | Floats) -> Floats:
    """Return how probably each cell is weak [C]: certain where it was wrong once."""
    missed = share * np.exp(xlog1py(num_reads, -np.minimum(flip, 1.0 - 1e-12)))
    return np.where(num_errors > 0, 1.0, missed / (missed + 1.0 - share + 1e-300))


def _per_line(line: Ints, values: Floats, num_lines: int) -> Floats:
    return np.bincount(line, weights=values, minlength=num_lines).astype(np.float64)


def _shrunk(successes: Floats, trials: Floats) -> Floats:
    """Return shares [L] of lines, each drawn to the mean by a Beta prior whose strength the moments over lines give."""
    mean = float(successes.sum() / max(trials.sum(), _TOLERANCE))
    if not 0.0 < mean < 1.0:
        return np.full(len(trials), min(max(mean, 0.0), 1.0))
    seen = trials > 0
    rates = np.divide(successes, trials, out=np.full(len(trials), mean), where=seen)
    noise = mean * (1.0 - mean) * float((1.0 / trials[seen]).mean())
    between = max(float(rates[seen].var()) - noise, 1e-12)
    strength = max(mean * (1.0 - mean) / between - 1.0, 1e-3)
    return np.clip((successes + strength * mean) / (trials + strength), 0.0, 1.0)


def _product_over(rate: float, assumed_flip: float) -> float:
    if not 0.0 < assumed_flip <= 1.0:
        raise ValueError(f"assumed_flip lies in (0, 1], not {assumed_flip}")
    return min(rate / assumed_flip, 1.0)
