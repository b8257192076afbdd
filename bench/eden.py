"""Networks on approximate DRAM: what retraining buys, and the predicted energy and time beside what EDEN published.

Networks like LeNet, VGG, ResNet and MobileNet for Fashion-MNIST, FP32 and INT8, three seeds. Retraining is replayed
from `train/retrain.jsonl`, which `train/retrain.py` writes; one case is retrained live, and must come out the same.
Mappings are planned for the base network and for that of the better recipe, on a CPU, a GPU and two accelerators, at
the sensitivity band of the voltage curve (decision 3): one point of the base network's accuracy may be lost in all,
without errors and with them. Those of the central curve are shown on 59 modules that nobody saw, and what is delivered
is tried again on 40 others and other images. For the first seed weights and feature maps have rates of their own, which
is where the assignment can differ from EDEN's Algorithm 1. Errors are those of vendor B; for one network also those of
A and C. The published averages are over seven larger networks: they are shown, not aimed at.

Networks are read from `build/train/hardened`; where one is missing its targets are not measured. What is done is kept
in `build/eden`: an interrupted run goes on, and one that has taken its time begins no further mapping, says what it
has, and the next goes on.
"""

from __future__ import annotations

import document

document.on_one_core()

import hashlib  # noqa: E402  after the threads are set
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Mapping, Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from amble import bundled, jobs  # noqa: E402
from amble.core.errors import Refused  # noqa: E402
from amble.core.partitions import DramPlan, Partition, Stored  # noqa: E402
from amble.devices import memory  # noqa: E402
from amble.jobs import approximating  # noqa: E402
from amble.measure import tolerance  # noqa: E402
from amble.measure.accuracy import Examples  # noqa: E402
from amble.measure.tolerance import Rule  # noqa: E402
from amble.plan import dram as planning  # noqa: E402
from amble.runtimes.faulty_onnx import FaultyOnnx  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "train" / "retrain.jsonl"
HARDENED = ROOT / "build" / "train" / "hardened"
KEPT = ROOT / "build" / "eden"

PUBLISHED = {"cpu": 0.21, "gpu": 0.37, "eyeriss": 0.31, "tpu": 0.32}
PUBLISHED_TIME = {"cpu": 0.08, "gpu": 0.027, "eyeriss": 0.0, "tpu": 0.0}
SYSTEMS = tuple(PUBLISHED)
NETWORKS = ("lenet", "vgg", "resnet", "mobilenet")
PRECISIONS = ("fp32", "int8")
SEEDS = (1, 2, 3)
CENTRAL = 10.0
FACTORS = (1.0, CENTRAL, 100.0)
CHIP = "ddr4-2400"
MAX_LOSS = 0.01
NUM_FOUND, NUM_PROVEN, NUM_TRIED, NUM_TRIALS = 400, 300, 300, 40
FINE_START, FINE_FACTOR = 0.5, 3.0
VENDORS = ("B",)
ALL_VENDORS = ("lenet", 1, "better")
MAPPED = ("better", "none")
LIMIT_S = 1_500.0  # after which no further mapping is begun: the next run goes on
SHORT = ("lenet", 1, "int8", "better")
LIVE_LIMIT_S = 280.0
LIVE = ("lenet", 1, "int8", "better")

Record = dict[str, Any]
Key = tuple[str, int, str, str]


def main() -> None:
    options = document.options("eden", __doc__)
    start_s = time.monotonic()
    log = replayed()
    results: list[Record] = [
        {name: each for name, each in row.items() if not isinstance(each, dict)} for row in log.values()
    ]
    results += [unseen(key, row) for key, row in log.items()]
    targets = [*retraining_targets(log), *unseen_targets(log), *left_out_targets(log)]
    if not options.quick:
        results.append(live := repeated(log))
        name = "one case retrained live: difference of accuracy to the one replayed"
        targets.append(document.target(name, want="<= 0.003", value=live["difference"], unit="1"))
    keys = [key for key in ((SHORT,) if options.quick else to_map()) if key in log and path(key).exists()]
    mapped = [record for key in keys for record in kept(key, log, deadline_s=start_s + LIMIT_S)]
    targets += mapping_targets(mapped, SEEDS[:1] if options.quick else SEEDS)
    document.finish(options, [*results, *mapped], targets)


