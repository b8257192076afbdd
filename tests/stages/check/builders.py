"""Made-up but realistic inputs for the checks: a small network's schedule, and logs of serving it under a policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from amble.core.cost import Cost
from amble.core.log import ClockChange, Log, PowerSample, Served, Slice
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import CostTable, FloatArray
from amble.core.profile import IdlePower, Profile, Sample, SwitchCost
from amble.core.schedule import Baseline, Deadline, Schedule, Step
from amble.core.subject import Subject, Where
from amble.stages.check.tables import Costs

FAST = Clocks(core_hz=1300.5e6, memory_hz=1866e6)
MIDDLE = Clocks(core_hz=854.25e6, memory_hz=1331.2e6)
SLOW = Clocks(core_hz=420.75e6, memory_hz=1331.2e6)
WAIT = Clocks(core_hz=114.75e6, memory_hz=408e6)
IDLE_W = 1.9
PERIOD_S = 0.03
KINDS = ("Conv", "Conv", "Relu", "Conv", "Add", "MaxPool", "Conv", "Gemm")
NAMES = tuple(f"{kind.lower()}_{index}" for index, kind in enumerate(KINDS * 3))


@dataclass(frozen=True)
class Policy:
    """Which clocks each part runs at, how long a request takes [s], and at what power [W]."""

    name: str
    clocks: tuple[Clocks, ...]
    latency_s: float
    power_w: float
    wait_w: float = IDLE_W


PLAN = Policy("amble", (MIDDLE, SLOW, MIDDLE), 0.0225, 6.1)
MAX = Policy("maximum clocks", (FAST,), 0.0141, 13.2, 2.6)
BEST = Policy("best single clock", (MIDDLE,), 0.0213, 7.4)
GOVERNOR = Policy("schedutil", (FAST, MIDDLE), 0.0168, 11.4, 2.4)


def log(
    policy: Policy = PLAN, *, requests: int = 600, seed: int = 0, deadline_s: float = 0.028, traced: int = 8
) -> Log:
    """Serve requests 30 ms apart, one after the other, with 3 % noise and a heavy tail."""
    random = np.random.default_rng([seed, *policy.name.encode()])
    noise = 1 + 0.03 * random.standard_normal(requests) + 0.06 * (random.random(requests) < 0.01)
    work_s, arrivals_s = policy.latency_s * noise, 5.0 + PERIOD_S * np.arange(requests, dtype=np.float64)
    starts_s, finishes_s = _queue(arrivals_s, work_s)
    correct = random.random(requests) < 0.91
    served = tuple(
        Served(a, s, f, a + deadline_s, policy.power_w * (f - s), bool(right))
        for a, s, f, right in zip(
            arrivals_s.tolist(), starts_s.tolist(), finishes_s.tolist(), correct.tolist(), strict=True
        )
    )
    window_s = PERIOD_S * requests
    energy_j = policy.power_w * work_s.sum() + policy.wait_w * (window_s - work_s.sum())
    whole = Log(
        subject=Subject(network="resnet-small", digest="d1"),
        where=Where(device="sim:jetson-tx2", calibration="calibrated: 6.1 % median against recorded/tx2"),
        policy=policy.name,
        load="periodic:30ms:600",
        served=served,
        start_s=5.0,
        finish_s=5.0 + window_s,
        energy_j=float(energy_j),
        num_changes=requests * (len(policy.clocks) - 1),
    )
    return _traced(whole, policy, min(traced, requests))


def schedule(*, deadline: str = "28ms@p99") -> Schedule:
    """Return a plan for the network, with what its cost model says of the baselines."""
    each = Cost(PLAN.latency_s * 1.02 / len(NAMES), PLAN.power_w * PLAN.latency_s / len(NAMES))
    steps = tuple(
        Step(name, OperatingPoint(PLAN.clocks[3 * index // len(NAMES)]), each) for index, name in enumerate(NAMES)
    )
    return Schedule(
        subject=Subject(network="resnet-small", source="resnet-small.onnx", digest="d1", batch=1),
        where=Where(device="sim:jetson-tx2", calibration="calibrated: 6.1 % median against recorded/tx2"),
        deadline=Deadline.parse(deadline),
        period_s=PERIOD_S,
        accounting="period",
        margin=1.12,
        steps=steps,
        wait=WAIT,
        predicted=Cost(PLAN.latency_s * 1.02, predicted_j(PLAN) * 0.98),
        lower_bound_j=predicted_j(PLAN) * 0.98 * 0.9991,
        baselines=tuple(
            Baseline(each.name, Cost(each.latency_s * 1.02, predicted_j(each) * 0.98), True, _point(each), each.wait_w)
            for each in (MAX, BEST, GOVERNOR)
        ),
    )


def predicted_j(policy: Policy) -> float:
    """Return what one inference takes in a period without noise [J]."""
    return policy.power_w * policy.latency_s + policy.wait_w * (PERIOD_S - policy.latency_s)


def without_meter(whole: Log) -> Log:
    """Return the same run on a device that cannot tell its energy."""
    return replace(whole, energy_j=None, power=(), served=tuple(replace(each, energy_j=None) for each in whole.served))


def _point(policy: Policy) -> OperatingPoint | None:
    return OperatingPoint(policy.clocks[0]) if len(policy.clocks) == 1 else None


def _queue(arrivals_s: FloatArray, work_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    finishes_s, free_s = np.empty_like(arrivals_s), 0.0
    for index, (arrival_s, needed_s) in enumerate(zip(arrivals_s, work_s, strict=True)):
        free_s = finishes_s[index] = max(arrival_s, free_s) + needed_s
    return finishes_s - work_s, finishes_s


def _traced(whole: Log, policy: Policy, traced: int) -> Log:
    slices, changes, power = [], [], []
    cuts = np.linspace(0, len(NAMES), len(policy.clocks) + 1).astype(int).tolist()
    before: Clocks | None = None
    for index, each in enumerate(whole.served[:traced]):
        edges = [each.start_s + each.service_s * cut / len(NAMES) for cut in cuts]
        power.append(PowerSample(each.start_s, policy.power_w))
        power.append(PowerSample(each.finish_s, policy.wait_w))
        for part, clocks in enumerate(policy.clocks):
            if clocks != before:
                changes.append(ClockChange(edges[part], clocks, clocks))
            before = clocks
            slices.append(Slice(index, cuts[part], cuts[part + 1], edges[part], edges[part + 1], clocks))
    return replace(whole, slices=tuple(slices), changes=tuple(changes), power=tuple(power), traced=traced)


def profile() -> Profile:
    """Measure every operator and the whole at three clocks; time goes as 1 / clock, power up with it."""
    points = tuple(OperatingPoint(clocks) for clocks in (FAST, MIDDLE, SLOW))
    samples = tuple(
        _sample(name, point, (1 + index % 5) * 1e-4) for index, name in enumerate(NAMES) for point in points
    )
    return Profile(
        subject=Subject(network="resnet-small", source="resnet-small.onnx", digest="d1", batch=1),
        where=Where(device="sim:jetson-tx2", calibration="uncalibrated"),
        operators=NAMES,
        samples=samples,
        totals=tuple(_sample("", point, 0.01) for point in points),
        idle=(IdlePower(WAIT, IDLE_W), IdlePower(FAST, 2.6)),
        switches=(SwitchCost("core", Cost(1e-5, 5e-5), 3e-3),),
        points=points,
    )


def costs() -> Costs:
    """Return a cost table of the network over a grid of clocks."""
    grid = tuple(
        OperatingPoint(Clocks(core * 1e6, memory * 1e6))
        for memory in (800, 1331, 1866)
        for core in range(200, 1301, 100)
    )
    core_hz = np.array([point.clocks.core_hz or 0.0 for point in grid])
    memory_hz = np.array([point.clocks.memory_hz or 0.0 for point in grid])
    work = np.arange(1, len(NAMES) + 1)[:, None]
    latency_s = 4e4 * work / core_hz + 2e4 * (len(NAMES) + 1 - work) / memory_hz
    power_w = 2 + 3e-27 * core_hz**3 + 1e-9 * memory_hz
    return Costs(NAMES, CostTable(grid, latency_s, latency_s * power_w), "Costs of resnet-small")


def _sample(name: str, point: OperatingPoint, work_s: float) -> Sample:
    slower = (FAST.core_hz or 0.0) / (point.clocks.core_hz or 1.0)
    latency_s = work_s * slower
    return Sample(name, point, point.clocks, latency_s, latency_s * (3 + 9 / slower**2), 30, 0.02 * latency_s, 41.0)
