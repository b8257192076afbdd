"""Every governor on the Tesla P40's tables: INT8 factor x network x trace x load -> energy, misses, accuracy, p95.

Five parts, in virtual time:

* `replay`: a two-state rule (FP32 at 949 MHz, INT8 at 1531 MHz) beside figures of other code (`reproduced.py`);
* `shape`: `pit` without deadlines against FP32 at full clocks: what the paper gives three numbers of;
* `sweep`: every governor, with admission and an objective of ten times the time of one request at FP32 and full
  clocks; a load of 1 is what FP32 carries there; intervals are of 95 % over seeds, paired where two are compared;
* `bound`: `amble` against a lower bound on the clairvoyant optimum (`clairvoyant.py`, `relaxed.py`), the bound against
  the exact optimum of 20 requests (`looseness`), and against the best that anybody can do on the mean who knows the
  rates and the queue but not the arrivals to come (`online`), on this device and on one whose clocks settle at once;
* `misstated`: `amble` with a ladder that states another loss of accuracy than INT8 has (`misstated.py`).

Energy is the meter's, idle included, for a request answered in time. A request that was refused or late is missed, and
p95 is within the objective when at most 5 % are. Recorded traces are scaled in time to the load. The networks come
from `sim:tesla-p40`, `pnasnet-large` from laws fitted to runs on a real P40 (image decoding included).
INT8 is `factor` times as fast as FP32, at 10 % less power, 0.6 % less accurate, whatever the network: assumed. No
answer is computed here, so accuracy is the ladder's word for each answer, and no more.

    python -m bench.pit --json                               everything, 10 to 25 minutes of one core
    python -m bench.pit --only poisson,ramp --seconds 240    a slice: what is not done yet, until the time is up
    python -m bench.pit --json --seconds 0 --partial         what is done so far; the targets of the rest are null
    python -m bench.pit --judge bench/pit/pit@sim.json       its targets anew, from its records and parts it has not

What is done is kept in build/pit, under a digest of the code and the plan; the next run goes on from there.
"""

from __future__ import annotations

from bench.kit import document
from bench.kit.places import BENCH, BUILD
from bench.kit.reach import PROJECT, reached

document.on_one_core()

import argparse  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from functools import cache, partial  # noqa: E402
from itertools import product  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import numpy as np  # noqa: E402
from scipy.stats import t as student  # noqa: E402

from amble.core.ladder import Ladder, Rung  # noqa: E402
from amble.core.schedule import Deadline  # noqa: E402
from amble.stages.control.governor import Governor  # noqa: E402
from amble.stages.control.governors import Amble, Dvfs, Pit, best_fixed, int8_max, max_clocks  # noqa: E402
from bench.kit.cells import Cells, Records, digest  # noqa: E402
from bench.pit.clairvoyant import Case, exact_j, lower_bound  # noqa: E402
from bench.pit.misstated import STATED, misstated, misstated_targets  # noqa: E402
from bench.pit.online import least_j, pieces, settled_at_once  # noqa: E402
from bench.pit.reproduced import SHAPED, replayed, reproduced, shaped  # noqa: E402
from bench.pit.traffic import BURST, TRACES, Outcome, chip_rungs, ladder, published_rungs, run, trace, with_int8  # noqa: E402

FLOOR = 0.995  # of FP32's accuracy
PIECES = {"poisson": 1, "bursts": 1, "on-off": 10}  # parts of a trace with a rate of their own; other traces: 5
GOVERNORS = ("max", "dvfs", "int8-max", "static", "pit", "amble")


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