def replayed() -> dict[Key, Record]:
    """Return what the training log says by case; the last line of a case counts."""
    rows = [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []
    return {(row["network"], row["seed"], row["precision"], row["recipe"]): {**row, "replayed": True} for row in rows}


def path(key: Key) -> Path:
    network, seed, precision, recipe = key
    return HARDENED / f"{network}-{seed}-{precision}-{recipe}.onnx"


def all_cases() -> Iterator[tuple[str, str, int]]:
    for network in NETWORKS:
        for precision in PRECISIONS:
            for seed in SEEDS:
                yield network, precision, seed


def to_map() -> Iterator[Key]:
    """All mappings, the first seed's and the retrained networks' first."""
    for seed in SEEDS:
        for recipe in MAPPED:
            for network in NETWORKS:
                for precision in PRECISIONS:
                    yield network, seed, precision, recipe


def of(log: Mapping[Key, Record], network: str, precision: str, seed: int, recipe: str) -> Record | None:
    return log.get((network, seed, precision, recipe))


def retraining_targets(log: Mapping[Key, Record]) -> Iterator[document.Target]:
    """How far the better recipe raises the rate that a network bears, and whether further than the faithful one."""
    for network, precision, seed in all_cases():
        rows = [of(log, network, precision, seed, recipe) for recipe in ("none", "faithful", "better")]
        rates = [None if row is None else float(row["tolerable_ber"]) for row in rows]
        where = f"{network}, {precision}, seed {seed}"
        yield document.target(
            f"{where}: tolerable rate after the better recipe over before",
            want=">= 5",
            value=over(rates[2], rates[0]),
            unit="1",
        )


def unseen_targets(log: Mapping[Key, Record]) -> Iterator[document.Target]:
    """Mean losses on what no recipe saw: the faithful recipe's less the better one's."""
    for network, precision, seed in all_cases():
        rows = [of(log, network, precision, seed, recipe) for recipe in ("faithful", "better")]
        where = f"{network}, {precision}, seed {seed}"
        for kind in ("unseen", "unseen_measured"):
            losses = [None if row is None else float(np.mean(list(row[kind].values()))) for row in rows]
            gain = None if None in losses else float(losses[0]) - float(losses[1])  # type: ignore[arg-type]
            what = "patterns" if kind == "unseen" else "measured modules"
            yield document.target(
                f"{where}: loss on unseen {what}, faithful less better", want="> 0", value=gain, unit="1"
            )


def left_out_targets(log: Mapping[Key, Record]) -> Iterator[document.Target]:
    """A curriculum on errors of half of the measured modules, judged on the others: its losses less the better's."""
    for (network, seed, precision, recipe), row in log.items():
        if recipe != "fitted":
            continue
        against = of(log, network, precision, seed, "better")
        for rate, loss in row["left_out"].items():
            yield document.target(
                f"{network}, {precision}, seed {seed}: loss on modules left out of the fit, at {rate}, "
                "curriculum on the fitted ones less better",
                want="> 0",
                value=None if against is None else loss - against["left_out"][rate],
                unit="1",
            )


def unseen(key: Key, row: Record) -> Record:
    """Losses by rate or module, flat."""
    return {
        **dict(zip(("network", "seed", "precision", "recipe"), key, strict=True)),
        **{f"seen at {rate}": loss for rate, loss in row["seen"].items()},
        **{f"unseen at {rate}": loss for rate, loss in row["unseen"].items()},
        **row["unseen_measured"],
        **{f"left out, at {rate}": loss for rate, loss in row["left_out"].items()},
    }


def over(value: float | None, base: float | None) -> float | None:
    if value is None or base is None or base == 0.0:
        return None
    return value / base


def repeated(log: Mapping[Key, Record]) -> Record:
    """Retrain one case anew, in a process and folder of its own; once for this code and log."""
    head: Record = {"live": " ".join(map(str, LIVE)), "difference": None}
    if LIVE not in log:
        return head
    code = hashlib.sha256((log[LIVE]["code_sha256"] + log[LIVE]["onnx_sha256"]).encode()).hexdigest()[:16]
    file = KEPT / f"live-{code}.json"
    if not file.exists():
        live = relived()
        if live is None:
            return head
        keep(file, live)
    found = json.loads(file.read_text())
    return {
        **head,
        "difference": abs(found["held_out_accuracy"] - log[LIVE]["held_out_accuracy"]),
        "same_file": found["onnx_sha256"] == log[LIVE]["onnx_sha256"],
        "same_code": found["code_sha256"] == log[LIVE]["code_sha256"],
    }


def relived() -> Record | None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train" / "live.py"), folder, *map(str, LIVE)]
        try:
            found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIVE_LIMIT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"not retrained live: {error}", file=sys.stderr)
            return None
    live: Record = json.loads(found.stdout.splitlines()[-1])
    return live


