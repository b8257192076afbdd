"""Emulated cards nobody knows: what amble measures, predicts and plans on them, against what they really do.

Every card has a chip's physics, each parameter off by up to 15 % by its seed; fit and plan see its NVML alone. Its time
moves only as work is done, so nothing here depends on this machine's speed; only the cost of reading the meter does.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench.kit import document

document.on_one_core()
PLACE = Path(tempfile.mkdtemp(prefix="amble-card-"))
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
os.environ |= {"AMBLE_EMULATED_CARD": str(PLACE / "card"), "XDG_STATE_HOME": str(PLACE / "state")}

import numpy as np  # noqa: E402

import amble  # noqa: E402
from amble.core.cost import Reading  # noqa: E402
from amble.core.graph import Graph  # noqa: E402
from amble.core.point import OperatingPoint  # noqa: E402
from amble.core.ports import Device, SteppedMeter  # noqa: E402
from amble.devices import emulated  # noqa: E402
from amble.devices.emulated import Card  # noqa: E402
from amble.devices.simulated.physics import Physics  # noqa: E402
from amble.stages.fit.costs import Costs  # noqa: E402
from amble.stages.measure import metering, platform  # noqa: E402

CHIPS = ("v100", "a100", "jetson-orin-nano")
COUNTERS_S = (0.001, 0.010, 0.100)
NETWORKS = ("fashion-resnet", "synthetic:20", "synthetic:60")
DEADLINES = (1.2, 1.6, 2.5)
_RUNS = 200

Records = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Truth:
    """What a card really takes for one run at each of its settings; both [point]. Idle power too [W]."""

    latency_s: np.ndarray
    energy_j: np.ndarray
    idle_w: np.ndarray


def true_energy_j() -> float:
    """Return all joules that the card has used, which no meter tells."""
    with emulated.opened(PLACE / "card") as state:
        return float(state.energy_j)


def temperature_c() -> float:
    with emulated.opened(PLACE / "card") as state:
        return float(state.temperature_c)


def opened(card: Card) -> Device:
    emulated.make(card, PLACE / "card")
    return amble.open("nvml:0")


def truth(card: Card, graph: Graph, points: tuple[OperatingPoint, ...], at_c: float) -> Truth:
    """Price every setting by the physics of the card as it is, at a temperature."""
    chip = card.true_chip()
    physics = Physics(chip)
    launched = physics.launches(graph, graph.precision)
    tables = [physics.table(launched, point.clocks) for point in points]
    latency_s = np.array([table.time_s.sum() for table in tables])
    busy_w = np.array([physics.busy_w(point.clocks, at_c) for point in points])
    idle_w = np.array([physics.idle_w(point.clocks, at_c) for point in points])
    return Truth(latency_s, busy_w * latency_s + np.array([table.dynamic_j.sum() for table in tables]), idle_w)


def meters(card: Card, graph: Graph) -> Iterator[dict[str, object]]:
    """Compare windows of the meter with the card's own joules, at three clocks; and what reading costs."""
    device = opened(card)
    settings = device.actuator.available()
    for clocks in (settings[0], settings[len(settings) // 2], settings[-1]):
        with device.held(clocks):
            point = OperatingPoint(clocks, graph.precision)

            def run(point: OperatingPoint = point) -> None:
                device.runner.run(graph, point, {})

            platform.felt(device, run)
            run_s = device.runner.profile(graph, point, 5).whole.latency_s
            before_s = device.clock.now_s()
            window = metering.measured(device, run, run_s)
            window_s = device.clock.now_s() - before_s
            before_j = true_energy_j()
            for _ in range(_RUNS):
                run()
            true_j = (true_energy_j() - before_j) / _RUNS
            assert window.energy_j is not None, window.why
            yield {
                "what": "meter",
                "chip": card.chip,
                "counter_s": card.counter_s,
                "network": graph.name,
                "clocks": str(clocks),
                "energy_j": window.energy_j,
                "true_j": true_j,
                "error": window.energy_j / true_j - 1.0,
                "window_s": window_s,
            }
    _close(device)


def reading_share(card: Card, graph: Graph) -> float:
    """Return which share of a window's time goes into reading the meter, on a card whose time is the wall's."""
    device = opened(replace(card, slower=1.0))
    clocks = device.actuator.available()[-1]
    spent_s, meter = [0.0], device.meter
    assert isinstance(meter, SteppedMeter)
    timed = _Timed(meter, spent_s)
    with device.held(clocks):
        point = OperatingPoint(clocks, graph.precision)
        meter.period_s()
        watched = replace(device, meter=timed)
        metering.measured(watched, lambda: device.runner.run(graph, point, {}), 1e-3)
    _close(device)
    return spent_s[0] / max(timed.window_s, 1e-9)


@dataclass
class _Timed:
    """A meter that says how long reading it takes, over the window in which it was read."""

    meter: SteppedMeter
    spent_s: list[float]
    first_s: float = 0.0
    window_s: float = 0.0
    why: str = ""

    def read(self) -> Reading:
        began_s = time.perf_counter()
        reading = self.meter.read()
        self.spent_s[0] += time.perf_counter() - began_s
        self.first_s = self.first_s or began_s
        self.window_s = time.perf_counter() - self.first_s
        return reading

    def period_s(self) -> float | None:
        return self.meter.period_s()

    def power_w(self) -> float | None:
        began_s = time.perf_counter()
        power_w = self.meter.power_w()
        self.spent_s[0] += time.perf_counter() - began_s
        return power_w


def learned(card: Card, graph: Graph) -> Records:
    """Measure, fit and plan as a user does; judge by the truth."""
    device = opened(card)
    profile = amble.measure(graph, device)
    costs = amble.fit(profile)
    found = truth(card, graph, costs.points, temperature_c())
    _close(device)
    arrays = costs.arrays()
    latency_s, energy_j = arrays.latency_s.sum(axis=0), arrays.energy_j.sum(axis=0)
    measured = {total.point for total in profile.totals}
    new = np.array([point not in measured for point in costs.points])
    label = {"chip": card.chip, "seed": card.seed, "network": graph.name, "counter_s": card.counter_s}
    judged = new if new.any() else ~new
    time_error = np.abs(latency_s / found.latency_s - 1.0)[judged]
    energy_error = np.abs(energy_j / found.energy_j - 1.0)[judged]
    records: Records = [
        {
            "what": "prediction",
            **label,
            "points": len(costs.points),
            "measured": len(measured),
            "time_error_p50": float(np.median(time_error)),
            "time_error_p95": float(np.percentile(time_error, 95)),
            "energy_error_p50": float(np.median(energy_error)),
            "energy_error_p95": float(np.percentile(energy_error, 95)),
        }
    ]
    return records + [_planned(graph, costs, found, factor, label) for factor in DEADLINES]


def _planned(graph: Graph, costs: Costs, found: Truth, factor: float, label: dict[str, object]) -> dict[str, object]:
    """Plan with what was learnt and with the truth, and price both plans by the truth."""
    period_s = factor * float(found.latency_s.min())
    shares = costs.arrays().latency_s / costs.arrays().latency_s.sum(axis=0)
    true_costs = replace(
        costs,
        latency_s=tuple(map(tuple, (shares * found.latency_s).tolist())),
        energy_j=tuple(map(tuple, (shares * found.energy_j).tolist())),
        idle_power_w=tuple(found.idle_w.tolist()),
    )
    deadline = amble.Deadline(period_s, percentile=0.99)
    chosen, best = (amble.plan(graph, each, deadline=deadline, planner="single") for each in (costs, true_costs))
    spent_j = [
        found.energy_j[at] + found.idle_w[at] * (period_s - found.latency_s[at])
        for at in (costs.points.index(plan.steps[0].point) for plan in (chosen, best))
    ]
    return {
        "what": "plan",
        **label,
        "deadline": factor,
        "chosen": str(chosen.steps[0].point.clocks),
        "best": str(best.steps[0].point.clocks),
        "regret": float(spent_j[0] / spent_j[1] - 1.0),
    }


def _close(device: Device) -> None:
    device.actuator.apply(amble.Clocks())


def targets(records: Records, share: float) -> list[document.Target]:
    """One target for each chip and promise."""
    found = []
    for chip in CHIPS:
        mine = [each for each in records if each.get("chip") == chip]
        for name, key, bound in (("time", "time_error_p50", 0.02), ("energy", "energy_error_p50", 0.04)):
            values = [float(str(each[key])) for each in mine if each["what"] == "prediction"]
            found.append(
                document.target(
                    f"{chip}: predicted against true {name}, median", want=f"<= {bound}", value=median(values), unit="1"
                )
            )
        regrets = [abs(float(str(each["regret"]))) for each in mine if each["what"] == "plan"]
        name = f"{chip}: the plan's energy over that of a plan with the true parameters, largest"
        found.append(document.target(name, want="<= 0.02", value=max(regrets), unit="1"))
        for counter_s in COUNTERS_S:
            known = [each for each in mine if each["what"] == "meter" and each["counter_s"] == counter_s]
            errors = [abs(float(str(each["error"]))) for each in known]
            name = f"{chip}: error of the meter whose counter moves every {1e3 * counter_s:g} ms, largest"
            found.append(document.target(name, want="<= 0.02", value=max(errors), unit="1"))
    found.append(document.target("share of reading the meter in a window", want="<= 0.01", value=share, unit="1"))
    return found


def main() -> None:
    """Measure all cards."""
    options = document.options("card", __doc__)
    seeds = (1,) if options.quick else (1, 2, 3)
    records: Records = []
    for chip in CHIPS:
        for name in NETWORKS[:1] if options.quick else NETWORKS:
            graph = amble.load(name)
            for counter_s in COUNTERS_S:
                records += meters(Card(chip, 1, 0.0, counter_s), graph)
            for seed in seeds:
                records += learned(Card(chip, seed, 0.0), graph)
    share = reading_share(Card("v100", 1, 0.0), amble.load("synthetic:20"))
    records.append({"what": "reading", "share": share})
    document.finish(options, records, targets(records, share))
