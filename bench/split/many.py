"""Devices that share one link and one server, against the exact optimum.

Devices are the simulated board with one of the networks with few cuts and a deadline of its own. What each may do (a
cut, its clocks, a share of the link, the server's time) is priced once; who does what is then chosen by `sharing`, by
trying every combination where devices are few, and by HiGHS as a knapsack with classes where they are many. Beside it
stands what they would need of link and server if each chose as if alone (`selfish`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import scipy.optimize

from amble.core.errors import Infeasible
from amble.levers.split.link import Link
from amble.levers.split.sharing import Option, options, share
from bench.split.problems import RADIO, Thinned, case, ladder, question, top_s

__all__ = ["shared"]

Record = dict[str, Any]

UNITS = 32
NAMES = ("alexnet", "vgg19")
LOOSE = (1.5, 2.0, 3.0)
FEW, MANY = (2, 3), 16
MOST_TRIED = 400_000


def shared(rates: Sequence[float], draws: int) -> Iterator[Record]:
    """Share links of these rates among few and many devices."""
    for rate in rates:
        kinds = [_options(name, loose, rate) for name, loose in product(NAMES, LOOSE)]
        known = [each for each in kinds if each is not None]
        rng = np.random.default_rng(1)
        for count in (*FEW, MANY) if known else ():
            for _ in range(draws):
                devices = [known[at] for at in rng.integers(0, len(known), count)]
                for most_busy in (0.15, 1.0):
                    yield _record(devices, rate, most_busy)


def _options(name: str, loose: float, rate: float) -> tuple[Option, ...] | None:
    of = case(name)
    if of is None:
        return None
    costs = Thinned(of.costs, of.costs.table(of.graph), ladder(of, 8, 2))
    asked = question(of, costs, loose * top_s(of))
    return options(asked, Link(rate, 0.005, RADIO), UNITS)


def _record(devices: list[tuple[Option, ...]], rate: float, most_busy: float) -> Record:
    start_s = time.process_time()
    try:
        found = share(devices, UNITS, most_busy)
    except Infeasible:
        found = None
    shared_s = time.process_time() - start_s
    combinations = float(np.prod([float(len(each)) for each in devices]))
    enumerated = combinations <= MOST_TRIED
    exact_j = _tried(devices, most_busy) if enumerated else _by_highs(devices, most_busy)
    selfish = [min(each, key=lambda of: of.energy_j) for each in devices]
    both_none = found is None and np.isinf(exact_j)
    local = [[each.energy_j for each in of if not each.units] for of in devices]
    return {
        "what": "sharing",
        "devices": len(devices),
        "rate_bit_s": rate,
        "most_busy": most_busy,
        "options": sum(map(len, devices)),
        "exact": "every combination" if enumerated else "HiGHS",
        "shared_s": shared_s,
        "energy_j": None if found is None else found.energy_j,
        "exact_j": exact_j,
        "off": 0.0 if both_none else np.inf if found is None else found.energy_j / exact_j - 1,
        "gap": None if found is None else 1 - found.bound_j / found.energy_j,
        "remote": None if found is None else sum(each.units > 0 for each in found.chosen),
        "selfish_units": sum(each.units for each in selfish) / UNITS,
        "selfish_busy": sum(each.busy for each in selfish),
        "local_j": sum(each[0] for each in local) if all(local) else None,
    }


def _tried(devices: list[tuple[Option, ...]], most_busy: float) -> float:
    """Return the least energy of every combination, all at once: [option of the first, of the second, ...]."""
    shape = [len(each) for each in devices]
    totals = [np.zeros(shape) for _ in range(3)]
    for axis, of in enumerate(devices):
        along = [1] * len(devices)
        along[axis] = len(of)
        for total, values in zip(
            totals, zip(*((each.units, each.busy, each.energy_j) for each in of), strict=True), strict=True
        ):
            total += np.array(values).reshape(along)
    units, busy, energy_j = totals
    return float(energy_j[(units <= UNITS) & (busy <= most_busy + 1e-12)].min(initial=np.inf))


def _by_highs(devices: list[tuple[Option, ...]], most_busy: float) -> float:
    every = [each for of in devices for each in of]
    owner = np.repeat(np.arange(len(devices)), [len(of) for of in devices])
    one = (owner[None, :] == np.arange(len(devices))[:, None]).astype(float)
    used = np.array([[each.units for each in every], [each.busy for each in every]], dtype=np.float64)
    answer = scipy.optimize.milp(
        np.array([each.energy_j for each in every]),
        integrality=np.ones(len(every)),
        bounds=scipy.optimize.Bounds(0, 1),
        constraints=[
            scipy.optimize.LinearConstraint(one, 1.0, 1.0),
            scipy.optimize.LinearConstraint(used, -np.inf, [UNITS, most_busy]),
        ],
        options={"mip_rel_gap": 0.0, "time_limit": 60.0},
    )
    return float(answer.fun) if answer.status == 0 else float("inf")