def keep(file: Path, found: object) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".partial").write_text(json.dumps(found))
    os.replace(file.with_suffix(".partial"), file)


def kept(key: Key, log: Mapping[Key, Record], *, deadline_s: float) -> list[Record]:
    """Return the mappings of a case, from `build/eden` where they were made by this code for this network before.

    None where they were not, and the time is up.
    """
    digest = hashlib.sha256(path(key).read_bytes() + Path(__file__).read_bytes()).hexdigest()[:16]
    file = KEPT / f"{'-'.join(map(str, key))}-{digest}.json"
    if not file.exists():
        if time.monotonic() > deadline_s:
            return []
        keep(file, list(mapped_network(key, log, file.with_suffix(".rates"))))
    found: list[Record] = json.loads(file.read_text())
    return found


@dataclass(frozen=True, slots=True)
class Judge:
    """A network with the images that show its mappings, and those that try them again."""

    faulty: approximating.Faulty
    proving: approximating.Faulty
    trying: approximating.Faulty
    rates: dict[str, float]
    left: float
    flops: float


def mapped_network(key: Key, log: Mapping[Key, Record], rates_file: Path) -> Iterator[Record]:
    network, seed, precision, recipe = key
    head: Record = {"network": network, "precision": precision, "seed": seed, "recipe": recipe}
    left = MAX_LOSS - max(0.0, float(log[key]["lost_clean"]))
    rate = float(log[key]["tolerable_ber"])
    if rate == 0.0:
        yield {**head, "system": None, "note": "retraining costs all that may be lost: nothing to map"}
        return
    judge = judged(key, rate, left)
    fine = seed == SEEDS[0]
    if fine:
        judge = finer(judge, rates_file)
    for vendor in ("A", "B", "C") if (network, seed, recipe) == ALL_VENDORS else VENDORS:
        yield from mapped(
            judge, {**head, "vendor": vendor, "limits": "weights and features" if fine else "one"}, vendor
        )


def judged(key: Key, rate: float, left: float) -> Judge:
    graph = jobs.load(path(key))
    faulty = approximating.Faulty.of(FaultyOnnx(path(key)), images("held_out", 0, NUM_FOUND))
    proving = faulty.on(images("test", 1_000, NUM_PROVEN))
    trying = faulty.on(images("test", 2_000, NUM_TRIED))
    flops = sum(each.flops for each in graph.operators)
    return Judge(faulty, proving, trying, dict.fromkeys(faulty.types, rate), left, flops)


def finer(judge: Judge, file: Path) -> Judge:
    """Raise the rates of weights, and of feature maps, as far as both are borne together."""
    weights = judge.faulty.network.weights

    def every(rates: Mapping[str, float]) -> dict[str, float]:
        return {name: rates["weights" if name in weights else "features"] for name in judge.faulty.types}

    rates = json.loads(file.read_text()) if file.exists() else None
    if rates is None:
        rule = Rule(max_loss=judge.left, resolution=1.0 / NUM_FOUND, min_trials=3, max_trials=8)
        start = dict.fromkeys(("weights", "features"), next(iter(judge.rates.values())) * FINE_START)
        found = tolerance.fine(
            lambda at, seed: judge.faulty.at_rates(every(at), seed), start, rule, known={}, seed=0, factor=FINE_FACTOR
        )
        rates = found.rates
        keep(file, rates)
    return Judge(judge.faulty, judge.proving, judge.trying, every(rates), judge.left, judge.flops)


def images(split: str, first: int, count: int) -> Examples:
    found, labels = bundled.fashion_mnist("test" if split == "test" else "held_out")
    part = slice(first, first + count)
    return Examples({"image": bundled.model_input(found[part])}, labels[part].astype(np.int64))


