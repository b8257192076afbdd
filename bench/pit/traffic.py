"""Rungs, a trace and a governor -> what serving it cost, in virtual time; shared by the benches of serving.

Rungs come from the simulated Tesla P40 (`sim:tesla-p40`, its own physics, profiled like any device) or from the laws
that were fitted to published runs on a real one. INT8 is what a bench sweeps: so many times as fast as FP32, at 10 %
less power, 0.6 % less accurate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from amble.core.cost import Cost
from amble.core.graph import Graph
from amble.core.ladder import Ladder, Rung
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, FloatArray
from amble.core.profile import SwitchCost
from amble.devices import simulated
from amble.devices.recorded.tabled import Behaviour, open_table, whole
from amble.runtimes import onnx
from amble.stages.check.arrivals import parse_load
from amble.stages.control.batcher import Refusal, Request
from amble.stages.control.engine import Batch, Engine, Lane
from amble.stages.control.governor import Governor
from amble.stages.control.source import Replay
from amble.stages.plan.ladder import build
from bench.kit.places import BUILD
from bench.models import building as models

__all__ = [
    "BURST",
    "TRACES",
    "Outcome",
    "Tally",
    "chip_rungs",
    "ladder",
    "published_rungs",
    "run",
    "serve_on",
    "trace",
    "with_int8",
]

INT8_LOSS, INT8_POWER = 0.006, 0.9
STALL_S, SETTLE_S = 200e-6, 10e-3  # the chip's own (assumed there, no measurement is known)
SWITCH = (SwitchCost("core", Cost(STALL_S, 2e-3 + STALL_S * 110.0), SETTLE_S),)
NOISE = 0.01
P40_MHZ = (544, 632, 734, 835, 949, 1063, 1189, 1303, 1430, 1531)
# t(f) = a/f + c in ms for an image, f in GHz: fits to the run logs of nabavinejad/BatchDVFS, image decoding included
PUBLISHED_MS = {
    "pnasnet-large": (19.1, 11.5),
    "nasnet-large": (18.7, 15.9),
    "resnet152": (5.0, 11.5),
    "inceptionv4": (4.2, 13.3),
}
BURST = 4  # requests at a time
TRACES = ("poisson", "bursts", "ramp", "on-off", "twitter", "azure")


def published_rungs(network: str) -> tuple[Rung, ...]:
    """FP32 rungs by the published laws: time above, busy 82.5 + 29.6 f³ W, idle 44.3 + 3.2 f³ W; one at a time."""
    over, fixed = PUBLISHED_MS[network]
    found = []
    for mhz in P40_MHZ:
        ghz = mhz / 1e3
        time_s = (over / ghz + fixed) * 1e-3
        clocks, idle_w = Clocks(core_hz=mhz * 1e6), 44.3 + 3.2 * ghz**3
        found.append(Rung("fp32", clocks, (time_s,), ((82.5 + 29.6 * ghz**3) * time_s,), 1.0, idle_w))
    return tuple(found)


def chip_rungs(network: str, *, max_batch: int, precision: str = "fp32") -> tuple[Rung, ...]:
    """Profile a network on `sim:tesla-p40` at every clock, at batch sizes 1, 2, 4, ...; others are interpolated."""
    device = simulated.open("tesla-p40", seed=0)
    path = models.write(network, BUILD / "models")
    sizes = [2**power for power in range(max_batch.bit_length())]
    graphs = {size: onnx.load(path, batch=size) for size in sizes}
    found = []
    for clocks in device.actuator.available():
        device.actuator.apply(clocks)
        device.clock.sleep(1.0)
        idle_w = _idle_w(device)
        wholes = [device.runner.profile(graphs[size], OperatingPoint(clocks, precision), 9).whole for size in sizes]
        time_s = np.interp(range(1, max_batch + 1), sizes, [each.latency_s for each in wholes])
        energy_j = np.interp(range(1, max_batch + 1), sizes, [each.energy_j or np.nan for each in wholes])
        found.append(Rung(precision, clocks, tuple(time_s.tolist()), tuple(energy_j.tolist()), 1.0, idle_w))
    return tuple(found)


def _idle_w(device: Device) -> float:
    before = device.meter.read()
    device.clock.sleep(1.0)
    passed = device.meter.read() - before
    assert passed.energy_j is not None, "the simulated meter always counts"
    return passed.energy_j / passed.latency_s


def with_int8(
    rungs: Sequence[Rung], factor: float, *, power: float = INT8_POWER, loss: float = INT8_LOSS
) -> tuple[Rung, ...]:
    """Add an INT8 rung beside each: ``factor`` times as fast, at this share of the power."""
    quick = [
        replace(
            rung,
            variant="int8",
            latency_s=tuple(each / factor for each in rung.latency_s),
            energy_j=tuple(each * power / factor for each in rung.joules),
            accuracy=1.0 - loss,
        )
        for rung in rungs
    ]
    return (*rungs, *quick)


def ladder(rungs: Sequence[Rung], network: str, *, switches: tuple[SwitchCost, ...] = SWITCH) -> Ladder:
    """Build the ladder for idle-included energy, with a margin for the device's noise."""
    return build(rungs, graph=network, device="sim:tesla-p40", switches=switches, margin=1.0 + 2.0 * NOISE)


