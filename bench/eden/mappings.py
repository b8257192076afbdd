"""A retrained network and what it bears -> its mappings to approximate memory, shown and tried: for the study.

All that takes long is kept in `build/eden`, as soon as it is there, under a digest of the network, of what was found
out about it and of this file: change a word here when mappings are proven in another way.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from amble import bundled, inputs
from amble.core.errors import Refused
from amble.levers.memory import approximating, tolerance
from amble.levers.memory import mapping as planning
from amble.levers.memory import modules as memory
from amble.levers.memory.partitions import DramPlan, Partition, Shown, Stored
from amble.levers.memory.tolerance import Rule
from amble.runtimes.onnx.faulty import FaultyOnnx
from amble.stages.measure.accuracy import Examples
from bench.kit import code
from bench.kit.places import BUILD

HARDENED = BUILD / "train" / "hardened"
KEPT = BUILD / "eden"


PUBLISHED = {"cpu": 0.21, "gpu": 0.37, "eyeriss": 0.31, "tpu": 0.32}
PUBLISHED_TIME = {"cpu": 0.08, "gpu": 0.027, "eyeriss": 0.0, "tpu": 0.0}
SYSTEMS = tuple(PUBLISHED)
CENTRAL = 10.0
FACTORS = (1.0, CENTRAL, 100.0)
CHIP = "ddr4-2400"
MAX_LOSS = 0.01
NUM_FOUND, NUM_PROVEN, NUM_TRIED, NUM_TRIALS = 400, 600, 300, 40
FIRST_TRIED = 500_000  # seed of the modules that try a mapping again
FINE_START, FINE_FACTOR = 0.5, 4.0
FINE_SEED = 1  # of networks whose tensors have rates of their own
VENDORS = ("B",)
ALL_VENDORS = ("lenet", 1, "better")

Record = dict[str, Any]
Key = tuple[str, int, str, str]


def path(key: Key) -> Path:
    network, seed, precision, recipe = key
    return HARDENED / f"{network}-{seed}-{precision}-{recipe}.onnx"


def own_digest() -> bytes:
    """Return a digest of this file: how mappings are made."""
    return code.whole(Path(__file__)).encode()


def keep(file: Path, found: object) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".partial").write_text(json.dumps(found))
    os.replace(file.with_suffix(".partial"), file)


def kept(key: Key, row: Record, *, deadline_s: float) -> list[Record]:
    """Return the mappings of a case, from `build/eden` where they were made by this code for this network before.

    None where they were not, and the time is up.
    """
    found_out = json.dumps([row["tolerable_ber"], row["lost_clean"]]).encode()
    digest = hashlib.sha256(path(key).read_bytes() + own_digest() + found_out).hexdigest()[:16]
    file = KEPT / f"{'-'.join(map(str, key))}-{digest}.json"
    if not file.exists():
        if time.monotonic() > deadline_s:
            return []
        keep(file, list(mapped_network(key, row, file.with_suffix(".rates"))))
    found: list[Record] = json.loads(file.read_text())
    return found


class Shelf:
    """What took long to find, kept in a file as soon as it is there."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def get(self, key: str, find: Callable[[], Any]) -> Any:
        """Return what is known, or find it."""
        if key not in self._known:
            self._known[key] = find()
            keep(self._file, self._known)
        return self._known[key]

    def count(self, beginning: str) -> int:
        """Return how many keys begin like this."""
        return sum(key.startswith(beginning) for key in self._known)


@dataclass(frozen=True, slots=True)
class Judge:
    """A network with the images that show its mappings, and those that try them again."""

    shelf: Shelf
    faulty: approximating.Faulty
    proving: approximating.Faulty
    trying: approximating.Faulty
    rates: dict[str, float]
    left: float
    flops: float


def mapped_network(key: Key, row: Record, rates_file: Path) -> Iterator[Record]:
    network, seed, precision, recipe = key
    head: Record = {"network": network, "precision": precision, "seed": seed, "recipe": recipe}
    left = MAX_LOSS - max(0.0, float(row["lost_clean"]))
    rate = float(row["tolerable_ber"])
    if rate == 0.0:
        yield {**head, "system": None, "note": "retraining costs all that may be lost: nothing to map"}
        return
    judge = judged(key, rate, left, Shelf(rates_file.with_suffix(".shown")))
    fine = seed == FINE_SEED
    if fine:
        judge = finer(judge, rates_file)
    for vendor in ("A", "B", "C") if (network, seed, recipe) == ALL_VENDORS else VENDORS:
        yield from mapped(judge, {**head, "vendor": vendor, "limits": "of each tensor" if fine else "one"}, vendor)


def judged(key: Key, rate: float, left: float, shelf: Shelf) -> Judge:
    graph, network = inputs.load(path(key)), key[0]
    faulty = approximating.Faulty.of(FaultyOnnx(path(key)), examples(network, "held_out", 0, NUM_FOUND))
    proving = faulty.on(examples(network, "test", 1_000, NUM_PROVEN))
    trying = faulty.on(examples(network, "test", 3_000, NUM_TRIED))
    flops = sum(each.flops for each in graph.operators)
    return Judge(shelf, faulty, proving, trying, dict.fromkeys(faulty.types, rate), left, flops)


