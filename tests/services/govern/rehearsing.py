"""A small rehearsed server, governed, for the tests: 6 clocks, power as their cube, 10 ms a request at the fastest."""

import numpy as np

from amble.core.log import Governed
from amble.core.point import Clocks
from amble.services.govern.eyes import Eyes
from amble.services.govern.hands import Hands, slowness
from amble.services.govern.head import Head
from amble.services.govern.maps import recognise
from amble.services.govern.objective import Objective
from amble.services.govern.opening import NoRunner
from amble.services.govern.page import names_of
from amble.services.govern.rehearsal import Batcher, BatchingPlant, Requests, device_of
from amble.services.govern.watching import Journal, Sight, govern

SPEEDS = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
SETTINGS = tuple(Clocks(core_hz=1e9 * speed) for speed in SPEEDS)
OBJECTIVES = (Objective.parse("latency p99 < 100ms"),)


def plant(idle=True):
    latency_s = 0.01 / SPEEDS[:, None] * (1.0 + 0.4 * np.arange(4))
    power_w = 20.0 + 80.0 * SPEEDS[:, None] ** 3 * np.ones(4)
    idle_w = 10.0 + (10.0 * SPEEDS**2 if idle else 0.0 * SPEEDS)
    return BatchingPlant(SETTINGS, latency_s, power_w, idle_w)


def poisson(rate_hz, duration_s, seed=0):
    random = np.random.default_rng(seed)
    return np.cumsum(random.exponential(1.0 / rate_hz, int(1.3 * rate_hz * duration_s) + 50))


def a_server(rate_hz=20.0, duration_s=300.0, seed=0, times_s=None):
    times_s = poisson(rate_hz, duration_s, seed) if times_s is None else times_s
    return Batcher(plant(), Requests.plain(times_s), OBJECTIVES)


def a_head(eyes, objectives=OBJECTIVES, **options):
    return Head(objectives, eyes.edges_s, eyes.judged_s, slowness(SETTINGS, len(objectives)), **options)


def governed(
    server,
    duration_s,
    *,
    fetch=None,
    objectives=OBJECTIVES,
    acts=True,
    path=None,
    every_s=60.0,
    device=None,
    floor=lambda: 0,
    lapsed=lambda: False,
    on_period=lambda told: None,
    **options,
):
    """Govern a rehearsed server, and return its log and the head."""
    eyes = Eyes.open(recognise(names_of(server.page())), objectives, server.page())
    head = a_head(eyes, objectives, **options)
    hands = Hands([device or device_of(server, NoRunner())], SETTINGS, acts=acts)
    hands.floor, hands.lapsed = floor, lapsed
    about = Governed(
        "rehearsed",
        tuple(map(str, objectives)),
        eyes.edges_s,
        eyes.judged_s,
        SETTINGS,
        head.slowness,
        head.period_s,
        head.control,
        head.seed,
        hands.found,
        acts=acts,
    )
    journal = Journal(about, "rehearsed", "rehearsed", path, every_s)
    govern(
        [Sight(fetch or server.page, eyes)],
        [head],
        hands,
        server,
        until=lambda now_s: now_s >= duration_s,
        journals=[journal],
        on_period=on_period,
    )
    return journal.log(hands.changes), head
