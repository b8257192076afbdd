"""The base networks -> the same networks retrained for approximate memory, judged: `python -m bench.eden.retrain`.

Every network, precision and seed is retrained by EDEN's curriculum (`faithful`) and by the better recipe (`better`), on
as many examples. One of them also without errors (`plain`), on one fixed pattern (`fixed`), and by the curriculum with
fresh errors (`fresh`) or with those of half of the measured modules (`fitted`). Interrupt it at any time: it continues.
ONNX files go to `build/train/hardened`, one JSON line for each case to `retrain.jsonl`, with the digests of code
and data.

Of the base network's accuracy one point may be lost, on held-out examples: what is lost without errors leaves less for
errors. What a longer training gains leaves more in `within_a_point_ber`, as EDEN counts, and not in `tolerable_ber`,
so that there no recipe gains by learning longer. Both are where the mean loss crosses what is left, with fresh uniform
errors in all tensors (estimates: a mapping is shown to keep its target by `bench/eden`). `seen` and `unseen` are
losses against the base on test examples at fixed rates: on the module that the curriculum was given, on others, and on
modules as measured that no recipe saw but `fitted`. `left_out` are the modules that `fitted` did not see either,
brought to fixed rates.
"""

from __future__ import annotations

import os

from bench.bases import families
from bench.eden import hardened, judging
from bench.kit import code
from bench.kit.places import BENCH

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from amble.core.dram import DramErrors, Uniform
from amble.levers.memory.learning import hardening, reads, retrain, unreliable
from amble.levers.memory.learning.hardening import Lesson, relearn
from amble.levers.memory.learning.retrain import Climb, curricular
from amble.levers.memory.learning.unreliable import (
    Errors,
    FreshErrors,
    ModuleErrors,
    Precision,
    Unreliable,
    ranges,
    stores,
)
from amble.runtimes.torch import training
from amble.runtimes.torch.training import CrossEntropy, Recipe
from bench.bases.base import KEPT, data_of, trained
from bench.bases.export import folded
from bench.bases.families import NETWORKS
from bench.eden.hardened import Limits, base_path, write_fp32, write_int8
from bench.eden.judging import FLIP, OWN_MODULE, banks_of, choosing, clean, half_of_dimms, measured

LOG = BENCH / "eden" / "retrain.jsonl"
HARDENED = KEPT / "hardened"
ABLATED = ("lenet", 1, "int8")
SPLITS = ("held_out", "test")
RECIPES = ("none", "faithful", "better")
ABLATIONS = ("plain", "fixed", "fresh", "fitted")

TARGETS: dict[Precision, dict[str, float]] = {  # bit error rates to train for: 2 to 7 times what base networks bear
    "fp32": {"lenet": 2.5e-3, "vgg": 1e-3, "resnet": 8e-4, "mobilenet": 4e-4, "keywords": 5e-4},
    "int8": {"lenet": 5e-3, "vgg": 2.8e-3, "resnet": 2.4e-3, "mobilenet": 7e-4, "keywords": 8e-4},
}
EPOCHS = {"lenet": 5, "vgg": 6, "resnet": 6, "mobilenet": 2, "keywords": 16}  # in all, of whatever recipe
TOP_RATE = 0.004  # of the one cycle of the curriculum: steps as long as those of the better recipe unlearn
SLOW_IN_BFLOAT16 = ("lenet", "mobilenet")  # small dense layers, depth-wise convolutions
GENTLY = "keywords"  # few examples: in 16 epochs of the other networks' recipe it lost 0.8 points without errors
MOST_STEPS = 6  # of the curriculum
MAX_LOSS = 0.01


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