def finer(judge: Judge, file: Path) -> Judge:
    """Raise the rate of every tensor as far as all are borne together."""
    rates = json.loads(file.read_text()) if file.exists() else None
    if rates is None:
        rule = Rule(max_loss=judge.left, resolution=1.0 / NUM_FOUND, min_trials=3, max_trials=8)
        start = {name: rate * FINE_START for name, rate in judge.rates.items()}
        found = tolerance.fine(judge.faulty.at_rates, start, rule, known={}, seed=0, factor=FINE_FACTOR)
        rates = found.rates
        keep(file, rates)
    return replace(judge, rates=rates)


def examples(network: str, split: str, first: int, count: int) -> Examples:
    """Inputs and labels of a network's data set: held_out, or test."""
    part = slice(first, first + count)
    if network == "keywords":
        from bench.bases.keywords import spoken

        found, labels = spoken(split)
    else:
        found, labels = bundled.fashion_mnist("test" if split == "test" else "held_out")
    return Examples({"image": bundled.model_input(found[part])}, labels[part].astype(np.int64))


def mapped(judge: Judge, head: Record, vendor: str) -> Iterator[Record]:
    """Plan for every system and factor; a mapping is shown and tried once, whatever the system, if it is the same."""
    profile = memory.profile(f"vendor{vendor}")

    def proof(plan: DramPlan, failed_before: int) -> tuple[bool, str | None]:
        def anew() -> tuple[bool, str | None]:
            seed = approximating.SEEDS_APART * judge.shelf.count("proven")
            proving = approximating.Proving(judge.proving, profile, judge.left, seed, failed_before=failed_before)
            found = proving(plan, 0)
            return found.kept, None if found.kept else proving.blame(plan, found)

        passed, guilty = judge.shelf.get(f"proven {vendor} {failed_before} {tenants(plan)}", anew)
        return passed, guilty

    def tried(plan: DramPlan) -> float:
        def anew() -> float:
            losses = approximating.trials(plan, network=judge.trying, profile=profile, num=NUM_TRIALS, seed=FIRST_TRIED)
            return float(np.mean([loss <= judge.left + 1e-9 for loss in losses]))

        return float(judge.shelf.get(f"tried {vendor} {tenants(plan)}", anew))

    for system in SYSTEMS:
        made = memory.module(CHIP, system)
        duration_s, tensors = approximating.stored(judge.faulty, judge.rates, made, judge.flops)
        for factor in FACTORS:
            partitions = approximating.Memories(made, profile, factor).partitions(duration_s)
            plan, verified, share = planning.assign(tensors, partitions), "not asked", None
            simple = planning.algorithm_1(tensors, partitions).energy_j, planning.greedy(tensors, partitions).energy_j
            ratios = [plan.energy_j / energy_j for energy_j in simple]
            if factor == CENTRAL:
                plan, verified = shown(tensors, partitions, plan, proof)
                share = tried(plan) if verified == "yes" else None
            yield {
                **head,
                "system": system,
                "factor": factor,
                **figures(plan, duration_s),
                "published_saving": PUBLISHED[system],
                "published_time_saved": PUBLISHED_TIME[system],
                "over_algorithm_1": ratios[0],
                "over_greedy": ratios[1],
                "verified": verified,
                "kept_of_40": share,
            }


def tenants(plan: DramPlan) -> str:
    """Return a key of what decides the errors of a mapping."""
    placed = [(each.tensor, each.partition, each.start_bit, each.ber) for each in plan.placed]
    return hashlib.sha256(repr(placed).encode()).hexdigest()[:16]


def shown(
    tensors: Sequence[Stored],
    partitions: Sequence[Partition],
    plan: DramPlan,
    proof: Callable[[DramPlan, int], tuple[bool, str | None]],
) -> tuple[DramPlan, str]:
    """Return the mapping that was proven, tightened where it had to be; ``plan`` where none was."""
    guilty: list[str | None] = []

    def verify(plan: DramPlan, failed: int) -> Shown:
        passed, name = proof(plan, failed)
        guilty.append(name)
        return Shown(passed, "")

    def planned(tighter: Sequence[Stored]) -> DramPlan:
        return planning.assign(tighter, partitions)

    try:
        return planning.verified(planned, tensors, verify, blame=lambda plan, shown: guilty[-1]), "yes"
    except Refused:
        return plan, "no"


def figures(plan: DramPlan, duration_s: float) -> Record:
    return {
        "saving": plan.saving,
        "energy_j": plan.energy_j,
        "nominal_j": plan.nominal_j,
        "lower_bound_j": plan.lower_bound_j,
        "duration_s": duration_s,
        "time_saved": plan.saved_s / duration_s,
        "highest_ber": max(each.ber for each in plan.placed),
    }
