"""Runs of `amble govern` in virtual time that are no cells: the proof against the truth, faults, cold starts, idling.

Each gives records of the bench, whose ``part`` names them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from amble.core.log import Log, Period
from amble.core.ports import FloatArray
from amble.services.govern.hands import slowness
from amble.services.govern.objective import Objective
from amble.services.govern.proof import compared, prove
from amble.services.govern.rehearsal import Batcher, BatchingPlant, Requests
from bench.govern.faults import injected
from bench.govern.plants import Case, chip_plant, governed
from bench.govern.traffic import poisson

__all__ = ["cold", "faults", "loaded_idle", "proofs", "truth"]

Record = dict[str, Any]
_FINE = tuple(round(0.001 * 1.01**step, 9) for step in range(600))


def proofs(seeds: Iterable[int]) -> list[Record]:
    """Return for every seed the saving that the report states, its interval, and the truth, which is known here."""
    plant = chip_plant("v100", times=200.0)
    found: list[Record] = []
    for seed in seeds:
        requests = Requests.plain(poisson(0.3 * _capacity_hz(plant), 1200.0, seed))
        case = _batching(plant, requests, "latency p99 < 3s", 1200.0)
        log = governed(case, control=0.1, seed=seed).log
        assert log is not None, "a governed run"
        found.append({"part": "proof", "seed": seed, **_stated(case, log)})
    return found


def faults(seeds: Iterable[int], duration_s: float = 320.0) -> list[Record]:
    """Return for every seed how many faults there were, after how many the clocks were not as found, and the saving."""
    plant = chip_plant("v100", times=100.0)
    found: list[Record] = []
    for seed in seeds:
        requests = Requests.plain(poisson(0.3 * _capacity_hz(plant), duration_s, seed))
        case = _batching(plant, requests, "latency p99 < 1.6s", duration_s)
        done = injected(case, seed, control=0.35, gap_s=2.0)
        assert done.log is not None, "a governed run"
        kinds = {f"of_{kind}": count for kind, count in sorted(done.counts.items())}
        wrong = "; ".join(f"{kind} after {after_s:.1f} s" for kind, after_s in done.wrong)
        told = {"faults": done.count, "not_as_found": len(done.wrong), "wrong": wrong, **kinds}
        found.append({"part": "faults", "seed": seed, **told, **_stated(case, done.log)})
    return found


def _stated(case: Case, log: Log) -> Record:
    """Return the saving that a log proves beside the truth; a false one is proved where there is none."""
    true, saving = truth(case, log), prove(log).saving
    if saving is None or saving.low is None or saving.high is None:
        return {"truth": true, "saving": None, "low": None, "high": None, "held": None, "false": False}
    held, false = bool(saving.low <= true <= saving.high), bool(saving.low > 0.0 >= true)
    return {
        "truth": true, "saving": saving.value, "low": saving.low, "high": saving.high, "held": held, "false": false,
    }  # fmt: skip


def truth(case: Case, log: Log) -> float:
    """Return the true saving in the periods that the report is about: the same arrivals in them at maximum clocks."""
    about = {each.start_s for each in compared(log)[0]}
    server, mine_j, theirs_j = case.server(), 0.0, 0.0
    for each in log.periods:
        before = server.read()
        server.sleep(max(0.0, each.finish_s - before.time_s))
        if each.start_s in about and each.energy_j is not None:
            mine_j += each.energy_j
            theirs_j += (server.read().energy_j or 0.0) - (before.energy_j or 0.0)
    return 1.0 - mine_j / theirs_j if theirs_j else 0.0


def cold(load: float, duration_s: float, seed: int) -> list[Record]:
    """Return the energy of the second third over that of the last, from nothing, the same arrivals in each third."""
    plant, third_s = chip_plant("v100"), duration_s / 3.0
    times_s = poisson(load * _capacity_hz(plant), third_s, seed)
    times_s = times_s[times_s < third_s]
    requests = Requests.plain(np.concatenate([times_s + at * third_s for at in range(3)]))
    outcome = governed(replace(_batching(plant, requests, "latency p99 < 264.698ms", duration_s), period_s=0.25))
    assert outcome.log is not None, "a governed run"
    parts_j = [
        sum(each.energy_j or 0.0 for each in outcome.log.periods if at * third_s <= each.start_s < (at + 1) * third_s)
        for at in range(3)
    ]
    first = [each for each in outcome.log.periods if each.start_s < 60.0]
    return [
        {
            "part": "cold", "load": load, "second_over_last": parts_j[1] / parts_j[2], "late": max(outcome.late),
            "late_first_minute": _late(first, 0.264698, outcome.log),
        }
    ]  # fmt: skip


def _late(periods: Sequence[Period], limit_s: float, log: Log) -> float:
    assert log.governed is not None, "a log of a watcher"
    within = bisect_left(log.governed.edges_s[0], limit_s * (1.0 + 1e-9))
    late = sum(sum(each.counts[0][within:]) for each in periods)
    return late / max(1.0, sum(sum(each.counts[0]) for each in periods))


def loaded_idle(load: float, duration_s: float, seed: int) -> list[Record]:
    """Return mean power and 95th percentile as found and governed, on bursts of 5 s in every 30 s.

    The server's histogram is fine here, and the objective is a tenth above the percentile as found.
    """
    plant = chip_plant("v100")
    times_s = poisson(load * _capacity_hz(plant), duration_s, seed)
    requests = Requests.plain(times_s[times_s % 30.0 < 5.0])
    case = _batching(plant, requests, "latency p95 < 1s", duration_s)
    found = _fine(case)
    found.sleep(duration_s)
    found_s = _p95_s(found)
    limit_s = max(edge_s for edge_s in _FINE if edge_s <= 1.1 * found_s)
    case = replace(_batching(plant, requests, f"latency p95 < {1e3 * limit_s:.6f}ms", duration_s), period_s=0.25)
    server = _fine(case)
    governed(case, server=server, head=lambda head: replace(head, extra=0.02))
    idle_w = [_idle_w(plant, at) for at in (0, -1)]
    return [
        {
            "part": "loaded idle", "load": load, "power_w": _power_w(server), "power_as_found_w": _power_w(found),
            "saved": 1.0 - _power_w(server) / _power_w(found), "p95_longer": _p95_s(server) / found_s - 1.0,
            "least_idle_saves": 1.0 - idle_w[1] / idle_w[0],
        }
    ]  # fmt: skip


def _fine(case: Case) -> Batcher:
    server = case.server()
    assert isinstance(server, Batcher), "a batching server"
    tally = server.tallies["latency"]
    tally.edges_s, tally.counts = _FINE, [0] * (len(_FINE) + 1)
    return server


def _p95_s(server: Batcher) -> float:
    tally = server.tallies["latency"]
    at = int(np.searchsorted(np.cumsum(tally.counts), 0.95 * tally.total))
    return float(tally.edges_s[min(at, len(tally.edges_s) - 1)])


def _power_w(server: Batcher) -> float:
    reading = server.read()
    assert reading.energy_j is not None, "rehearsed servers have a meter"
    return reading.energy_j / reading.time_s


def _idle_w(plant: BatchingPlant, at: int) -> float:
    idle_w: FloatArray = plant.idle_w
    return float(idle_w[at])


def _capacity_hz(plant: BatchingPlant) -> float:
    return float(plant.latency_s.shape[1] / plant.latency_s[0, -1])


def _batching(plant: BatchingPlant, requests: Requests, objective: str, duration_s: float) -> Case:
    wanted = (Objective.parse(objective),)
    return Case(lambda: Batcher(plant, requests, wanted), wanted, duration_s, slowness(plant.settings, 1))
