"""Every governor on the Tesla P40's tables: INT8 factor x network x trace x load -> energy, misses, accuracy, p95.

Four parts, in virtual time:

* `replay`: the two-state rule (FP32 at 949 MHz, INT8 at 1531 MHz) with the numbers published for it, to be reproduced;
* `shape`: `pit` without deadlines against FP32 at full clocks: what the paper reports;
* `sweep`: every governor, with admission and an objective of ten times the time of one request at FP32 and full
  clocks; a load of 1 is what FP32 carries there; intervals are of 95 % over seeds, paired where two are compared;
* `bound`: `amble` against a lower bound on the clairvoyant optimum (`clairvoyant.py`), and the bound against the exact
  optimum of 20 requests.

Energy is the meter's, idle included, for a request answered in time. A request that was refused or late is missed, and
p95 is within the objective when at most 5 % are. Recorded traces are scaled in time to the load. The networks come
from `sim:tesla-p40`, `pnasnet-large` from laws fitted to runs on a real P40 (image decoding included).
INT8 is `factor` times as fast as FP32, at 10 % less power, 0.6 % less accurate, whatever the network.
"""

from __future__ import annotations

import document

document.on_one_core()

from collections.abc import Iterator, Sequence  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import numpy as np  # noqa: E402
from clairvoyant import Case, exact_j, lower_bound_j  # noqa: E402
from scipy.stats import t as student  # noqa: E402
from traffic import SWITCH, TRACES, Outcome, chip_menu, ladder, published_menu, run, trace, with_int8  # noqa: E402

from amble.control.batcher import Pace  # noqa: E402
from amble.control.governor import Decision, Governor, Observation  # noqa: E402
from amble.control.governors import Amble, Dvfs, Pit, best_fixed, int8_max, max_clocks  # noqa: E402
from amble.core.cost import Cost  # noqa: E402
from amble.core.ladder import Ladder, Rung  # noqa: E402
from amble.core.profile import SwitchCost  # noqa: E402
from amble.core.schedule import Deadline  # noqa: E402

