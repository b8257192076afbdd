"""A deployed network -> the bit error rate that it bears, and its losses on modules seen and unseen.

Losses are of accuracy, of the same examples without errors: 0.01 is a point. Rates are found on held-out examples,
losses on modules on test examples. Modules as measured are those of `chang2016_dram_latency` with rates between 1e-4
and 5e-3, bank by bank, their errors persistent and on bitlines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.optimize import brentq, nnls

from amble.core.dram import Bitline, DramErrors, Uniform
from amble.levers.memory import modules as memory
from amble.levers.memory.approximating import Faulty
from amble.levers.memory.profiles import line_rates
from amble.runtimes.onnx.faulty import FaultyOnnx
from amble.runtimes.torch.training import Labelled
from amble.stages.measure.accuracy import Examples
from bench.bases.base import data_of
from bench.dram_fit.tables import timings
from bench.kit import places

DATA = places.data()

NUM_TRIALS, NUM_EXAMPLES = 40, 75  # of the curve of losses, at each rate: weights are read anew in every trial
NUM_TESTED = 500  # in a trial on a module
RATES = (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3, 1.28e-2)  # of the curve of losses
LOW_RATES = tuple(10.0**decade for decade in range(-9, -3))  # where implausible values stay
HOPELESS = 0.08  # a mean loss above which higher rates are not tried
LEAST_ERROR, FORM_ERROR = 0.001, 0.15  # of a mean loss; of the fitted form, as a share of the loss
AT = (1e-3, 3e-3)  # rates of the comparison on seen and unseen modules
OWN_MODULE, FLIP = 1, 0.5  # that the curriculum trains on; the share of reads at which a weak cell flips is assumed
UNSEEN_MODULES = (101, 102, 103)


def examples(network: str, split: str, part: slice = slice(None)) -> Examples:
    """Inputs and labels of a network's data set, as its ONNX file takes them; "held_out" or "test"."""
    data = data_of(network)
    every = data.test if split == "test" else data.held_out
    chosen = every.inputs[part]
    assert every.labels is not None
    return Examples({"image": data.prepare(chosen, None).contiguous().numpy()}, every.labels[part].numpy())


def choosing(network: str) -> Labelled:
    """Held-out examples by which epochs and steps are chosen; rates are found on others."""
    every = data_of(network).held_out
    assert every.labels is not None
    return Labelled(every.inputs[-1_000:], every.labels[-1_000:])


@cache
def clean(path: Path, network: str, split: str) -> float:
    """Accuracy without errors, on a whole split."""
    every = examples(network, split)
    return Faulty(FaultyOnnx(path), every, {}, 0.0).on(every).clean


def curve(
    path: Path, network: str, rates: Sequence[float] = RATES, *, corrected: bool = True
) -> dict[float, list[float]]:
    """Losses of all trials at each rate, fresh uniform errors in all tensors, every trial on examples of its own.

    ``corrected``: implausible values become 0. Rates above a hopeless one are not tried.
    """
    faulty = Faulty.of(FaultyOnnx(path), examples(network, "held_out", slice(NUM_TESTED)))
    if not corrected:
        faulty = replace(faulty, bounds={})
    slices = [slice(at * NUM_EXAMPLES, (at + 1) * NUM_EXAMPLES) for at in range(NUM_TRIALS)]
    parts = [faulty.on(examples(network, "held_out", each)) for each in slices]
    losses: dict[float, list[float]] = {}
    for rate in rates:
        losses[rate] = [part.at_rates(dict.fromkeys(part.types, rate), at) for at, part in enumerate(parts)]
        if np.mean(losses[rate]) > HOPELESS:
            break
    return losses


def tolerable(losses: Mapping[float, Sequence[float]], left: float) -> float:
    """The rate at which the mean loss reaches what is left: on a sum of powers of the rate, none negative.

    Single means are noisy, since one flip in a first layer may cost ten points: all of them, weighted by their errors,
    fit loss = a p + b p^2 + c p^3. 0 where nothing is left; the highest rate tried where less is lost.
    """
    if left <= 0.0:
        return 0.0
    rates = np.array(list(losses)) / max(losses)
    means = np.array([np.mean(each) for each in losses.values()])
    errors = np.array([np.std(each, ddof=1) / np.sqrt(len(each)) for each in losses.values()])
    weights = 1.0 / np.hypot(np.maximum(errors, LEAST_ERROR), FORM_ERROR * means)
    powers, _ = nnls(np.stack([rates, rates**2, rates**3], axis=1) * weights[:, None], means * weights)

    def over(rate: float) -> float:
        return float(powers @ [rate, rate**2, rate**3]) - left

    return max(losses) * (float(brentq(over, 0.0, 1.0)) if over(1.0) > 0.0 else 1.0)


