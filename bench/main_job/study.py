"""The main job for every simulated chip and deadline: what a plan saves, whether it is on time, how wrong it was told.

Measure, fit, plan and check, as `examples/demo.py` does on one chip; every policy of a check serves the same requests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.kit import document
from bench.kit.places import ROOT

document.on_one_core()

import amble  # noqa: E402
from amble.core.graph import Graph  # noqa: E402
from amble.core.report import Report  # noqa: E402
from amble.devices import simulated  # noqa: E402
from amble.devices.simulated import chip as catalogue  # noqa: E402
from amble.stages.fit.costs import Costs  # noqa: E402
from bench.models import networks  # noqa: E402

Record = dict[str, object]

NETWORKS = ("fashion-resnet", "resnet50")
FACTORS = (1.1, 1.25, 1.5, 2.0, 3.0)
REQUESTS = 2000


def main() -> None:
    options = document.options("main_job", __doc__)
    names = NETWORKS[:1] if options.quick else NETWORKS
    chips = ("jetson-tx2", "v100") if options.quick else simulated.chips()
    factors = (1.1, 2.0) if options.quick else FACTORS
    results: list[Record] = []
    for name in names:
        graph = networks.graph(name)
        assert graph is not None, name
        for chip in chips:
            costs = networks.costs(graph, chip)
            for factor in factors:
                results.append({"network": name, "chip": chip, "factor": factor, **job(graph, costs, chip, factor)})
    targets = [target for record in results for target in job_targets(record)]
    document.finish(options, results, [*targets, *doors(quick=options.quick)])


def job(graph: Graph, costs: Costs, chip: str, factor: float) -> Record:
    """Plan for a deadline, and check."""
    fastest_s = float(costs.arrays().latency_s.sum(axis=0).min()) * costs.margin(0.99)
    begun_s = time.perf_counter()
    schedule = amble.plan(graph, costs, deadline=amble.Deadline(factor * fastest_s))
    plan_s = time.perf_counter() - begun_s
    arrivals = f"periodic:{1e3 * schedule.period_s:.9g}ms:{REQUESTS}"
    report = amble.check(schedule, f"sim:{chip}", arrivals=arrivals, traced=0).report
    governor = catalogue.load(chip).core_governor
    single = report.saving("best single clocks")
    assert single.ratio is not None
    return {
        "calibrated": costs.where.calibration.startswith("calibrated"),
        "deadline_s": schedule.deadline.latency_s,
        "energy_j": energy_j(report, report.policy),
        "single_j": energy_j(report, "best single clocks"),
        "saving_vs_max": saving(report, "maximum clocks"),
        "saving_vs_governor": saving(report, governor),
        "governor": governor,
        "governor_late": report.of(governor).late.ratio.value,
        "saving_vs_single": single.ratio.value,
        "saving_vs_single_high": single.ratio.value if single.ratio.high is None else single.ratio.high,
        "late": report.checked.late.ratio.value,
        "verdict": report.verdict,
        "gap": schedule.gap,
        "latency_error": error(report, "latency"),
        "energy_error": error(report, "energy"),
        "segments": len(schedule.segments),
        "plan_s": plan_s,
    }


def energy_j(report: Report, policy: str) -> float | None:
    found = report.of(policy).period_j
    return found.value if found else None


def saving(report: Report, baseline: str) -> float | None:
    ratio = report.saving(baseline).ratio
    return ratio.value if ratio else None


def error(report: Report, quantity: str) -> float | None:
    found = report.checked.prediction("latency" if quantity == "latency" else "energy")
    return found.error if found else None


def job_targets(record: Record) -> Iterator[document.Target]:
    where = f"{record['network']} on {record['chip']}, {record['factor']} x the fastest"
    number = {key: float(str(record[key])) for key in ("gap", "late", "saving_vs_single_high", "latency_error")}
    yield document.target(f"gap, {where}", want="<= 0.005", value=number["gap"], unit="1")
    yield document.target(f"late at p99, {where}", want="<= 0.01", value=number["late"], unit="1")
    yield document.target(
        f"saving on the best single clock, upper end of its interval, {where}",
        want=">= 0",
        value=number["saving_vs_single_high"],
        unit="1",
    )
    wrong = abs(number["latency_error"])
    yield document.target(f"error of the predicted median, {where}", want="<= 0.05", value=wrong, unit="1")


def doors(*, quick: bool) -> Iterator[document.Target]:
    """Time the demo, and the help of the command."""
    python = [sys.executable]
    took_s = None if quick else timed([*python, str(ROOT / "examples" / "demo.py")])
    yield document.target("demo after set-up", want="<= 120", value=took_s, unit="s")
    helped = [timed([str(Path(sys.executable).with_name("amble")), "--help"]) for _ in range(7)]
    yield document.target("amble --help", want="<= 0.3", value=document.percentile(helped, 50), unit="s")


def timed(command: list[str]) -> float:
    begun_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=dict(os.environ))
    return time.perf_counter() - begun_s