class Key(NamedTuple):
    """One cell of the sweep."""

    network: str
    factor: float
    trace: str
    load: float

    def named(self, part: str) -> str:
        """Return the name under which the cell is kept."""
        return f"{part}-{self.network}-{self.factor:g}-{self.trace}-{self.load:g}"


Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cells of a network and an INT8 factor share."""

    rungs: tuple[Rung, ...]
    steps: Ladder
    adaptive: Amble

    @property
    def objective_s(self) -> float:
        return self.adaptive.objective.latency_s

    def rate_hz(self, load: float) -> float:
        return load * self.steps.levels[0].rungs[0].capacity_hz


def main() -> None:
    slices, others = _slices()
    options = document.options("pit", __doc__, others, judges=True)
    plan = QUICK if options.quick else FULL
    cells = Cells(BUILD / "pit", digest(reached(PROJECT, BENCH / "pit" / "study.py"), (plan, _traces(options.data))))
    work = dict(_work(plan, options.data))
    if options.judge:
        kept = document.stored(options.judge)
        new = [each for name in work for each in cells.records(name) or () if each["part"] not in _parts(kept)]
        traces = [kind for kind in TRACES if any(each.get("trace") == kind for each in kept)]
        document.judged(options, [*kept, *new], _targets(plan, [*kept, *new], traces))
        return
    mine = {name: each for name, each in work.items() if _asked(name, slices.only)}
    left = cells.run(mine, within_s=slices.seconds)
    if not slices.partial and (left or len(mine) < len(work)):
        print(f"{len(left)} of {len(mine)} cells of this slice are left", file=sys.stderr)
        return
    records = [record for name in work for record in cells.records(name) or ()]
    document.finish(options, records, _targets(plan, records, _traces(options.data)))


def _parts(records: Sequence[Record]) -> set[str]:
    return {each["part"] for each in records}


def _targets(plan: Plan, records: Sequence[Record], traces: Sequence[str]) -> list[document.Target]:
    """Judge every part."""
    judged, bounds = _judged(plan, records, traces), _bounds(plan, records, traces)
    return [*reproduced(records), *judged, *bounds, *misstated_targets(records, FLOOR)]


def _slices() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--partial", action="store_true")
    return parser.parse_known_args()


def _asked(name: str, only: str) -> bool:
    """Tell whether a cell is in the slice: one of the words, or TRACE-LOAD, is in its name."""
    return not only or any(f"-{word}-" in f"-{name}-" for word in only.split(","))


def _work(plan: Plan, data: Path) -> Iterator[tuple[str, Callable[[], Records]]]:
    """Name every cell, with what makes its records."""
    yield "replay", partial(replayed, plan.replayed)
    for network in SHAPED:
        yield f"shape-{network}", partial(shaped, network, plan.replayed // 2)
    for network, _ in plan.networks:
        for factor in plan.factors:
            keys = [Key(network, factor, kind, load) for kind in _traces(data) for load in plan.loads]
            yield from ((key.named("sweep"), partial(_cell, plan, key, data)) for key in keys)
    for network, _ in plan.networks[:2]:
        for stated in STATED:
            yield f"misstated-{network}-{stated:g}", partial(misstated, _rungs(plan, network), network, stated)
    for network, max_batch in plan.networks:
        for factor in plan.bound_factors:
            yield f"looseness-{network}-{factor:g}", partial(_loose, plan, network, factor)
            keys = [
                Key(network, factor, kind, load)
                for kind in _bounded(max_batch, _traces(data))
                for load in plan.bound_loads
            ]
            yield from ((key.named("bound"), partial(_gap, plan, key, data)) for key in keys)


@cache
def _setting(plan: Plan, network: str, factor: float) -> Setting:
    rungs = with_int8(_rungs(plan, network), factor)
    steps = ladder(rungs, network)
    return Setting(rungs, steps, Amble(steps, Deadline(10.0 * steps.levels[0].rungs[0].latency_s[0], 0.95)))


@cache
def _rungs(plan: Plan, network: str) -> tuple[Rung, ...]:
    if network == "pnasnet-large":
        return published_rungs(network)
    return chip_rungs(network, max_batch=dict(plan.networks)[network])


def _traces(data: Path) -> list[str]:
    recorded = (data / "arrivals_twitter_2021_08").exists() and (data / "arrivals_azure_llm_2023").exists()
    return [kind for kind in TRACES if recorded or kind not in ("twitter", "azure")]


def _cell(plan: Plan, key: Key, data: Path) -> Records:
    """Serve one cell's traces by every governor."""
    setting = _setting(plan, key.network, key.factor)
    rate_hz, steps = setting.rate_hz(key.load), setting.steps
    arrivals = [trace(key.trace, rate_hz, plan.requests, seed=100 + seed, data=data) for seed in range(plan.seeds)]
    governors: tuple[Governor[Any], ...] = (
        max_clocks(steps),
        Dvfs(steps),
        int8_max(steps),
        best_fixed(steps, rate_hz, accuracy=FLOOR),
        Pit(steps),
        setting.adaptive,
    )
    runs = {
        one.name: [
            run(one, setting.rungs, each, deadline_s=setting.objective_s, seed=seed)
            for seed, each in enumerate(arrivals)
        ]
        for one in governors
    }
    return [_record(key, name, runs[name], runs["max"]) for name in GOVERNORS]


def _record(key: Key, name: str, runs: Sequence[Outcome], base: Sequence[Outcome]) -> Record:
    means = {field: float(np.mean([getattr(each, field) for each in runs])) for field in asdict(runs[0])}
    saved = [1.0 - one.energy_j / other.energy_j for one, other in zip(runs, base, strict=True)]
    low, high = _interval(saved)
    missed = _interval([each.missed for each in runs])
    extra = {"saving": float(np.mean(saved)), "saving_low": low, "saving_high": high}
    about = {"part": "sweep", **key._asdict(), "governor": name}
    return {**about, **means, **extra, "missed_low": missed[0], "missed_high": missed[1]}


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean, by Student's distribution."""
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def _gap(plan: Plan, key: Key, data: Path) -> Records:
    """Serve one trace by `amble`, and bound what it could have cost."""
    setting = _setting(plan, key.network, key.factor)
    rate_hz, objective_s = setting.rate_hz(key.load), setting.objective_s
    arrivals_s = trace(key.trace, rate_hz, plan.bound_requests, seed=11, data=data)
    outcome = run(setting.adaptive, setting.rungs, arrivals_s, deadline_s=objective_s, seed=11)
    drops = round(outcome.missed * len(arrivals_s))
    case = Case(arrivals_s, objective_s, 1.0 - FLOOR, drops, outcome.window_s)
    bound, energy_j = lower_bound(case, setting.steps), outcome.total_j
    found = {"part": "bound", **key._asdict(), "requests": len(arrivals_s), "energy_j": energy_j, "dropped": drops}
    found |= {"linear_j": bound.linear_j, "whole_j": bound.whole_j, "gap": energy_j / bound.least_j - 1.0}
    found |= {"accuracy": outcome.accuracy}
    return [found | _unforeseen(key, case, setting.steps)]