NEVER_S = float("inf")
FLOOR = 0.995  # of FP32's accuracy
GOVERNORS = ("max", "dvfs", "int8-max", "static", "pit", "amble")
PUBLISHED = {  # load: energy, mean response, both against FP32 at 1531 MHz; accuracy as a share of FP32's
    0.3: (-0.26, 0.43, 0.9999),
    0.5: (-0.27, 0.53, 0.9994),
    0.7: (-0.25, 0.45, 0.9979),
    0.85: (-0.22, 0.085, 0.9964),
    0.95: (-0.195, -0.42, 0.9953),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it is run."""

    networks: tuple[tuple[str, int], ...]  # name, largest batch
    factors: tuple[float, ...]
    loads: tuple[float, ...]
    requests: int
    seeds: int
    replayed: int
    bound_requests: int
    bound_factors: tuple[float, ...]
    bound_loads: tuple[float, ...]


FULL = Plan(
    networks=(("pnasnet-large", 1), ("resnet50", 1), ("inceptionv4", 4)),
    factors=(1.1, 1.5, 2.0, 3.0),
    loads=(0.1, 0.3, 0.5, 0.7, 0.9, 1.1),
    requests=1200,
    seeds=3,
    replayed=40_000,
    bound_requests=800,
    bound_factors=(1.1, 2.0),
    bound_loads=(0.1, 0.3, 0.5, 0.7, 0.9, 1.1),
)
QUICK = Plan((("pnasnet-large", 1),), (1.1, 2.0), (0.3, 0.7, 1.1), 500, 2, 8000, 400, (2.0,), (0.3, 0.7))


class TwoState:
    """FP32 at a low clock until four wait, INT8 at the top until one does: the rule whose replay is published."""

    name = "two-state"

    def __init__(self, low: Rung, high: Rung) -> None:
        self._rungs = (low, high)

    def init(self, now_s: float) -> int:
        return 0

    def pace(self, state: int) -> Pace:
        return Pace(self._rungs[1], self._rungs[1])

    def step(self, state: int, seen: Observation) -> tuple[int, Decision]:
        if not seen.due_s:
            return state, Decision(self.pace(state))
        state = 1 if seen.num_waiting >= 4 else 0 if seen.num_waiting <= 1 else state
        return state, Decision(self.pace(state), self._rungs[state], 1)


class Key(NamedTuple):
    network: str
    factor: float
    trace: str
    load: float


def main() -> None:
    options = document.options("pit", __doc__)
    plan = QUICK if options.quick else FULL
    results: list[dict[str, object]] = []
    targets: list[document.Target] = []
    for part in (replayed(plan), shaped(plan), swept(plan, options.data), bounded(plan, options.data)):
        for kind, item in part:
            if isinstance(item, document.Target):
                targets.append(item)
            else:
                results.append({"part": kind, **item})
    document.finish(options, results, targets)


Item = tuple[str, dict[str, Any] | document.Target]


def replayed(plan: Plan) -> Iterator[Item]:
    """The two-state rule, 10 ms of standing still for each change, against FP32 at full clocks."""
    menu = with_int8(published_menu("pnasnet-large"), 1.1)
    stop = (SwitchCost("core", Cost(0.010, 1.0)),)
    steps = ladder(menu, "pnasnet-large", switches=stop)
    low = next(rung for rung in menu if rung.variant == "fp32" and rung.clocks.core_hz == 949e6)
    high = next(rung for rung in menu if rung.variant == "int8" and rung.clocks.core_hz == 1531e6)
    for load, (energy, response, accuracy) in PUBLISHED.items():
        arrivals_s = trace("poisson", load / steps.levels[0].rungs[0].latency_s[0], plan.replayed, seed=7, data=Path())
        both = [
            run(each, menu, arrivals_s, deadline_s=NEVER_S, seed=1, stall_s=0.010, settle_s=0.0)
            for each in (TwoState(low, high), max_clocks(steps))
        ]
        found = _against(both[0], both[1])
        yield "replay", {"load": load, "changes_hz": both[0].changes_hz, **found}
        slack = 0.02 if plan.replayed > 10_000 else 0.05
        for name, value, want, width in (
            ("energy", found["energy"], energy, slack),
            ("response", found["response"], response, 0.08 + 2 * slack),
            ("accuracy", found["accuracy"], accuracy, 0.0004),
        ):
            title = f"replay, load {load}: distance of {name} from {want:+g}"
            yield "", document.target(title, want=f"<= {width:g}", value=abs(value - want), unit="1")


def shaped(plan: Plan) -> Iterator[Item]:
    """`pit` without deadlines against `max`, for every published network."""
    best: list[dict[str, float]] = []
    for network in ("pnasnet-large", "nasnet-large", "resnet152", "inceptionv4"):
        menu = with_int8(published_menu(network), 1.1)
        steps = ladder(menu, network)
        for load in (0.1, 0.3, 0.5, 0.7, 0.85, 0.95):
            rate_hz = load / steps.levels[0].rungs[0].latency_s[0]
            arrivals_s = trace("poisson", rate_hz, plan.replayed // 2, seed=3, data=Path())
            both = [run(each, menu, arrivals_s, deadline_s=NEVER_S, seed=1) for each in (Pit(steps), max_clocks(steps))]
            found = {"load": load, **_against(both[0], both[1])}
            best.append(found)
            yield "shape", {"network": network, **found}
    energy = min(each["energy"] for each in best)
    response = min(each["response"] for each in best if each["load"] >= 0.85)
    accuracy = min(each["accuracy"] for each in best)
    yield "", document.target("pit: energy up to 28 % less than max", want="<= -0.28", value=energy, unit="1")
    yield "", document.target("pit: response up to 11 % better at high load", want="<= -0.11", value=response, unit="1")
    yield "", document.target("pit: accuracy about 99.5 % of FP32", want=">= 0.995", value=accuracy, unit="1")


def _against(one: Outcome, base: Outcome) -> dict[str, float]:
    return {
        "energy": one.total_j / base.total_j - 1.0,
        "response": one.response_s / base.response_s - 1.0,
        "accuracy": one.accuracy,
    }


def swept(plan: Plan, data: Path) -> Iterator[Item]:
    """Every governor in every cell, and the targets of every network, trace and load at its worst INT8 factor."""
    cells: dict[Key, dict[str, list[Outcome]]] = {}
    for network, max_batch in plan.networks:
        base = _menu(network, max_batch)
        for factor in plan.factors:
            menu = with_int8(base, factor)
            steps = ladder(menu, network)
            adaptive = Amble(steps, Deadline(_objective_s(steps), 0.95))
            for kind in _traces(data):
                for load in plan.loads:
                    key = Key(network, factor, kind, load)
                    cells[key] = _cell(plan, key, steps, menu, adaptive, data)
                    yield from (("sweep", _record(key, name, cells[key])) for name in GOVERNORS)
    yield from _judged(cells)


def _menu(network: str, max_batch: int) -> tuple[Rung, ...]:
    return published_menu(network) if network == "pnasnet-large" else chip_menu(network, max_batch=max_batch)


def _objective_s(steps: Ladder) -> float:
    return 10.0 * steps.levels[0].rungs[0].latency_s[0]


def _traces(data: Path) -> list[str]:
    recorded = (data / "arrivals_twitter_2021_08").exists() and (data / "arrivals_azure_llm_2023").exists()
    return [kind for kind in TRACES if recorded or kind not in ("twitter", "azure")]


def _cell(
    plan: Plan, key: Key, steps: Ladder, menu: Sequence[Rung], adaptive: Amble, data: Path
) -> dict[str, list[Outcome]]:
    rate_hz = key.load * steps.levels[0].rungs[0].capacity_hz
    arrivals = [trace(key.trace, rate_hz, plan.requests, seed=100 + seed, data=data) for seed in range(plan.seeds)]
    governors: dict[str, Governor[Any]] = {
        "max": max_clocks(steps),
        "dvfs": Dvfs(steps),
        "int8-max": int8_max(steps),
        "static": best_fixed(steps, rate_hz, accuracy=FLOOR),
        "pit": Pit(steps),
        "amble": adaptive,
    }
    deadline_s = _objective_s(steps)
    return {
        name: [run(one, menu, each, deadline_s=deadline_s, seed=seed) for seed, each in enumerate(arrivals)]
        for name, one in governors.items()
    }


def _record(key: Key, name: str, cell: dict[str, list[Outcome]]) -> dict[str, Any]:
    runs = cell[name]
    means = {field: float(np.mean([getattr(each, field) for each in runs])) for field in asdict(runs[0])}
    saved = [1.0 - one.energy_j / base.energy_j for one, base in zip(runs, cell["max"], strict=True)]
    low, high = _interval(saved)
    missed = _interval([each.missed for each in runs])
    extra = {"saving": float(np.mean(saved)), "saving_low": low, "saving_high": high}
    return {**key._asdict(), "governor": name, **means, **extra, "missed_low": missed[0], "missed_high": missed[1]}


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean, by Student's distribution."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def _judged(cells: dict[Key, dict[str, list[Outcome]]]) -> Iterator[Item]:
    """For every network, trace and load, the targets at the worst of the INT8 factors."""
    for network, kind, load in dict.fromkeys((key.network, key.trace, key.load) for key in cells):
        some = [cells[key] for key in cells if (key.network, key.trace, key.load) == (network, kind, load)]
        title = f"{network}, {kind}, load {load}: amble's"
        ratio, more, p95, accuracy = (
            max(map(_energy_ratio, some)),
            max(map(_more_missed, some)),
            max(map(_missed_too_much, some)),
            min(_mean(cell["amble"], "accuracy") for cell in some),
        )
        yield "", document.target(f"{title} energy over pit's and dvfs's", want="<= 1", value=ratio, unit="1")
        yield "", document.target(f"{title} misses more than max's", want="<= 0.1", value=100 * more, unit="points")
        yield "", document.target(f"{title} misses where any keeps p95", want="<= 0.05", value=p95, unit="1")
        yield "", document.target(f"{title} accuracy of FP32's", want=f">= {FLOOR}", value=accuracy, unit="1")


def _mean(runs: Sequence[Outcome], field: str) -> float:
    return float(np.mean([getattr(each, field) for each in runs]))


def _energy_ratio(cell: dict[str, list[Outcome]]) -> float:
    rivals = [name for name in ("pit", "dvfs") if _mean(cell[name], "accuracy") >= FLOOR]
    return max(_mean(cell["amble"], "energy_j") / _mean(cell[name], "energy_j") for name in rivals)


def _more_missed(cell: dict[str, list[Outcome]]) -> float:
    return _mean(cell["amble"], "missed") - _mean(cell["max"], "missed")


def _missed_too_much(cell: dict[str, list[Outcome]]) -> float:
    """Amble's misses where some governor that keeps the accuracy misses 5 % at most; else nothing is asked."""
    accurate = [name for name in GOVERNORS if _mean(cell[name], "accuracy") >= FLOOR]
    possible = any(_mean(cell[name], "missed") <= 0.05 for name in accurate)
    return _mean(cell["amble"], "missed") if possible else 0.0


def bounded(plan: Plan, data: Path) -> Iterator[Item]:
    """The gap to the lower bound, and how loose the bound is."""
    for network, max_batch in plan.networks:
        base = _menu(network, max_batch)
        for factor in plan.bound_factors:
            menu = with_int8(base, factor)
            steps = ladder(menu, network)
            adaptive = Amble(steps, Deadline(_objective_s(steps), 0.95))
            yield from _loose(network, factor, steps)
            for kind in (
                _traces(data) if max_batch == 1 else ("poisson",)
            ):  # batches make the programme four times as large
                for load in plan.bound_loads:
                    yield from _gap(plan, Key(network, factor, kind, load), steps, menu, adaptive, data)


def _gap(plan: Plan, key: Key, steps: Ladder, menu: Sequence[Rung], adaptive: Amble, data: Path) -> Iterator[Item]:
    rate_hz = key.load * steps.levels[0].rungs[0].capacity_hz
    arrivals_s = trace(key.trace, rate_hz, plan.bound_requests, seed=11, data=data)
    outcome = run(adaptive, menu, arrivals_s, deadline_s=_objective_s(steps), seed=11)
    drops = round(outcome.missed * len(arrivals_s))
    case = Case(arrivals_s, _objective_s(steps), 1.0 - FLOOR, drops, outcome.window_s)
    bound_j = lower_bound_j(case, steps)
    gap = outcome.total_j / bound_j - 1.0
    yield "bound", {**key._asdict(), "energy_j": outcome.total_j, "bound_j": bound_j, "gap": gap, "dropped": drops}
    title = f"{key.network}, INT8 x {key.factor:g}, {key.trace}, load {key.load}: amble above the lower bound"
    yield "", document.target(title, want="<= 0.05", value=gap, unit="1")


def _loose(network: str, factor: float, steps: Ladder) -> Iterator[Item]:
    for load in (0.3, 0.7):
        rate_hz = load * steps.levels[0].rungs[0].capacity_hz
        arrivals_s = trace("poisson", rate_hz, 20, seed=5, data=Path())
        case = Case(arrivals_s, _objective_s(steps), 1.0 - FLOOR, 0, float(arrivals_s[-1]) + _objective_s(steps))
        bound_j, best_j = lower_bound_j(case, steps), exact_j(case, steps)
        found = {"network": network, "factor": factor, "load": load, "bound_j": bound_j, "exact_j": best_j}
        yield "looseness", {**found, "loose": 1.0 - bound_j / best_j, "switch_s": SWITCH[0].settle_s}


if __name__ == "__main__":
    main()
