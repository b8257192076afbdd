"""Fits find the error model that made the reads, and say what the reads cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.dram import Bitline, DataDependent, ErrorModel, Layout, Uniform, Wordline
from amble.levers.memory.fitting import Reads, choose, fit_data_dependent, fit_lines, fit_uniform, log_likelihood

LAYOUT = Layout(num_banks=1, num_rows=64, row_bits=512)
CELLS = LAYOUT.cells(np.arange(LAYOUT.num_bits))


def made(model: ErrorModel, num_reads: int = 10, seed: int = 0) -> Reads:
    """Read every cell so often, holding a 0 in one half of the reads and a 1 in the other."""
    random = np.random.default_rng(seed)
    weak = random.random(LAYOUT.num_bits) < model.weak(CELLS)
    times = np.zeros((LAYOUT.num_bits, 2), dtype=np.int64)
    times[:, 0], times[:, 1] = (num_reads + 1) // 2, num_reads // 2
    stored = np.arange(2, dtype=np.uint8) * np.ones((LAYOUT.num_bits, 1), dtype=np.uint8)
    flip = np.stack([model.flip(CELLS, stored[:, bit]) for bit in (0, 1)], axis=1)
    return Reads(CELLS, times, random.binomial(times, flip * weak[:, None]))


def lines(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.2, 2.0, count)


MODELS: dict[str, ErrorModel] = {
    "uniform": Uniform(0.05, 0.4),
    "bitline": Bitline(lines(512, 1), np.full(512, 0.5)),
    "wordline": Wordline(lines(64, 2), np.full(64, 0.5)),
    "data": DataDependent(0.1, p_flip_one=0.1, p_flip_zero=0.6),
}


def test_expectation_maximisation_recovers_planted_shares() -> None:
    fitted = fit_uniform(made(Uniform(0.03, 0.25)), assumed_flip=1.0)
    assert isinstance(fitted.model, Uniform)
    assert fitted.model.p_weak == pytest.approx(0.03, rel=0.1)
    assert fitted.model.p_flip == pytest.approx(0.25, rel=0.05)
    assert fitted.flip_identified


def test_no_other_shares_are_more_likely_than_the_fitted_ones() -> None:
    reads = made(Uniform(0.03, 0.25))
    fitted = fit_uniform(reads, assumed_flip=1.0)
    assert isinstance(fitted.model, Uniform)
    for share, flip in ((1.05, 1.0), (0.95, 1.0), (1.0, 1.05), (1.0, 0.95), (1.03, 0.97)):
        other = Uniform(fitted.model.p_weak * share, fitted.model.p_flip * flip)
        assert log_likelihood(other, reads).sum() < fitted.log_likelihood


def test_one_read_a_cell_tells_the_product_alone_and_takes_the_assumed_flip() -> None:
    reads = made(Uniform(0.05, 0.4), num_reads=1)
    for assumed in (0.1, 0.5, 1.0):
        fitted = fit_uniform(reads, assumed_flip=assumed)
        assert not fitted.flip_identified
        assert fitted.model.most_flip == assumed
        assert fitted.model.ber(0.0) == pytest.approx(reads.rate)
    likelihoods = {round(fit_uniform(reads, assumed_flip=flip).log_likelihood, 6) for flip in (0.1, 0.5, 1.0)}
    assert len(likelihoods) == 1


def test_data_dependent_flips_are_recovered() -> None:
    model = fit_data_dependent(made(MODELS["data"]), assumed_flip=1.0).model
    assert isinstance(model, DataDependent)
    assert model.p_weak == pytest.approx(0.1, rel=0.05)
    assert model.p_flip_one == pytest.approx(0.1, rel=0.1)
    assert model.p_flip_zero == pytest.approx(0.6, rel=0.05)


@pytest.mark.parametrize("num_reads", [1, 10])
def test_shrinking_brings_line_shares_nearer_to_the_planted_ones_than_counting(num_reads: int) -> None:
    planted = np.random.default_rng(3).beta(2.0, 60.0, 512)
    reads = made(Bitline(planted, np.ones(512)), num_reads)
    model = fit_lines(reads, "bitline", num_lines=512, assumed_flip=1.0).model
    counted = np.bincount(reads.cells.bitline, weights=reads.num_errors.sum(axis=1) > 0) / 64
    assert np.square(model.weak(CELLS)[:512] - planted).mean() < 0.8 * np.square(counted - planted).mean()


@pytest.mark.parametrize("name", MODELS)
def test_the_planted_model_is_chosen(name: str) -> None:
    choice = choose(made(MODELS[name]), num_bitlines=512, num_rows=64, assumed_flip=1.0, seed=0)
    assert choice.name == name
    assert choice.gain["uniform"] == 0.0


def test_a_tie_goes_to_the_simplest_model() -> None:
    names = [
        choose(made(MODELS["uniform"], seed=seed), num_bitlines=512, num_rows=64, assumed_flip=1.0, seed=seed).name
        for seed in range(8)
    ]
    assert names.count("uniform") >= 7


def test_memory_without_an_error_fits_a_model_without_errors() -> None:
    reads = made(Uniform(0.0, 1.0))
    choice = choose(reads, num_bitlines=512, num_rows=64, assumed_flip=1.0, seed=0)
    assert choice.name == "uniform"
    assert choice.fitted.model.ber(0.5) < 1e-6


def test_impossible_counts_are_wrong_arguments() -> None:
    counts = np.ones((LAYOUT.num_bits, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="more often than it was read"):
        Reads(CELLS, counts, 2 * counts)
    with pytest.raises(ValueError, match=r"\[cell, 2\]"):
        Reads(CELLS, counts[:5], counts[:5])
    with pytest.raises(ValueError, match="nothing was read"):
        Reads(CELLS, 0 * counts, 0 * counts)
    with pytest.raises(ValueError, match="assumed_flip"):
        fit_uniform(made(MODELS["uniform"], 1), assumed_flip=0.0)
