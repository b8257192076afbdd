"""Routing and the cluster governor over simulated chips in virtual time, beside what is done today.

A thousand devices (quick: 100), a quarter each P40, V100, A100 and Orin Nano, serve the bundled network within 100 ms.
Every policy meets the same arrivals and drops what would be late; misses are late, dropped and refused requests.

- Energy: round-robin and least-loaded at every device's own defaults (top clocks); least-loaded at the best held rung
  of each kind, found with hindsight by coordinate descent among those that miss no more than the defaults do; and the
  relaxation's lower bound. Arrivals: Poisson, and two recorded traces whose counts a second are scaled up.
- Budgets: 60 to 90 % of what the fleet draws when saturated, under arrivals at its capacity, beside an equal cap: every
  device at its highest rung within the budget over the number of devices, within the same share of its own top power,
  and within the highest cap in watts whose rungs together fit the budget, which needs every frontier to be known.
- A tenth of the nodes fail at once, at several loads and under a tight budget.
- How quality and cost grow: 10 to 10,000 devices under Poisson arrivals at half of their capacity, and decision time by
  fleet size, on one core. (`amble fleet --ray` spreads the policies of still larger ones.)

The governor steps every half second, and at once where room runs out; that is why it keeps no headroom for the spread
of the demand beyond the 5 % that devices are loaded less.

Energies are simulated: they say how policies compare on these chips. No energy is claimed for real fleets.
"""

from __future__ import annotations

from bench.kit import document

document.on_one_core()

import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from amble.core.ports import FloatArray  # noqa: E402
from amble.services.cluster.filling import IntArray, relaxed  # noqa: E402
from amble.services.cluster.fleet import SLOTS, Day, Fleet, Outcome, Policy, least_j, simulate  # noqa: E402
from amble.services.cluster.governor import ClusterGovernor, Seen  # noqa: E402
from amble.services.cluster.ladders import Ladders, of_chips  # noqa: E402

CHIPS = ("tesla-p40", "v100", "a100", "jetson-orin-nano")
DEADLINE_S, LEAD_S, PERIOD_S = 0.1, 3.0, 0.5
SHARES = (0.6, 0.7, 0.8, 0.9)
CAPS = ("an equal cap in watts", "an equal share of each's top", "the highest equal cap that fits")
Record = dict[str, Any]


def main() -> None:
    options = document.options("fleet", __doc__)
    ladders = of_chips(CHIPS, "fashion-resnet", DEADLINE_S)
    fleet = _fleet(ladders, 100 if options.quick else 1000)
    seconds = 6 if options.quick else 10
    records: list[Record] = []
    loads = (0.5,) if options.quick else (0.3, 0.5, 0.7)
    for trace in ("poisson", "twitter", "azure"):
        rates = _rates(options.data, trace, seconds)
        if rates is None:
            continue
        for load in loads if trace == "poisson" else (0.5,):
            records.extend(_energies(fleet, trace, load, rates))
    records.extend(_scales(ladders, (10, 100) if options.quick else (10, 100, 1000, 10_000), seconds))
    records.extend(_budgets(fleet, seconds))
    records.extend(_failures(fleet, seconds))
    records.extend(_decisions(ladders, (100, 1000) if options.quick else (100, 1000, 3000, 10_000)))
    document.finish(options, records, list(_targets(records)))