def trace(kind: str, rate_hz: float, count: int, *, seed: int, data: Path) -> FloatArray:
    """Arrival times [s] at this mean rate: [request], about ``count`` of them (recorded ones are scaled in time)."""
    last_s = count / rate_hz
    made = {
        "poisson": f"poisson:{rate_hz}/s:{count}",
        "bursts": f"burst:{rate_hz}/s:{BURST}:{count}",
        "ramp": f"ramp:{0.2 * rate_hz}/s:{1.8 * rate_hz}/s:{last_s}s",
        "on-off": f"onoff:{2.0 * rate_hz}/s:{last_s / 10}s:{last_s / 10}s:{last_s}s",
    }
    if kind in made:
        return parse_load(made[kind]).times_s(seed)
    return _recorded(data / _FILES[kind], count, rate_hz, seed)


_FILES = {
    "twitter": Path("arrivals_twitter_2021_08") / "per_second_days_1_2.txt.gz",
    "azure": Path("arrivals_azure_llm_2023") / "conv.csv.gz",
}
_READ: dict[Path, FloatArray] = {}


def _recorded(path: Path, count: int, rate_hz: float, seed: int) -> FloatArray:
    """A stretch of a recorded trace from a random place on, its time scaled to the mean rate."""
    if path not in _READ:
        _READ[path] = parse_load(f"file:{path}").times_s(0)
    times_s = _READ[path]
    first = int(np.random.default_rng(seed).integers(0, len(times_s) - count))
    part_s = times_s[first : first + count] - times_s[first]
    return np.asarray(part_s * (count / rate_hz / part_s[-1]), dtype=np.float64)


class Tally:
    """A sink that counts in bounded memory: response times in bins of a hundredth of the objective."""

    def __init__(self, slo_s: float) -> None:
        self.slo_s = slo_s
        self.rows = self.on_time = self.late = self.num_refused = 0
        self.lost = self.response_s = 0.0
        self.by_variant: dict[str, int] = {}
        self.bins = [0] * 2000

    def answered(self, batch: Batch) -> None:
        """Count a batch."""
        finish_s, scale = batch.finish_s, 100.0 / self.slo_s
        for request in batch.requests:
            response_s = finish_s - request.arrival_s
            self.response_s += response_s
            self.on_time += finish_s <= request.due_s
            self.bins[min(1999, int(response_s * scale))] += 1
        self.rows += batch.rows
        self.lost += (1.0 - batch.rung.accuracy) * batch.rows
        self.by_variant[batch.rung.variant] = self.by_variant.get(batch.rung.variant, 0) + batch.rows

    def refused(self, request: Request, refusal: Refusal) -> None:
        """Count a refusal."""
        self.num_refused += request.rows

    def percentile_s(self, share: float) -> float:
        """Response time [s] of this share of the answered, to a hundredth of the objective."""
        ends = np.cumsum(self.bins)
        return float(np.searchsorted(ends, share * ends[-1]) + 1) / 100.0 * self.slo_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to. ``energy_j`` is the meter's over the window, idle included, for a request answered in time;
    ``missed`` the share of requests refused or late, ``accuracy`` the mean over the answered."""

    requests: int
    energy_j: float
    total_j: float
    window_s: float
    missed: float
    accuracy: float
    response_s: float
    p95_s: float
    int8: float
    changes_hz: float


def run(
    governor: Governor[Any],
    rungs: Sequence[Rung],
    arrivals_s: FloatArray,
    *,
    deadline_s: float,
    seed: int,
    stall_s: float = STALL_S,
    settle_s: float = SETTLE_S,
) -> Outcome:
    """Serve a trace on a table with the chip's switching and noise; without a deadline (infinite) none is refused."""
    device = open_table("tesla-p40", rungs, behaviour=Behaviour(NOISE, stall_s, settle_s), seed=seed)
    return serve_on(device, governor, lambda variant, batch: whole("network", variant, batch), arrivals_s, deadline_s)


def serve_on(
    device: Device,
    governor: Governor[Any],
    graph: Callable[[str, int], Graph],
    arrivals_s: FloatArray,
    deadline_s: float,
) -> Outcome:
    """Serve a trace on any device."""
    tally = Tally(deadline_s if np.isfinite(deadline_s) else 1.0)
    lane = Lane("", governor, graph, queue_limit=1 << 30 if not np.isfinite(deadline_s) else 1024)
    engine = Engine(device, [lane], tally)
    begin = device.meter.read()
    origin_s = device.clock.now_s()
    totals = engine.run(Replay(origin_s + arrivals_s, device.clock, deadline_s=deadline_s))
    spent = device.meter.read() - begin
    assert spent.energy_j is not None, "simulated meters always count"
    window_s, count = spent.latency_s, len(arrivals_s)
    return Outcome(
        requests=count,
        energy_j=spent.energy_j / max(1, tally.on_time),
        total_j=spent.energy_j,
        window_s=window_s,
        missed=1.0 - tally.on_time / count,
        accuracy=1.0 - tally.lost / max(1, tally.rows),
        response_s=tally.response_s / max(1, tally.rows),
        p95_s=tally.percentile_s(0.95),
        int8=tally.by_variant.get("int8", 0) / max(1, tally.rows),
        changes_hz=totals.changes / window_s,
    )