def made(case: Case) -> tuple[nn.Module, Limits]:
    """Retrain a network, batch normalisation folded in -> it, and where its feature maps are cut."""
    network = folded(trained(case.network, case.seed)).to(memory_format=torch.channels_last)
    if case.recipe == "better":
        return better(case, network)
    data = data_of(case.network)
    if case.recipe == "plain":
        training.train(network, data.learning, whole(case), loss=CrossEntropy(), prepare=data.prepare)
        return network, {}
    calibration = [data.prepare(data.learning.inputs[:1_000], None)]
    memory = Unreliable(network, stores(network, ranges(network, calibration), case.precision), errors_of(case.recipe))
    base = training.accuracy(network, choosing(case.network), prepare=data.prepare)
    num_steps = min(EPOCHS[case.network], MOST_STEPS)
    curricular(
        memory,
        data.learning,
        replace(whole(case), epochs=EPOCHS[case.network] // num_steps, top_rate=TOP_RATE),
        climb=Climb(case.target / 16, case.target, num_steps, floor=base - MAX_LOSS, least_ratio=1.3),
        held_out=choosing(case.network),
        prepare=data.prepare,
        checkpoint=case.path(".climb"),
        on_stage=lambda stage: print(case, stage, flush=True),
    )
    return network, {}


def better(case: Case, network: nn.Module) -> tuple[nn.Module, Limits]:
    data = data_of(case.network)
    limits = relearn(
        network,
        data.learning,
        whole(case),
        lesson=lesson_of(case),
        held_out=choosing(case.network),
        on_epoch=lambda epoch: print(case, epoch, flush=True),
    )
    return network, limits


def lesson_of(case: Case) -> Lesson:
    prepare = data_of(case.network).prepare
    lesson = Lesson(case.target, case.precision, prepare=prepare, checkpoint=case.path(".part"))
    return hardening.gentle(lesson) if case.network == GENTLY else lesson


def whole(case: Case) -> Recipe:
    """The one cycle of a recipe that has no steps."""
    rate = hardening.top_rate(0 if case.network == GENTLY else hardening.ENOUGH_STEPS)
    if case.network == "lenet":
        rate = 0.03  # as it was trained at first
    return Recipe(EPOCHS[case.network], top_rate=rate, seed=case.seed, bfloat16=case.network not in SLOW_IN_BFLOAT16)


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
        write_int8(whole, path, asymmetric=case.recipe == "better", images=data_of(case.network).learning.inputs)
        whole.unlink()
    for rest in (".climb", ".part"):
        case.path(rest).unlink(missing_ok=True)
    return path


def judged(case: Case) -> dict[str, object]:
    """The rate that a deployed network bears, and its losses on modules seen and unseen, against its base network."""
    path, base = deployed(case), deployed(replace(case, recipe="none"))
    own = clean(path, case.network, "held_out")
    before, lost = (clean(base, case.network, split) - clean(path, case.network, split) for split in SPLITS)
    losses = judging.curve(path, case.network)
    also = half_of_dimms()[1] if (case.network, case.seed) == ABLATED[:2] else []
    on_modules = judging.on_test_modules(path, case.network, also=also)
    return {
        "held_out_accuracy": own,
        "test_accuracy": clean(path, case.network, "test"),
        "lost_clean": before,
        "tolerable_ber": judging.tolerable(losses, MAX_LOSS - max(0.0, before)),
        "within_a_point_ber": judging.tolerable(losses, MAX_LOSS - before),
        "uncorrected_ber": uncorrected(path, case) if case.recipe == "none" else None,
        "losses": {str(at): float(torch.tensor(each).mean()) for at, each in losses.items()},
        **{kind: {name: lost + loss for name, loss in each.items()} for kind, each in on_modules.items()},
    }


def uncorrected(path: Path, case: Case) -> float:
    """The rate that a network bears where implausible values are left as they are."""
    return judging.tolerable(judging.curve(path, case.network, judging.LOW_RATES, corrected=False), MAX_LOSS)


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
    return banks_of(name, rate)[bank]


def provenance() -> dict[str, object]:
    modules = (families, hardened, judging, hardening, reads, retrain, training, unreliable)
    return {
        "code_sha256": code.whole(Path(__file__), *(Path(str(each.__file__)) for each in modules)),
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
            "data_sha256": data_of(case.network).sha256,
            **sources,
        }
        with LOG.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(record, flush=True)


if __name__ == "__main__":
    main()
