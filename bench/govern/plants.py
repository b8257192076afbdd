"""Plants and governed runs in virtual time, for the bench of ``amble govern`` and its tests.

Language models: the recorded table of one card under power limits, both phases. What it does not say is assumed, and
the same for every policy: idle power is 25 % of the least power, a request more in a step takes 1.5 % longer, and
prompt tokens that share a step take a quarter of the recorded time each. Networks: a simulated chip at 12 clocks.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from amble.core.log import Governed, Log
from amble.core.point import Clocks
from amble.runtimes import synthetic
from amble.services.govern.eyes import Eyes
from amble.services.govern.hands import Hands
from amble.services.govern.head import Head
from amble.services.govern.maps import recognise
from amble.services.govern.objective import Objective
from amble.services.govern.opening import NoRunner
from amble.services.govern.page import names_of
from amble.services.govern.rehearsal import Batcher, BatchingPlant, Engine, EnginePlant, device_of
from amble.services.govern.watching import Journal, Sight, govern

__all__ = ["Case", "Outcome", "chip_plant", "engine_plant", "governed", "held"]

_IDLE_SHARE, _MORE_SHARE, _PREFILL_SHARE = 0.25, 0.015, 0.25
Server = Engine | Batcher


@dataclass(frozen=True)
class Outcome:
    """What a run cost, and what was really late, by objective."""

    energy_j: float
    late: tuple[float, ...]
    finished: int
    changes: int
    log: Log | None = None
    answers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    """One server under one load. ``slowness``: [setting][objective], and ``draws``: [setting], as known before."""

    server: Callable[[], Server]
    objectives: tuple[Objective, ...]
    duration_s: float
    slowness: tuple[tuple[float, ...], ...]
    period_s: float = 1.0
    draws: tuple[float, ...] | None = None


@lru_cache
def engine_plant(data: Path, *, model: str = "qwen3.6-27b-q3", most: int = 12) -> EnginePlant:
    """Return the recorded card with both phases of a language model."""
    with gzip.open(data / "recorded" / "rtx3090-club-llm-cap.csv.gz", "rt") as file:
        rows = [each for each in csv.DictReader(file) if each["workload"].startswith(model)]
    phases = {phase: _phase(rows, phase) for phase in ("prefill", "decode")}
    caps = sorted(phases["prefill"].keys() & phases["decode"].keys(), reverse=True)
    caps = [caps[round(index * (len(caps) - 1) / (most - 1))] for index in range(most)]
    prefill, decode = (np.array([phases[each][cap] for cap in caps]) for each in ("prefill", "decode"))
    idle_w = np.full(len(caps), _IDLE_SHARE * min(prefill[:, 1].min(), decode[:, 1].min()))
    settings = tuple(Clocks(power_limit_w=cap) for cap in caps)
    more_s = _MORE_SHARE * decode[:, 0]
    return EnginePlant(
        settings, _PREFILL_SHARE * prefill[:, 0], decode[:, 0], more_s, prefill[:, 1], decode[:, 1], idle_w
    )


def _phase(rows: Sequence[dict[str, str]], phase: str) -> dict[float, tuple[float, float]]:
    found = [each for each in rows if each["kernel"].startswith(f"phase:{phase}")]
    kernels = sorted({each["kernel"] for each in found})
    return {
        float(each["power_limit_w"]): (float(each["latency_s"]), float(each["power_w"]))
        for each in found
        if each["kernel"] == kernels[0]
    }


@lru_cache
def chip_plant(chip: str, *, times: float = 20.0, max_batch: int = 8, most: int = 12) -> BatchingPlant:
    """Return a simulated chip that runs a made-up network, many times over a request, at some of its clocks."""
    from amble.core.point import OperatingPoint
    from amble.devices import simulated
    from amble.services.govern.hands import rungs

    device = simulated.open(chip, seed=1)
    settings = rungs(device.actuator.available(), most)
    latency_s, power_w = np.zeros((len(settings), max_batch)), np.zeros((len(settings), max_batch))
    idle_w = np.zeros(len(settings))
    for at, clocks in enumerate(settings):
        device.actuator.apply(clocks)
        device.clock.sleep(0.5)
        before = device.meter.read()
        device.clock.sleep(0.5)
        idle_w[at] = _known(device.meter.read().energy_j) / 0.5 - _known(before.energy_j) / 0.5
        for batch in range(1, max_batch + 1):
            graph = synthetic.chain(20, seed=0, batch=batch)
            whole = device.runner.profile(graph, OperatingPoint(clocks), 3).whole
            latency_s[at, batch - 1] = times * whole.latency_s
            power_w[at, batch - 1] = _known(whole.energy_j) / whole.latency_s
    return BatchingPlant(settings, latency_s, power_w, idle_w)


def held(case: Case, setting: int = 0) -> Outcome:
    """Run a case at one setting from the beginning to the end."""
    server = case.server()
    server.apply(server.plant.settings[setting])
    server.sleep(case.duration_s)
    return _outcome(server, case, None)


def governed(
    case: Case,
    *,
    control: float = 0.0,
    seed: int = 0,
    head: Callable[[Head], Any] | None = None,
    server: Server | None = None,
) -> Outcome:
    """Run a case under ``amble govern``, or under another ``head`` in its place."""
    server = server or case.server()
    text = server.page()
    eyes = Eyes.open(recognise(names_of(text)), case.objectives, text)
    mind = Head(
        case.objectives, eyes.edges_s, eyes.judged_s, case.slowness, case.period_s, control, seed, draws=case.draws
    )
    hands = Hands([device_of(server, NoRunner())], server.plant.settings)
    about = Governed(
        "rehearsed",
        tuple(map(str, case.objectives)),
        eyes.edges_s,
        eyes.judged_s,
        server.plant.settings,
        case.slowness,
        case.period_s,
        control,
        seed,
        hands.found,
    )
    journal = Journal(about, "rehearsed", "rehearsed", None, 60.0)
    govern(
        [Sight(server.page, eyes)],
        [mind if head is None else head(mind)],
        hands,
        server,
        until=lambda now_s: now_s >= case.duration_s,
        journals=[journal],
    )
    return _outcome(server, case, journal.log(hands.changes))


def _known(energy_j: float | None) -> float:
    assert energy_j is not None, "simulated devices have a meter"
    return energy_j


def _outcome(server: Server, case: Case, log: Log | None) -> Outcome:
    late = tuple(server.tallies[each.kind].late / max(1, server.tallies[each.kind].total) for each in case.objectives)
    answers = tuple(server.tallies[each.kind].total for each in case.objectives)
    return Outcome(_known(server.read().energy_j), late, server.finished, server.changes, log, answers)