def _fleet(ladders: Ladders, devices: int) -> Fleet:
    counts = [devices // len(CHIPS) + (kind < devices % len(CHIPS)) for kind in range(len(CHIPS))]
    return Fleet(ladders.fleet(counts), ladders, DEADLINE_S)


def _rates(data: Path, trace: str, seconds: int) -> FloatArray | None:
    """Return the rate in each second over its mean; None without the file. Ten hours into the recording, or one."""
    if trace == "poisson":
        return np.ones(seconds)
    if trace == "twitter":
        path = data / "arrivals_twitter_2021_08" / "per_second_days_1_2.txt.gz"
        counts = np.loadtxt(path)[36_000 : 36_000 + seconds] if path.exists() else None
    else:
        path = data / "arrivals_azure_llm_2023" / "conv.csv.gz"
        times_s = np.loadtxt(path, delimiter=",", skiprows=1)[:, 0] if path.exists() else None
        counts = None if times_s is None else np.bincount(times_s.astype(int))[600 : 600 + seconds].astype(float)
    return None if counts is None else np.asarray(counts / counts.mean())


def _top(fleet: Fleet) -> IntArray:
    return np.full(fleet.frontiers.num_devices, fleet.frontiers.power_w.shape[1] - 1, dtype=np.int64)


def _day(fleet: Fleet, load: float, rates: FloatArray, seed: int = 1) -> Day:
    """Return Poisson arrivals at a share of the fleet's capacity, after a lead at the first second's rate."""
    capacity_hz = float(fleet.frontiers.rates(_top(fleet)).sum())
    lead = round(LEAD_S / fleet.slot_s)
    by_slot = np.concatenate([np.full(lead, rates[0]), np.repeat(rates, round(1.0 / fleet.slot_s))])
    return Day(np.random.default_rng(seed).poisson(load * capacity_hz * fleet.slot_s * by_slot), lead)


def _governed(fleet: Fleet, budget_w: float = np.inf) -> Policy:
    budget_w = min(budget_w, float(fleet.frontiers.top_w.sum()))
    return Policy("joules", governor=ClusterGovernor(fleet.frontiers, budget_w, deviations=0.0), period_s=PERIOD_S)


def _energies(fleet: Fleet, trace: str, load: float, rates: FloatArray) -> Iterator[Record]:
    day = _day(fleet, load, rates)
    name = {"part": "energy", "trace": trace, "load": load, "peak_over_mean": float(rates.max())}
    bound_j = least_j(fleet, day)
    defaults = simulate(fleet, day, Policy("least loaded", held=_top(fleet)))
    found = {
        "amble": simulate(fleet, day, _governed(fleet)),
        "round-robin, own defaults": simulate(fleet, day, Policy("round-robin", held=_top(fleet))),
        "least loaded, own defaults": defaults,
        "least loaded, best held rungs": _best_held(fleet, day, defaults),
    }
    for policy, outcome in found.items():
        yield {**name, "policy": policy, **_told(outcome), "over_bound": outcome.energy_j / bound_j - 1.0}


def _scales(ladders: Ladders, sizes: Sequence[int], seconds: int) -> Iterator[Record]:
    for size in sizes:
        fleet = _fleet(ladders, size)
        day = _day(fleet, 0.5, np.ones(seconds))
        bound_j = least_j(fleet, day)
        for policy, each in {
            "amble": _governed(fleet),
            "round-robin, own defaults": Policy("round-robin", held=_top(fleet)),
            "least loaded, own defaults": Policy("least loaded", held=_top(fleet)),
        }.items():
            start_s = time.process_time()
            outcome = simulate(fleet, day, each)
            took_s = time.process_time() - start_s
            record = {"part": "scale", "devices": size, "policy": policy, **_told(outcome), "took_s": took_s}
            yield {**record, "over_bound": outcome.energy_j / bound_j - 1.0}


def _told(outcome: Outcome) -> Record:
    return {
        "energy_j": outcome.energy_j,
        "missed": outcome.missed,
        "joules_a_met": outcome.energy_j / max(1.0, outcome.met),
        "over_s": outcome.over_s,
        "most_w": outcome.most_w,
    }


def _best_held(fleet: Fleet, day: Day, most: Outcome) -> Outcome:
    """Return the cheapest run at one rung for each kind that misses no more than ``most``, by coordinate descent."""
    rung, best = [fleet.frontiers.power_w.shape[1] - 1] * len(CHIPS), most
    for kind in range(len(CHIPS)):
        worse = 0
        for step in range(rung[kind] - 1, -1, -1):
            trial = [*rung[:kind], step, *rung[kind + 1 :]]
            found = simulate(fleet, day, Policy("least loaded", held=np.array(trial)[fleet.frontiers.kind]))
            worse += found.energy_j >= best.energy_j
            if found.missed > most.missed + 1e-5 or worse > 2:
                break
            if found.energy_j < best.energy_j:
                rung, best = trial, found
    return best


def _budgets(fleet: Fleet, seconds: int) -> Iterator[Record]:
    day = _day(fleet, 1.0, np.ones(seconds))
    saturated = simulate(fleet, day, Policy("least loaded", held=_top(fleet)))
    span_s = (len(day.arrivals[day.lead :]) + SLOTS) * fleet.slot_s  # the queues that are left are served, too
    yield {"part": "saturated", **_told(saturated), "goodput_hz": saturated.met / span_s}
    for share in SHARES:
        budget_w = share * float(fleet.frontiers.top_w.sum())
        bound_hz = relaxed(fleet.frontiers, budget_w)[1]
        policies = {
            "amble": _governed(fleet, budget_w),
            CAPS[0]: Policy("least loaded", held=_capped(fleet, np.asarray(budget_w / fleet.frontiers.num_devices))),
            CAPS[1]: Policy("least loaded", held=_capped(fleet, share * fleet.frontiers.top_w)),
            CAPS[2]: Policy("least loaded", held=_capped(fleet, np.asarray(_equal_w(fleet, budget_w)))),
        }
        for policy, each in policies.items():
            outcome = simulate(fleet, day, each)
            goodput_hz = outcome.met / span_s
            record = {"part": "budget", "share": share, "policy": policy, **_told(outcome), "goodput_hz": goodput_hz}
            yield {**record, "of_bound": goodput_hz / bound_hz}


def _capped(fleet: Fleet, cap_w: FloatArray) -> IntArray:
    """Return the highest rung of each device within its cap [W]."""
    watts = fleet.frontiers.power_w[fleet.frontiers.kind]
    within = watts <= np.broadcast_to(cap_w, len(watts))[:, None] * (1 + 1e-9)
    return np.asarray(np.maximum(0, within.sum(axis=1) - 1))


def _equal_w(fleet: Fleet, budget_w: float) -> float:
    """Return the cap in watts, the same for all, whose rungs together fit the budget best."""
    caps = np.unique(fleet.frontiers.power_w)
    fits = [cap for cap in caps if fleet.frontiers.watts(_capped(fleet, np.asarray(cap))).sum() <= budget_w]
    return float(max(fits, default=0.0))


def _failures(fleet: Fleet, seconds: int) -> Iterator[Record]:
    for load, share in ((0.5, 1.0), (0.7, 1.0), (1.0, 0.7)):
        day = _day(fleet, load, np.ones(seconds))
        down = np.random.default_rng(3).permutation(fleet.frontiers.num_devices) < fleet.frontiers.num_devices // 10
        failing = Day(day.arrivals, day.lead, (len(day.arrivals) // 2, down))
        policy = _governed(fleet, share * float(fleet.frontiers.top_w.sum()))
        before, after = simulate(fleet, day, policy), simulate(fleet, failing, policy)
        defaults = simulate(fleet, failing, Policy("least loaded", held=_top(fleet)))
        lost_s = (after.lost - before.lost) / (before.met / (len(day.arrivals[day.lead :]) * fleet.slot_s))
        yield {
            "part": "failure",
            "load": load,
            "share": share,
            **_told(after),
            "defaults_missed": defaults.missed,
            "lost_s": lost_s,
        }


def _decisions(ladders: Ladders, sizes: Sequence[int]) -> Iterator[Record]:
    for size in sizes:
        fleet = _fleet(ladders, size)
        frontiers = fleet.frontiers
        capacity_hz = float(frontiers.rates(_top(fleet)).sum())
        governor = ClusterGovernor(frontiers, 0.7 * float(frontiers.top_w.sum()))
        start_s = time.process_time()
        state = governor.init()
        state, _ = governor.step(state, Seen(0.5 * capacity_hz, state.rung, state.serial, state.down))
        first_s, took_s = time.process_time() - start_s, []
        for demand in np.random.default_rng(0).uniform(0.2, 1.2, 30) * capacity_hz:
            start_s = time.process_time()
            state, _ = governor.step(state, Seen(float(demand), state.rung, state.serial, state.down))
            took_s.append(time.process_time() - start_s)
        p95_s = float(np.percentile(took_s, 95))
        yield {
            "part": "decision",
            "devices": size,
            "first_s": first_s,
            "p50_s": float(np.median(took_s)),
            "p95_s": p95_s,
        }


def _targets(records: Sequence[Record]) -> Iterator[document.Target]:
    cells = [each for each in records if each["part"] == "energy"]
    for mine in (each for each in cells if each["policy"] == "amble"):
        others = {each["policy"]: each for each in cells if _cell(each) == _cell(mine)}
        name = f"{mine['trace']} at {mine['load']:g}"
        turns, defaults = others["round-robin, own defaults"], others["least loaded, own defaults"]
        held = others["least loaded, best held rungs"]
        for what, other, want in (
            ("round-robin at own defaults", turns, ">= 0.25"),
            ("least loaded at own defaults", defaults, ">= 0.25"),
            ("least loaded at the best held rungs", held, "> 0"),
        ):
            saved = 1.0 - mine["energy_j"] / other["energy_j"]
            cause = _cause(other)
            yield document.target(f"{name}: saved against {what}", want=want, value=saved, unit="1", cause=cause)
        each = 1.0 - mine["joules_a_met"] / turns["joules_a_met"]
        what = "energy of a met request, saved against round-robin"
        yield document.target(f"{name}: {what}", want=">= 0.25", value=each, unit="1")
        least = min(turns["missed"], defaults["missed"], held["missed"])
        more = mine["missed"] - least
        cause = "demand rose within a period faster than rungs were chosen for"
        yield document.target(f"{name}: misses above the least", want="<= 0", value=more, unit="1", cause=cause)
        cause = "headroom for the traffic's spread; the bound knows the arrivals"
        yield document.target(
            f"{name}: over the bound", want="<= 0.03", value=mine["over_bound"], unit="1", cause=cause
        )
    yield from _scale_targets(records)
    yield from _budget_targets(records)
    yield from _other_targets(records)


def _cause(other: Record) -> str:
    if other["missed"] > 0.01:
        return f"it misses {other['missed']:.0%} and spends nothing on those; a met request is what to compare"
    return "at this load the defaults waste less than that"


def _cell(record: Record) -> tuple[str, float]:
    return record["trace"], record["load"]


def _scale_targets(records: Sequence[Record]) -> Iterator[document.Target]:
    found = {(each["devices"], each["policy"]): each for each in records if each["part"] == "scale"}
    for size in dict.fromkeys(devices for devices, _ in found):
        mine, turns = found[size, "amble"], found[size, "round-robin, own defaults"]
        least = found[size, "least loaded, own defaults"]
        name = f"{size} devices"
        cause = "of few devices each is a large part of the whole, and has few rungs"
        for other in (turns, least):
            saved = 1.0 - mine["energy_j"] / other["energy_j"]
            what = f"{name}: saved against {other['policy']}"
            yield document.target(what, want=">= 0.25", value=saved, unit="1", cause=_cause(other))
        bound = mine["over_bound"]
        yield document.target(f"{name}: over the bound", want="<= 0.03", value=bound, unit="1", cause=cause)
        more = mine["missed"] - min(turns["missed"], least["missed"])
        yield document.target(f"{name}: misses above the least", want="<= 0", value=more, unit="1", cause=cause)


def _budget_targets(records: Sequence[Record]) -> Iterator[document.Target]:
    found = {(each["share"], each["policy"]): each for each in records if each["part"] == "budget"}
    for share in SHARES:
        want = ">= 0.1" if share == 0.7 else "> 0"
        mine_hz = found[share, "amble"]["goodput_hz"]
        for policy in CAPS:
            more = mine_hz / found[share, policy]["goodput_hz"] - 1.0
            cause = f"it is at {found[share, policy]['of_bound']:.1%} of what any division of this budget serves"
            name = f"budget {share:.0%}: goodput above {policy}"
            yield document.target(name, want=want, value=more, unit="1", cause=cause)
        over_s = found[share, "amble"]["over_s"]
        yield document.target(f"budget {share:.0%}: time above it", want="<= 0", value=over_s, unit="s")


def _other_targets(records: Sequence[Record]) -> Iterator[document.Target]:
    for each in (each for each in records if each["part"] == "failure"):
        name = f"a tenth fails at load {each['load']:g}, budget {each['share']:.0%}"
        yield document.target(f"{name}: time above the budget", want=f"<= {PERIOD_S}", value=each["over_s"], unit="s")
        if each["share"] == 1.0:
            lost = each["lost_s"]
            yield document.target(f"{name}: requests lost, in seconds of traffic", want="<= 2", value=lost, unit="s")
    times = sorted((each["devices"], each["p50_s"], each["p95_s"]) for each in records if each["part"] == "decision")
    (few, few_s, _), (many, many_s, worst_s) = times[0], times[-1]
    growth = (many_s / few_s) / (many * np.log(many) / (few * np.log(few)))
    name = f"decision time, {few} to {many} devices, over n log n"
    yield document.target(name, want="<= 1", value=float(growth), unit="1")
    yield document.target(f"decision time at {many} devices", want=f"<= {PERIOD_S / 10}", value=worst_s, unit="s")