def mapped(judge: Judge, head: Record, vendor: str) -> Iterator[Record]:
    """Plan for every system and factor; a mapping is shown and tried once, whatever the system, if it is the same."""
    profile = memory.profile(f"vendor{vendor}")
    proven: dict[tuple[object, ...], bool] = {}
    tried: dict[tuple[object, ...], float] = {}

    def proof(plan: DramPlan) -> tuple[bool, str]:
        key = tenants(plan)
        if key not in proven:
            proven[key], _ = approximating.proof(
                plan, network=judge.proving, profile=profile, max_loss=judge.left, seed=0, on_progress=lambda *_: None
            )
        return proven[key], ""

    for system in SYSTEMS:
        made = memory.module(CHIP, system)
        duration_s, tensors = approximating.stored(judge.faulty, judge.rates, made, judge.flops)
        for factor in FACTORS:
            partitions = approximating.partitions_of(made, profile, duration_s, factor)
            plan, verified, share = planning.assign(tensors, partitions), "not asked", None
            ratio = plan.energy_j / planning.algorithm_1(tensors, partitions).energy_j
            if factor == CENTRAL:
                plan, verified = shown(tensors, partitions, plan, proof)
                if verified == "yes" and (key := tenants(plan)) not in tried:
                    losses = approximating.trials(plan, network=judge.trying, profile=profile, num=NUM_TRIALS, seed=0)
                    tried[key] = float(np.mean([loss <= judge.left + 1e-9 for loss in losses]))
                share = tried[tenants(plan)] if verified == "yes" else None
            yield {
                **head,
                "system": system,
                "factor": factor,
                **figures(plan, duration_s),
                "published_saving": PUBLISHED[system],
                "published_time_saved": PUBLISHED_TIME[system],
                "over_algorithm_1": ratio,
                "verified": verified,
                "kept_of_40": share,
            }


def tenants(plan: DramPlan) -> tuple[object, ...]:
    """Return what decides the errors of a mapping."""
    return tuple((each.tensor, each.partition, each.start_bit, each.ber) for each in plan.placed)


def shown(
    tensors: Sequence[Stored], partitions: Sequence[Partition], plan: DramPlan, proof: Any
) -> tuple[DramPlan, str]:
    try:
        return planning.verified(lambda tighter: planning.assign(tighter, partitions), tensors, proof), "yes"
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


def mapping_targets(rows: Sequence[Record], seeds: Sequence[int]) -> Iterator[document.Target]:
    """Savings, proofs and the assignment, of every network, precision, seed and system; then over the networks."""
    central = [row for row in rows if row.get("factor") == CENTRAL]
    for network, precision, seed in all_cases():
        if seed not in seeds:
            continue
        for system in SYSTEMS:
            at = (network, precision, seed, system, "B")
            found = [row for row in central if place(row) == at and row["verified"] == "yes"]
            saving = max((row["saving"] for row in found), default=None)
            name = f"{network}, {precision}, seed {seed}, {system}, vendor B: saving of a verified mapping"
            yield document.target(name, want=f">= {PUBLISHED[system]}", value=saving, unit="1")
    for row in central:
        if row["verified"] == "yes":
            where = ", ".join(map(str, (*place(row), row["recipe"])))
            name = f"{where}: share of 40 fresh trials that keep the target"
            yield document.target(name, want=">= 0.95", value=row["kept_of_40"], unit="1")
    yield from assignment_targets(rows)


def place(row: Record) -> tuple[object, ...]:
    return row["network"], row["precision"], row["seed"], row["system"], row["vendor"]


def assignment_targets(rows: Sequence[Record]) -> Iterator[document.Target]:
    """Energy over Algorithm 1's, never more; and less on how many of the networks with two limits."""
    every = [row for row in rows if row.get("factor") is not None]
    worst = max((row["over_algorithm_1"] for row in every), default=math.nan)
    yield document.target("assignment over Algorithm 1, worst of all plans", want="<= 1.000001", value=worst, unit="1")
    best: dict[tuple[str, str], float] = {}
    for row in every:
        if row["limits"] != "one":
            key = (row["network"], row["precision"])
            best[key] = min(best.get(key, 1.0), row["over_algorithm_1"])
    better = sum(each < 1.0 - 1e-6 for each in best.values())
    share = better / len(best) if best else None
    yield document.target("networks on which the assignment is strictly better", want=">= 0.5", value=share, unit="1")


if __name__ == "__main__":
    main()
