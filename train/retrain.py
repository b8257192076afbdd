"""The base networks -> the same networks retrained for approximate memory, judged: `python train/retrain.py`.

Every network, precision and seed is retrained by EDEN's curriculum (`faithful`) and by the better recipe (`better`), on
as many images. One of them also without errors (`plain`), on one fixed pattern (`fixed`), and by the curriculum with
fresh errors (`fresh`) or with those of half of the measured modules (`fitted`). Interrupt it at any time: it continues.
ONNX files go to `build/train/hardened`, one JSON line for each case to `train/retrain.jsonl`, with the digests of code
and data.

The tolerable rate keeps one point of the base network's accuracy, so that no recipe gains by learning longer: what is
lost without errors (on 5,000 held-out images) leaves less for errors, and what is gained leaves no more. It is where
the mean loss crosses what is left, with fresh uniform errors in all tensors (an estimate: a mapping is shown to keep
its target by `bench/eden.py`). `seen` and `unseen` are losses against the base on test images at fixed rates: on the
module that the curriculum was given, on others, and on modules as measured that no recipe saw but `fitted`, bank by
bank, their errors persistent and on bitlines. `left_out` are the modules that `fitted` did not see either, brought to
fixed rates.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from base import KEPT, held_out, learning, prepare, trained
from data import digest, original
from export import folded
from families import NETWORKS
from hardened import Limits, base_path, write_fp32, write_int8
from torch import Tensor, nn

from amble import bundled
from amble.adapt.learning import hardening, retrain, training, unreliable
from amble.adapt.learning.hardening import Lesson, relearn
from amble.adapt.learning.retrain import Climb, curricular
from amble.adapt.learning.training import CrossEntropy, Labelled, Recipe
from amble.adapt.learning.unreliable import Errors, FreshErrors, ModuleErrors, Precision, Unreliable, ranges, stores
from amble.core.dram import Bitline, DramErrors, Uniform
from amble.core.memories import line_rates
from amble.devices import memory
from amble.jobs.approximating import Faulty
from amble.measure.accuracy import Examples
from amble.runtimes.faulty_onnx import FaultyOnnx

sys.path.append(str(Path(__file__).parents[1] / "bench"))

from dram_tables import timings

HERE = Path(__file__).parent
LOG = HERE / "retrain.jsonl"
HARDENED = KEPT / "hardened"
DATA = Path(os.environ.get("AMBLE_DATA") or HERE.parents[1] / "shared" / "data")
ABLATED = ("lenet", 1, "int8")
RECIPES = ("none", "faithful", "better")
ABLATIONS = ("plain", "fixed", "fresh", "fitted")

TARGETS: dict[Precision, dict[str, float]] = {  # bit error rates to train for: about 8 times what base networks bear
    "fp32": {"lenet": 3e-3, "vgg": 1.4e-3, "resnet": 1.25e-3, "mobilenet": 1e-3},
    "int8": {"lenet": 4.5e-3, "vgg": 3.8e-3, "resnet": 3.2e-3, "mobilenet": 8e-4},
}
NUM_EPOCHS = 3  # of the images to learn from, in all
TOP_RATE = 0.004  # of the one cycle of the curriculum: steps as long as those of the better recipe unlearn
FEWER_EPOCHS = {"mobilenet": 1}  # where one takes three times as long
MAX_LOSS = 0.01
NUM_TRIALS, NUM_EXAMPLES = 15, 200  # of the curve of losses, at each rate: weights are read anew in every trial
NUM_TESTED = 500  # in a trial on a module
RATES = (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3, 1.28e-2)  # of the curve of losses
HOPELESS = 0.05  # a mean loss above which higher rates are not tried
AT = (1e-3, 3e-3)  # rates of the comparison on seen and unseen modules
OWN_MODULE, FLIP = 1, 0.5  # that the curriculum trains on; the share of reads at which a weak cell flips is assumed


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """What is retrained, and how."""

    network: str
    seed: int
    precision: Precision
    recipe: str

    @property
    def target(self) -> float:
        return TARGETS[self.precision][self.network]

    def path(self, suffix: str) -> Path:
        return HARDENED / f"{self.network}-{self.seed}-{self.precision}-{self.recipe}{suffix}"


def cases(networks: list[str], seeds: list[int]) -> list[Case]:
    """All cases, those of the first seed first, a base network before what is made of it."""
    found = []
    for seed in seeds:
        for network in networks:
            for precision in ("fp32", "int8"):
                more = ABLATIONS if (network, seed, precision) == ABLATED else ()
                found += [Case(network, seed, precision, recipe) for recipe in (*RECIPES, *more)]
    return found


def some(data: Labelled, part: slice) -> Labelled:
    assert data.labels is not None
    return Labelled(data.inputs[part], data.labels[part])


@cache
def judging() -> Labelled:
    """Held-out images by which epochs are chosen; rates are found on others."""
    return some(held_out(), slice(3_000, 4_000))


def made(case: Case) -> tuple[nn.Module, Limits]:
    """Retrain a network, batch normalisation folded in -> it, and where its feature maps are cut."""
    network = folded(trained(case.network, case.seed)).to(memory_format=torch.channels_last)
    if case.recipe == "better":
        return better(case, network)
    if case.recipe == "plain":
        training.train(network, learning(), whole(case), loss=CrossEntropy(), prepare=prepare)
        return network, {}
    calibration = [prepare(learning().inputs[:1_000], None)]
    memory = Unreliable(network, stores(network, ranges(network, calibration), case.precision), errors_of(case.recipe))
    base, target = training.accuracy(network, judging(), prepare=prepare), case.target
    curricular(
        memory,
        learning(),
        Recipe(1, top_rate=TOP_RATE, seed=case.seed),
        climb=Climb(target / 16, target, NUM_EPOCHS, floor=base - MAX_LOSS, least_ratio=1.3),
        held_out=judging(),
        prepare=prepare,
        checkpoint=case.path(".climb"),
        on_stage=lambda stage: print(case, stage, flush=True),
    )
    return network, {}


def whole(case: Case) -> Recipe:
    rate = 0.03 if case.network == "lenet" else hardening.top_rate(hardening.ENOUGH_STEPS)  # as it was trained at first
    return Recipe(FEWER_EPOCHS.get(case.network, NUM_EPOCHS), top_rate=rate, seed=case.seed)


def better(case: Case, network: nn.Module) -> tuple[nn.Module, Limits]:
    limits = relearn(
        network,
        learning(),
        whole(case),
        lesson=Lesson(case.target, case.precision, prepare=prepare, checkpoint=case.path(".part")),
        held_out=judging(),
        on_epoch=lambda epoch: print(case, epoch, flush=True),
    )
    return network, limits


def errors_of(recipe: str) -> Errors:
    """What a curriculum trains with."""
    if recipe == "fresh":
        return FreshErrors()
    if recipe == "fitted":
        return Dimms(half_of_dimms()[0])
    return ModuleErrors(partial(own_module, flip=FLIP if recipe == "faithful" else 1.0))


def own_module(rate: float, *, flip: float) -> DramErrors:
    return DramErrors(Uniform(min(rate / flip, 1.0), flip), module=OWN_MODULE)


def deployed(case: Case) -> Path:
    """Return the ONNX file of a case, retrained if it is not there yet."""
    path = case.path(".onnx")
    if path.exists():
        return path
    network, limits = (None, {}) if case.recipe == "none" else made(case)
    whole = path if case.precision == "fp32" else case.path(".float.onnx")
    write_fp32(base_path(case.network, case.seed), network, limits, whole)
    if case.precision == "int8":
        write_int8(whole, path, asymmetric=case.recipe == "better")
        whole.unlink()
    for rest in (".climb", ".part"):
        case.path(rest).unlink(missing_ok=True)
    return path


def images(split: str, part: slice) -> Examples:
    """Bundled images; ValueError for another split."""
    if split not in ("held_out", "test"):
        raise ValueError(split)
    found, labels = bundled.fashion_mnist("test" if split == "test" else "held_out")
    return Examples({"image": bundled.model_input(found[part])}, labels[part].astype(np.int64))


def judged(case: Case) -> dict[str, object]:
    """The rate that a deployed network bears, and its losses on modules seen and unseen."""
    path, base = deployed(case), deployed(replace(case, recipe="none"))
    before, own = clean(base, "held_out"), clean(path, "held_out")
    faulty = Faulty.of(FaultyOnnx(path), images("held_out", slice(NUM_TESTED)))
    losses = curve(faulty)
    test = faulty.on(images("test", slice(NUM_TESTED)))
    lost = clean(base, "test") - clean(path, "test")
    left_out = half_of_dimms()[1] if (case.network, case.seed) == ABLATED[:2] else []
    return {
        "held_out_accuracy": own,
        "test_accuracy": clean(path, "test"),
        "lost_clean": before - own,
        "tolerable_ber": crossing(losses, MAX_LOSS - max(0.0, before - own)),
        "losses": {str(at): loss for at, loss in losses.items()},
        "seen": {str(at): lost + on_modules(test, at, [OWN_MODULE] * 2) for at in AT},
        "unseen": {str(at): lost + on_modules(test, at, [101, 102, 103]) for at in AT},
        "unseen_measured": {name: lost + on_dimm(test, name) for name in measured()},
        "left_out": {
            str(at): lost + float(np.mean([on_dimm(test, each, at) for each in left_out])) for at in AT if left_out
        },
    }


def curve(faulty: Faulty) -> dict[float, float]:
    """Mean loss at each rate, fresh uniform errors in all tensors, every trial on images of its own."""
    slices = [slice(at * NUM_EXAMPLES, (at + 1) * NUM_EXAMPLES) for at in range(NUM_TRIALS)]
    parts = [faulty.on(images("held_out", each)) for each in slices]
    losses: dict[float, float] = {}
    for rate in RATES:
        found = [part.at_rates(dict.fromkeys(part.types, rate), at) for at, part in enumerate(parts)]
        losses[rate] = float(np.mean(found))
        if losses[rate] > HOPELESS:
            break
    return losses


def crossing(losses: Mapping[float, float], left: float) -> float:
    """The rate at which the mean loss, made monotone, reaches what is left; between rates by their logarithms.

    0 where nothing is left, or even the lowest rate costs more; the highest rate where none costs as much.
    """
    rates, found = np.log10(list(losses)), np.maximum.accumulate(list(losses.values()))
    if left <= 0.0 or found[0] > left:
        return 0.0
    above = np.flatnonzero(found > left)
    if not len(above):
        return float(10.0 ** rates[-1])
    high = above[0]
    share = (left - found[high - 1]) / (found[high] - found[high - 1])
    return float(10.0 ** (rates[high - 1] + share * (rates[high] - rates[high - 1])))


@cache
def clean(path: Path, split: str) -> float:
    every = images(split, slice(None))
    return Faulty(FaultyOnnx(path), every, {}, 0.0).on(every).clean


def on_modules(faulty: Faulty, rate: float, modules: list[int]) -> float:
    """Mean loss on modules whose uniform weak cells always flip half of the time."""
    losses = []
    for trial, module in enumerate(modules):
        errors = DramErrors(Uniform(rate / FLIP, FLIP), module=module)
        losses.append(faulty.loss(one_after_the_other(faulty, [errors]), trial))
    return float(np.mean(losses))


def on_dimm(faulty: Faulty, name: str, rate: float | None = None) -> float:
    """Loss with tensors over the banks of a measured module in turn, as measured or brought to this mean rate."""
    return faulty.loss(one_after_the_other(faulty, list(banks_of(name, rate))), 0)


def banks_of(name: str, rate: float | None) -> Iterator[DramErrors]:
    """The errors of each bank of a measured module, persistent and on bitlines."""
    vendor, rates = measured()[name]
    shape = memory.profile(f"vendor{vendor}").line_shape
    assert shape is not None
    scale = 1.0 if rate is None else rate / float(np.mean(rates))
    for bank, each in enumerate(rates):
        key = int.from_bytes(hashlib.sha256(f"{name} {bank}".encode()).digest()[:4])
        lines = line_rates(min(each * scale, 0.5), shape, num_lines=65_536, module=key)
        yield DramErrors(Bitline(lines, np.ones(len(lines))), module=key)


class Dimms:
    """Errors of measured modules at a mean rate: another module in every pass, tensors over its banks in turn."""

    def __init__(self, names: list[str]) -> None:
        self._banks = [
            [ModuleErrors(partial(bank_of, name, bank)) for bank in range(len(measured()[name][1]))] for name in names
        ]
        self._order: list[str] = []
        self._now = self._banks[0]

    def positions(self, name: str, num_bits: int, repeats: int, rate: float) -> Tensor:
        """Return positions [flip]; the tensor that was read first begins a pass."""
        if name not in self._order:
            self._order.append(name)
        at = self._order.index(name)
        if at == 0:
            self._now = self._banks[int(torch.randint(len(self._banks), ()))]
        return self._now[at % len(self._now)].positions(name, num_bits, repeats, rate)


def bank_of(name: str, bank: int, rate: float) -> DramErrors:
    return list(banks_of(name, rate))[bank]


def half_of_dimms() -> tuple[list[str], list[str]]:
    """Names of measured modules to fit on, and of those left out: every second one of each vendor."""
    ordered = sorted(measured(), key=lambda name: (measured()[name][0], name))
    return ordered[::2], ordered[1::2]


def one_after_the_other(faulty: Faulty, banks: list[DramErrors]) -> dict[str, tuple[DramErrors, int]]:
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


def provenance() -> dict[str, object]:
    files = [HERE / name for name in ("families.py", "hardened.py", "retrain.py")]
    files += [Path(str(each.__file__)) for each in (hardening, retrain, training, unreliable)]
    return {
        "code_sha256": hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest(),
        "data_sha256": digest(*original("train"), *original("t10k")),
        "torch": torch.__version__,
    }


def known() -> dict[Case, dict[str, object]]:
    """Return what the log says, by case; the last line of a case counts."""
    if not LOG.exists():
        return {}
    lines = [json.loads(line) for line in LOG.read_text().splitlines()]
    return {Case(each["network"], each["seed"], each["precision"], each["recipe"]): each for each in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--recipes", nargs="+", choices=(*RECIPES, *ABLATIONS), default=[*RECIPES, *ABLATIONS])
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "int8"), default=["fp32", "int8"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    HARDENED.mkdir(parents=True, exist_ok=True)
    sources = provenance()
    for case in cases(chosen.networks, chosen.seeds):
        if case.recipe not in chosen.recipes or case.precision not in chosen.precisions:
            continue
        if case in known() or not (KEPT / f"{case.network}-{case.seed}.pt").exists():
            continue
        start = time.process_time()
        path = deployed(case)
        trained_s = time.process_time() - start
        record = {
            **asdict(case),
            **judged(case),
            "retrained_cpu_s": trained_s,
            "judged_cpu_s": time.process_time() - start - trained_s,
            "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **sources,
        }
        with LOG.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(record, flush=True)


if __name__ == "__main__":
    main()
