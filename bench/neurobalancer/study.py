"""NeuroBalancer and better on real networks: energy of a period, lateness, and what changing clocks is worth.

Every energy is measured by running in the simulated device, idle included. Late requests are counted under a declared
scenario (noise, somebody else's load, a hot day) with seeds that no cost or margin was learnt from.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bench.kit import document

document.on_one_core()

import numpy as np  # noqa: E402

from amble.core.graph import Graph  # noqa: E402
from amble.core.log import Log  # noqa: E402
from amble.core.schedule import Deadline, Schedule  # noqa: E402
from amble.devices import simulated  # noqa: E402
from amble.devices.simulated import Background, Scenario  # noqa: E402
from amble.devices.simulated import chip as catalogue  # noqa: E402
from amble.stages.control.loop import Requests, serve  # noqa: E402
from amble.stages.control.punctual import punctual  # noqa: E402
from amble.stages.fit.costs import Costs  # noqa: E402
from amble.stages.plan import clocks, neurobalancer, punctuality  # noqa: E402
from amble.stages.plan.problem import Task  # noqa: E402
from amble.stages.plan.worth import break_even_s, worth  # noqa: E402
from bench.models import networks  # noqa: E402

Records = list[dict[str, object]]

NETWORKS = ("mobilenetv2", "resnet50", "vgg16", "efficientnet_lite0", "bert_mini", "tiny_yolov3")
CHIPS = ("snapdragon-phone-cpu", "snapdragon-phone-gpu", "jetson-tx2", "jetson-orin-nano")
FACTORS = (1.1, 1.25, 1.5, 2.0, 3.0)
PAPER = {True: (0.439, 0.421), False: (0.211, 0.186)}  # CPU or not: saving on the default governor, on SysScale
SCENARIO = Scenario(background=Background(share=0.15, on_s=0.050, off_s=0.450), noise=1.0)
WARMER_C = 10.0  # ambient temperature above the chip's own
LATE_FACTOR = 1.5
SEED_MEASURED, SEED_REHEARSED, SEED_TESTED = 1, 101, 1001


@dataclass(frozen=True, slots=True)
class Case:
    """One network on one chip."""

    name: str
    chip: str
    graph: Graph
    costs: Costs

    @property
    def fastest_s(self) -> float:
        return float(self.costs.arrays().latency_s.sum(axis=0).min())

    @property
    def record(self) -> dict[str, object]:
        return {
            "network": self.name,
            "chip": self.chip,
            "calibrated": self.costs.where.calibration.startswith("calibrated"),
        }


@dataclass(frozen=True, slots=True)
class Run:
    """How a policy is run: the schedule, or the governor that sets the clocks."""

    policy: str
    schedule: Schedule | None
    governor: str = "performance"


@dataclass(frozen=True, slots=True)
class Found:
    """All records of a run, by kind, and the networks that were not built."""

    energy: Records
    worth: Records
    late: Records
    missing: list[str]


def main() -> None:
    options = document.options("neurobalancer", __doc__)
    names, chips = (NETWORKS[:2], CHIPS[:3]) if options.quick else (NETWORKS, CHIPS)
    found = collect(names, chips, (1.5,) if options.quick else FACTORS, 300 if options.quick else 4200)
    finish(options, found, names, chips)


def finish(options: document.Options, found: Found, names: Sequence[str], chips: Sequence[str]) -> None:
    """Sum up, and print."""
    means = list(averages(found.energy, chips))
    decisions = [] if "resnet50" in found.missing else [decision("jetson-tx2", "resnet50")]
    targets = [
        *saving_targets(means, chips),
        *gap_targets(found.energy, names, chips),
        *late_targets(found.late, found.missing),
        *decision_targets(decisions),
    ]
    document.finish(options, [*means, *decisions, *found.worth, *found.late, *found.energy], targets)


def collect(names: Iterable[str], chips: Sequence[str], factors: Iterable[float], num_late: int) -> Found:
    """Run everything, network by network."""
    found = Found([], [], [], [])
    for name in names:
        graph = networks.graph(name)
        if graph is None:
            found.missing.append(name)
            continue
        for chip in chips:
            case = Case(name, chip, graph, networks.costs(graph, chip))
            for factor in factors:
                found.energy.extend(energies(case, factor))
            found.worth.extend(worth_of(case, quick=num_late < 1000))
            found.late.extend(lateness(case, num_late))
            print(f"{name} on {chip}: {time.process_time():.0f} s", file=sys.stderr)
    return found


def energies(case: Case, factor: float) -> Iterator[dict[str, object]]:
    """Measure every policy at one deadline."""
    deadline = Deadline(factor * case.fastest_s * case.costs.margin(0.99))
    begun_s = time.perf_counter()
    plan = clocks.per_operator(case.graph, case.costs, deadline)
    plan_s = time.perf_counter() - begun_s
    found = {run.policy: measured(case, run, plan) for run in runs(case, deadline, plan)}
    base_j = found["amble"]
    for policy, record in found.items():
        saved = 1.0 - float(str(base_j["energy_j"])) / float(str(record["energy_j"]))
        yield {"kind": "energy", **case.record, "factor": factor, "deadline_s": deadline.latency_s, "policy": policy,
               **record, "amble_saves": saved, "plan_s": plan_s if policy == "amble" else None}  # fmt: skip


def runs(case: Case, deadline: Deadline, plan: Schedule) -> Iterator[Run]:
    arguments = (case.graph, case.costs, deadline)
    yield Run("amble", plan)
    yield Run("exact optimum", clocks.per_operator(*arguments, exact=True))
    yield Run("greedy", neurobalancer.balanced(*arguments))
    yield Run("best single pair", clocks.single(*arguments))
    yield Run("performance", clocks.fastest(*arguments))
    for governor in (catalogue.load(case.chip).core_governor, "sysscale"):
        yield Run(governor, None, governor)


def measured(case: Case, run: Run, plan: Schedule) -> dict[str, object]:
    """Serve periodic requests until the energy is steady; governors are let in first."""
    period_s = plan.period_s
    num = int(np.clip(3.0 / period_s, 100, 300))
    device = simulated.open(case.chip, seed=SEED_MEASURED, governor=run.governor)
    if run.schedule is None:
        serve(device, case.graph, requests(plan, int(np.clip(0.5 / period_s, 20, 200))))
    log = serve(device, case.graph, requests(plan, num), schedule=run.schedule)
    schedule = run.schedule
    return {
        "energy_j": spent_j(log),
        "late": late_share(log),
        "p50_s": float(np.median([served.latency_s for served in log.served])),
        "changes": log.num_changes / num,
        "segments": None if schedule is None else len(schedule.segments),
        "predicted_j": None if schedule is None else schedule.predicted.energy_j,
        "gap": None if schedule is None or schedule.lower_bound_j is None else schedule.gap,
    }


def requests(plan: Schedule, num: int) -> Requests:
    return Requests(
        np.arange(num, dtype=np.float64) * plan.period_s, plan.deadline.latency_s, plan.period_s, "periodic"
    )


def spent_j(log: Log) -> float:
    assert log.energy_j is not None
    return log.energy_j / len(log.served)


def late_share(log: Log) -> float:
    return float(np.mean([served.late for served in log.served]))


def worth_of(case: Case, *, quick: bool) -> Iterator[dict[str, object]]:
    """What changing within a request saves by how long a change takes, at the middle deadline."""
    deadline = Deadline(LATE_FACTOR * case.fastest_s * case.costs.margin(0.99))
    settle_s = (0.0, 1e-3, 1e-2) if quick else (0.0, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2)
    found = worth(Task(case.graph, case.costs, deadline, deadline.latency_s), settle_s)
    for each in found:
        yield {"kind": "worth", **case.record, "settle_s": each.settle_s, "saving": each.saving,
               "segments": each.segments, "shortest_s": each.shortest_s, "gap": 1 - each.lower_bound_j / each.energy_j,
               "break_even_s": break_even_s(found)}  # fmt: skip


def lateness(case: Case, num: int) -> Iterator[dict[str, object]]:
    """Serve under the scenario: the margin comes from a rehearsal with other seeds."""
    scenario = replace(SCENARIO, ambient_c=catalogue.load(case.chip).thermal.ambient_c + WARMER_C)
    ready = Deadline(3 * case.fastest_s)
    top = clocks.fastest(case.graph, case.costs, ready)
    first = ratios(case, top, scenario, num, SEED_REHEARSED)
    latest_s = LATE_FACTOR * case.fastest_s * float(np.quantile(first, 0.999))
    steady = clocks.single(case.graph, case.costs, Deadline(latest_s, 0.5))
    second = ratios(case, steady, scenario, num, SEED_REHEARSED + 1)
    rehearsed = np.concatenate([first, second])
    residuals = tuple(np.quantile(rehearsed, np.linspace(0, 1, 10001)).tolist())
    costs = replace(case.costs, residuals=residuals, runs=len(rehearsed))
    deadline = Deadline(latest_s, 0.999)
    plans = {
        "amble": clocks.per_operator(case.graph, costs, deadline),
        "amble, punctual": punctuality.on_time(case.graph, costs, deadline),
    }
    for seed, (policy, plan) in enumerate(plans.items(), SEED_TESTED):
        device = simulated.open(case.chip, seed=seed, scenario=scenario)
        log = serve(device, case.graph, requests(plan, num), schedule=plan)
        slowest = np.quantile([served.latency_s for served in log.served], 0.999) / deadline.latency_s
        yield {"kind": "late", **case.record, "policy": policy, "requests": num, "late": late_share(log),
               "p999_over_deadline": float(slowest), "energy_j": spent_j(log), "segments": len(plan.segments),
               "changes": log.num_changes / num, "margin": plan.margin}  # fmt: skip


def ratios(case: Case, plan: Schedule, scenario: Scenario, num: int, seed: int) -> np.ndarray:
    """Service times over the predicted one: [request]."""
    device = simulated.open(case.chip, seed=seed, scenario=scenario)
    log = serve(device, case.graph, requests(plan, num), schedule=plan)
    return np.array([served.service_s for served in log.served]) / plan.predicted.latency_s


def decision(chip: str, name: str) -> dict[str, object]:
    """Time single decisions of the run-time policy."""
    graph = networks.graph(name)
    assert graph is not None
    costs = networks.costs(graph, chip)
    fastest_s = float(costs.arrays().latency_s.sum(axis=0).min())
    plan = punctuality.on_time(graph, costs, Deadline(1.5 * fastest_s * costs.margin(0.99)))
    assert plan.rest is not None
    pick, rest = punctual(plan.rest), plan.rest
    lefts_s = np.random.default_rng(0).uniform(0, plan.deadline.latency_s, 20_000).tolist()
    taken = []
    for index, left_s in enumerate(lefts_s):
        choice = rest.choices[index % len(rest.choices)]
        begun_s = time.perf_counter()
        pick(choice.start, rest.settings[choice.held], left_s)
        taken.append(time.perf_counter() - begun_s)
    return {"kind": "decision", "network": name, "chip": chip, "choices": len(rest.choices),
            "p50_s": document.percentile(taken, 50), "p99_s": document.percentile(taken, 99)}  # fmt: skip


def averages(energy: Records, chips: Iterable[str]) -> Iterator[dict[str, object]]:
    """Maximum and mean of what amble saves, by chip and baseline, over networks and deadlines."""
    for chip in chips:
        own = [each for each in energy if each["chip"] == chip]
        for policy in dict.fromkeys(str(each["policy"]) for each in own if each["policy"] != "amble"):
            rows = [each for each in own if each["policy"] == policy]
            saved = np.array([float(str(each["amble_saves"])) for each in rows])
            best = rows[int(saved.argmax())]
            yield {"kind": "saving", "chip": chip, "calibrated": rows[0]["calibrated"], "against": policy,
                   "cases": len(rows), "max": float(saved.max()), "mean": float(saved.mean()),
                   "min": float(saved.min()), "max_at": f"{best['network']} x {best['factor']}",
                   "late": float(np.mean([float(str(each["late"])) for each in rows]))}  # fmt: skip


def saving_targets(means: Records, chips: Iterable[str]) -> Iterator[document.Target]:
    for chip in chips:
        governor = catalogue.load(chip).core_governor
        wanted = PAPER[chip.endswith("cpu")]
        for against, want in zip((governor, "sysscale"), wanted, strict=True):
            found = [each for each in means if each["chip"] == chip and each["against"] == against]
            value = float(str(found[0]["max"])) if found else None
            name = f"energy saved against {against}, at most, {chip}"
            yield document.target(name, want=f">= {want}", value=value, unit="1")


def gap_targets(energy: Records, names: Iterable[str], chips: Iterable[str]) -> Iterator[document.Target]:
    exact = [each for each in energy if each["policy"] == "exact optimum"]
    for name in names:
        for chip in chips:
            gaps = [float(str(e["gap"])) for e in exact if (e["network"], e["chip"]) == (name, chip)]
            worst = max(gaps, default=None)
            yield document.target(
                f"certified gap after exact closing, {name} on {chip}", want="<= 0.005", value=worst, unit="1"
            )


def late_targets(late: Records, missing: list[str]) -> Iterator[document.Target]:
    rows = [each for each in late if each["policy"] == "amble, punctual"]
    served = sum(int(str(each["requests"])) for each in rows)
    missed = sum(float(str(each["late"])) * int(str(each["requests"])) for each in rows)
    share = None if missing or not served else missed / served
    yield document.target("late requests under the scenario, of all", want="<= 0.001", value=share, unit="1")
    yield document.target("requests under the scenario", want=">= 100000", value=None if missing else served, unit="1")


def decision_targets(decisions: Records) -> Iterator[document.Target]:
    value = float(str(decisions[0]["p99_s"])) if decisions else None
    yield document.target("decision after a segment, 99th percentile", want="<= 2e-5", value=value, unit="s")
