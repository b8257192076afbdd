"""Predicted memory energy of the bundled network on approximate DRAM, beside the averages that EDEN published.

FP32 and INT8 (static quantisation of ONNX Runtime), on a CPU, a GPU and two accelerators, with the errors of three
vendors at the sensitivity band of the voltage curve (decision 3). Rates are found once for each precision; the mapping
of the central curve and each vendor is shown on 59 fresh modules, the others are planned with the same limits. One
network of one data set: the published averages are over seven larger ones, and are shown, not aimed at.
"""

from __future__ import annotations

import document

document.on_one_core()

import tempfile  # noqa: E402  after the threads are set
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import SupportsFloat  # noqa: E402

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnxruntime import quantization  # noqa: E402

from amble import bundled, jobs  # noqa: E402
from amble.core.errors import Refused  # noqa: E402
from amble.core.partitions import DramPlan, Partition, Stored  # noqa: E402
from amble.devices import memory  # noqa: E402
from amble.jobs import approximating  # noqa: E402
from amble.measure.tolerance import Rule  # noqa: E402
from amble.plan import dram as planning  # noqa: E402
from amble.runtimes.faulty_onnx import FaultyOnnx  # noqa: E402

PUBLISHED = {"cpu": 0.21, "gpu": 0.37, "eyeriss": 0.31, "tpu": 0.32}
SYSTEMS = tuple(PUBLISHED)
VENDORS = ("A", "B", "C")
FACTORS = (1.0, 10.0, 100.0)
CHIP = "ddr4-2400"
MAX_LOSS = 0.01

Record = dict[str, SupportsFloat | str | None]


class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Images to calibrate on, one batch."""

    def __init__(self) -> None:
        images, _ = bundled.fashion_mnist("train")
        self.left = iter([{"image": bundled.model_input(images[:200])}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


@dataclass(frozen=True, slots=True)
class Network:
    """One precision, the rates it bears, and the same network on other examples."""

    precision: str
    faulty: approximating.Faulty
    other: approximating.Faulty
    rates: dict[str, float]
    flops: float
    record: Record


def main() -> None:
    options = document.options("eden", __doc__)
    count = 50 if options.quick else 100
    results: list[Record] = []
    targets = []
    with tempfile.TemporaryDirectory() as folder:
        for precision, path in paths(Path(folder), options.quick):
            network = characterised(precision, path, count)
            results.append(network.record)
            for vendor in ("B",) if options.quick else VENDORS:
                results += list(mapped(network, vendor, options.quick))
    for row in results:
        if row.get("factor") == 10.0:
            where = f"{row['precision']}, vendor {row['vendor']}, {row['system']}"
            saving = row["saving"] if row["verified"] == "yes" else None
            want = f">= {PUBLISHED[str(row['system'])]}"
            targets.append(
                document.target(f"{where}: saving of a verified mapping", want=want, value=as_float(saving), unit="1")
            )
            name = f"{where}: energy of the assignment over Algorithm 1's"
            targets.append(document.target(name, want="<= 1", value=as_float(row["over_algorithm_1"]), unit="1"))
    document.finish(options, results, targets)


def as_float(value: object) -> float | None:
    return value if isinstance(value, float) else None


def paths(folder: Path, quick: bool) -> Iterator[tuple[str, Path]]:
    yield "fp32", bundled.model_path()
    if not quick:
        lean, whole = folder / "lean.onnx", folder / "int8.onnx"
        model = onnx.load(bundled.model_path())
        del model.graph.value_info[:]
        onnx.save(model, lean)
        quantization.quantize_static(lean, whole, Images(), quant_format=quantization.QuantFormat.QDQ, per_channel=True)
        yield "int8", whole


def characterised(precision: str, path: Path, count: int) -> Network:
    start = time.process_time()
    graph = jobs.load(path)
    found, judged = approximating.halves("bundled", "image", count, lambda: jobs.labelled("bundled", graph))
    faulty = approximating.Faulty.of(FaultyOnnx(path), found)
    rule = Rule(max_loss=MAX_LOSS, resolution=1.0 / count)
    borne = approximating.borne(faulty, rule, fine=False, seed=0, keep=None, on_progress=lambda *_: None)
    record: Record = {
        "precision": precision,
        "clean_accuracy": faulty.clean,
        "tolerable_ber": max(borne.rates.values()),
        "loss": borne.judged.loss,
        "loss_high": borne.judged.high,
        "trials": borne.num_trials,
        "characterised_cpu_s": time.process_time() - start,
    }
    flops = sum(each.flops for each in graph.operators)
    return Network(precision, faulty, faulty.on(judged), borne.rates, flops, record)


def mapped(network: Network, vendor: str, quick: bool) -> Iterator[Record]:
    """Plan for every system and factor; the central mapping is proven once, whatever the system, if it is the same."""
    profile = memory.profile(f"vendor{vendor}")
    proven: dict[tuple[float, ...], bool] = {}

    def proof(plan: DramPlan) -> tuple[bool, str]:
        key = tuple(each.ber for each in plan.placed)
        if key not in proven:
            proven[key], _ = approximating.proof(
                plan, network=network.other, profile=profile, max_loss=MAX_LOSS, seed=0, on_progress=lambda *_: None
            )
        return proven[key], ""

    for system in SYSTEMS:
        made = memory.module(CHIP, system)
        duration_s, tensors = approximating.stored(network.faulty, network.rates, made, network.flops)
        for factor in FACTORS:
            partitions = approximating.partitions_of(made, profile, duration_s, factor)
            plan, verified = planning.assign(tensors, partitions), "not asked"
            over = plan.energy_j / planning.algorithm_1(tensors, partitions).energy_j
            if factor == 10.0 and not quick:
                assigned = partial(assign, partitions=partitions)
                try:
                    plan, verified = planning.verified(assigned, tensors, proof), "yes"
                except Refused:
                    verified = "no"
            yield {
                "precision": network.precision,
                "vendor": vendor,
                "system": system,
                "factor": factor,
                **figures(plan, duration_s),
                "published": PUBLISHED[system],
                "over_algorithm_1": over,
                "verified": verified,
            }


def assign(tensors: Sequence[Stored], partitions: Sequence[Partition]) -> DramPlan:
    return planning.assign(tensors, partitions)


def figures(plan: DramPlan, duration_s: float) -> Record:
    return {
        "saving": plan.saving,
        "energy_j": plan.energy_j,
        "nominal_j": plan.nominal_j,
        "lower_bound_j": plan.lower_bound_j,
        "time_saved": plan.saved_s / duration_s,
        "highest_ber": max(each.ber for each in plan.placed),
    }


if __name__ == "__main__":
    main()