def on_test_modules(path: Path, network: str, *, also: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean losses on the curriculum's own module, on others, on measured ones, and on ``also`` brought to rates."""
    found = Faulty.of(FaultyOnnx(path), examples(network, "held_out", slice(NUM_TESTED)))
    faulty = found.on(examples(network, "test", slice(NUM_TESTED)))
    return {
        "seen": {str(at): on_modules(faulty, at, [OWN_MODULE] * 2) for at in AT},
        "unseen": {str(at): on_modules(faulty, at, UNSEEN_MODULES) for at in AT},
        "unseen_measured": {name: on_dimm(faulty, name) for name in measured()},
        "left_out": {str(at): float(np.mean([on_dimm(faulty, each, at) for each in also])) for at in AT if also},
    }


def on_modules(faulty: Faulty, rate: float, modules: Sequence[int]) -> float:
    """Mean loss on modules whose uniform weak cells always flip half of the time."""
    losses = []
    for trial, module in enumerate(modules):
        errors = DramErrors(Uniform(rate / FLIP, FLIP), module=module)
        losses.append(faulty.loss(one_after_the_other(faulty, [errors]), trial))
    return float(np.mean(losses))


def on_dimm(faulty: Faulty, name: str, rate: float | None = None) -> float:
    """Loss with tensors over the banks of a measured module in turn, as measured or brought to this mean rate."""
    return faulty.loss(one_after_the_other(faulty, banks_of(name, rate)), 0)


@cache
def banks_of(name: str, rate: float | None) -> tuple[DramErrors, ...]:
    """The errors of each bank of a measured module, persistent and on bitlines."""
    return tuple(_banks_of(name, rate))


def _banks_of(name: str, rate: float | None) -> Iterator[DramErrors]:
    vendor, rates = measured()[name]
    shape = memory.profile(f"vendor{vendor}").line_shape
    assert shape is not None
    scale = 1.0 if rate is None else rate / float(np.mean(rates))
    for bank, each in enumerate(rates):
        key = int.from_bytes(hashlib.sha256(f"{name} {bank}".encode()).digest()[:4])
        lines = line_rates(min(each * scale, 0.5), shape, num_lines=65_536, module=key)
        yield DramErrors(Bitline(lines, np.ones(len(lines))), module=key)


def half_of_dimms() -> tuple[list[str], list[str]]:
    """Names of measured modules to fit on, and of those left out: every second one of each vendor."""
    ordered = sorted(measured(), key=lambda name: (measured()[name][0], name))
    return ordered[::2], ordered[1::2]


def one_after_the_other(faulty: Faulty, banks: Sequence[DramErrors]) -> dict[str, tuple[DramErrors, int]]:
    """Lay tensors out over banks in turn."""
    one = faulty.network.observe({name: value[:1] for name, value in faulty.examples.inputs.items()})
    sizes = {name: value.nbytes for name, value in {**one, **faulty.network.weights}.items()}
    ends, homes = [0] * len(banks), {}
    for at, name in enumerate(faulty.types):
        bank = at % len(banks)
        homes[name] = (banks[bank], ends[bank])
        ends[bank] += 8 * sizes[name]
    return homes


@cache
def measured() -> Mapping[str, tuple[str, tuple[float, ...]]]:
    """Measured modules with errors between 1e-4 and 5e-3 at short timings: vendor and rates by bank."""
    found = {}
    for tested in timings(DATA):
        if tested.temperature_c != 20.0:
            continue
        rates = tested.rates
        for module in np.unique(rates.module):
            rows = rates.rows(rates.module == module)
            by_bank = [float((10.0 ** rows.log10_ber[rows.bank == bank]).mean()) for bank in np.unique(rows.bank)]
            if 1e-4 <= np.mean(by_bank) <= 5e-3:
                name = f"{module}, tRCD {tested.trcd_ns:g} ns, tRP {tested.trp_ns:g} ns"
                found[name] = (tested.vendor, tuple(by_bank))
    return found