def _unforeseen(key: Key, case: Case, steps: Ladder) -> Record:
    """Return what serving costs who knows the rates but not the arrivals, and what if clocks settled at once."""
    parts, clump = PIECES.get(key.trace, 5), BURST if key.trace == "bursts" else 1
    load = pieces(case.arrivals_s, case.end_s, case.deadline_s, parts=parts, clump=clump)
    parked_j = steps.park_w * case.end_s
    drops = max(1.0, case.drops)  # who drops one on the mean drops none in every third trace
    each_j = [least_j(one, load, allowed=case.allowed, drops=drops) for one in (steps, settled_at_once(steps))]
    return {"online_j": parked_j + each_j[0], "online_settled_j": parked_j + each_j[1]}


def _loose(plan: Plan, network: str, factor: float) -> Records:
    """Compare the bounds with the exact optimum of 20 requests."""
    setting, found = _setting(plan, network, factor), []
    for load in (0.3, 0.7):
        arrivals_s = trace("poisson", setting.rate_hz(load), 20, seed=5, data=Path())
        case = Case(arrivals_s, setting.objective_s, 1.0 - FLOOR, 0, float(arrivals_s[-1]) + setting.objective_s)
        bound, best_j = lower_bound(case, setting.steps), exact_j(case, setting.steps)
        record = {"part": "looseness", "network": network, "factor": factor, "load": load, "exact_j": best_j}
        record |= {"linear_j": bound.linear_j, "whole_j": bound.whole_j, "loose": 1.0 - bound.least_j / best_j}
        found.append(record)
    return found


def _judged(plan: Plan, records: Sequence[Record], traces: Sequence[str]) -> Iterator[document.Target]:
    """For every network, trace and load, the targets at the worst of the INT8 factors; null where one is not done."""
    cells: dict[Key, dict[str, Record]] = {}
    for each in records:
        if each["part"] == "sweep":
            key = Key(each["network"], each["factor"], each["trace"], each["load"])
            cells.setdefault(key, {})[each["governor"]] = each
    for network, kind, load in product((name for name, _ in plan.networks), traces, plan.loads):
        keys = [Key(network, factor, kind, load) for factor in plan.factors]
        some = [cells[key] for key in keys] if all(key in cells for key in keys) else []
        title = f"{network}, {kind}, load {load}: amble's"
        ratio, more, p95, loss = (
            max(map(rule, some), default=None) for rule in (_energy_ratio, _more_missed, _missed_too_much, _loss)
        )
        accuracy = None if loss is None else 1.0 - loss
        yield document.target(f"{title} energy over pit's and dvfs's", want="<= 1", value=ratio, unit="1")
        yield document.target(f"{title} misses more than max's", want="<= 0.1", value=more, unit="points")
        yield document.target(f"{title} misses where any keeps p95", want="<= 0.05", value=p95, unit="1")
        yield document.target(f"{title} accuracy of FP32's", want=f">= {FLOOR}", value=accuracy, unit="1")


def _loss(cell: dict[str, Record]) -> float:
    return 1.0 - float(cell["amble"]["accuracy"])


def _energy_ratio(cell: dict[str, Record]) -> float:
    rivals = [name for name in ("pit", "dvfs") if cell[name]["accuracy"] >= FLOOR]
    return max(float(cell["amble"]["energy_j"] / cell[name]["energy_j"]) for name in rivals)


def _more_missed(cell: dict[str, Record]) -> float:
    """In points."""
    return 100.0 * float(cell["amble"]["missed"] - cell["max"]["missed"])


def _missed_too_much(cell: dict[str, Record]) -> float:
    """Amble's misses where some governor that keeps the accuracy misses 5 % at most; else nothing is asked."""
    possible = any(each["missed"] <= 0.05 for each in cell.values() if each["accuracy"] >= FLOOR)
    return float(cell["amble"]["missed"]) if possible else 0.0


def _bounds(plan: Plan, records: Sequence[Record], traces: Sequence[str]) -> Iterator[document.Target]:
    bounds = {(r["network"], r["factor"], r["trace"], r["load"]): r for r in records if r["part"] == "bound"}
    for network, max_batch in plan.networks:
        for key in product([network], plan.bound_factors, _bounded(max_batch, traces), plan.bound_loads):
            value = bounds[key]["gap"] if key in bounds else None
            where = f"{key[0]}, INT8 x {key[1]:g}, {key[2]}, load {key[3]}"
            yield document.target(f"{where}: amble above the lower bound", want="<= 0.05", value=value, unit="1")


def _bounded(max_batch: int, traces: Sequence[str]) -> Sequence[str]:
    """Return the traces that are bounded: batches make the bound four times as dear."""
    return traces if max_batch == 1 else ["poisson"]
