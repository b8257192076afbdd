"""Who may make half a percent of the answers late comes near to the least CPU quota that keeps a 99th percentile."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from amble.core.cost import Reading
from amble.devices.quota import QuotaActuator
from amble.services.govern.eyes import Eyes
from amble.services.govern.hands import Hands, rungs, slowness
from amble.services.govern.head import Head
from amble.services.govern.maps import recognise
from amble.services.govern.objective import Objective
from amble.services.govern.opening import NoRunner
from amble.services.govern.page import names_of
from amble.services.govern.rehearsal import Batcher, BatchingPlant, Requests, device_of
from amble.services.govern.watching import Journal, Sight, govern
from tests.services.govern.rehearsing import poisson

WORK_S, RATE_HZ, LIMIT_S, LASTS_S = 0.02, 15.0, 0.10842, 300.0
TIMES_S = poisson(RATE_HZ, LASTS_S)
OBJECTIVES = (Objective.parse(f"latency p99 < {1e3 * LIMIT_S}ms"),)


class Unmetered:
    """Tells the time and no energy, as a quota does."""

    def __init__(self, server):
        self._server = server

    def read(self):
        return Reading(self._server.read().time_s, None)


def late_at(share: float) -> float:
    """Return which share is late at a quota that is never changed: one worker, first come first served."""
    work_s, free_s, late, times_s = WORK_S / min(1.0, share), 0.0, 0, TIMES_S[TIMES_S < LASTS_S]
    for time_s in times_s:
        free_s = max(free_s, time_s) + work_s
        late += free_s - time_s > LIMIT_S
    return late / len(times_s)


def course(extra: float, times_s=TIMES_S):
    """Govern a server of one worker on two CPUs from nothing; return shares by period, and which share was late."""
    settings = rungs(QuotaActuator(Path("/nowhere"), 2).available())
    work_s = WORK_S / np.minimum(1.0, [[each.cpu_share] for each in settings])
    plant = BatchingPlant(settings, work_s, np.ones_like(work_s), np.ones(len(settings)))
    server = Batcher(plant, Requests.plain(times_s), OBJECTIVES)
    eyes = Eyes.open(recognise(names_of(server.page())), OBJECTIVES, server.page())
    head = Head(OBJECTIVES, eyes.edges_s, eyes.judged_s, slowness(settings, 1), control=0.0, extra=extra)
    hands = Hands([replace(device_of(server, NoRunner()), meter=Unmetered(server))], settings)
    shares: list[float] = []
    govern(
        [Sight(server.page, eyes)],
        [head],
        hands,
        server,
        until=lambda now_s: now_s >= LASTS_S,
        journals=[Journal(None, "rehearsed", "rehearsed", None, 1e9)],
        on_period=lambda told: shares.append(told.period.asked.cpu_share or 2.0),
    )
    tally = server.tallies["latency"]
    return shares, tally.late / tally.total, tally.total


def test_half_a_percent_late_by_leave_comes_near_to_the_least_quota_and_keeps_the_objective():
    least = next(step / 20 for step in range(4, 21) if late_at(step / 20) <= 0.01)
    shares, late, answers = course(0.005)
    settled = float(np.mean(shares[120:]))
    strict = float(np.mean(course(0.001)[0][120:]))
    assert late <= 0.01 + 1.96 * (0.01 * 0.99 / answers) ** 0.5
    assert settled <= 1.3 * least
    assert settled < strict


def test_five_times_as_many_requests_get_the_whole_machine_within_two_periods():
    burst = 200.0 + poisson(5.0 * RATE_HZ, 10.0, seed=1)
    times_s = np.sort(np.concatenate([TIMES_S, burst[burst < 210.0]]))
    shares, _, _ = course(0.005, times_s)
    assert max(shares[195:200]) < 2.0
    assert 2.0 in shares[200:204]


def test_shares_are_apart_by_one_ratio_with_both_ends():
    shares = [each.cpu_share for each in rungs(QuotaActuator(Path("/nowhere"), 2).available())]
    assert shares[0] == 2.0
    assert shares[-1] == 0.2
    assert all(1.12 < high / low < 1.27 for high, low in pairwise(shares))
    assert shares[1] == pytest.approx(1.75)
