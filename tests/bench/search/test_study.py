"""What the bench hands to HiGHS is the problem that the search solves."""

import os
import sys

import numpy as np
import pytest
import scipy.optimize

_THREADS, _CORES = dict(os.environ), os.sched_getaffinity(0) if sys.platform == "linux" else set()
from bench.search import study as search  # noqa: E402  # keeps its process on one core, as a bench should: put back here

os.environ.update(_THREADS)
if sys.platform == "linux":
    os.sched_setaffinity(0, _CORES)

from amble.stages.plan.search import solve  # noqa: E402


@pytest.mark.parametrize("stalls", list(search.STALLS_S))
@pytest.mark.parametrize("seed", [1, 2])
def test_the_relaxation_with_whole_shares_is_the_problem_itself(stalls: str, seed: int) -> None:
    trellis, _, budget_s = search.Case(seed, 6, 4, 3, stalls, "medium").made()
    model = search.relaxation(trellis, budget_s)
    relaxed = scipy.optimize.linprog(**model)
    shares = trellis.latency_s.size
    whole = scipy.optimize.linprog(**{**model, "method": "highs"}, integrality=np.arange(len(model["c"])) < shares)
    exact = solve(trellis, budget_s, exact=True)
    assert relaxed.fun <= whole.fun * (1 + 1e-9)
    assert exact.energy_j == pytest.approx(whole.fun, rel=1e-6)


def test_a_pass_through_memory_is_reported_and_ratios_are_promised() -> None:
    case = [("tight", 1)]
    records = search.large(cases=case, repeats=1, dense=False, relaxed_s=dict.fromkeys(search.STALLS_S, (100.0, True)))
    assert all(0 < float(str(record["pass_s"])) < float(str(record["time_p50_s"])) for record in records)
    made = {each.target: each for each in search.targets(records)}
    found = made["faster than the relaxation by HiGHS, 1000 x 150, domains, switching free, worst case"]
    times_s = [float(str(each["time_p50_s"])) for each in records if each["switching"] == "free"]
    assert found.want == ">= 50"
    assert found.value == pytest.approx(100.0 / times_s[0])


@pytest.mark.parametrize(("relaxed", "tells"), [((1000.0, False), True), ((1e-6, False), False), ((1e-6, True), True)])
def test_a_relaxation_that_was_stopped_too_early_tells_nothing(relaxed: tuple[float, bool], tells: bool) -> None:
    records = search.large(cases=[("tight", 1)], repeats=1, dense=False, relaxed_s={"free": relaxed})
    found = [record["times_faster"] for record in records if record["switching"] == "free"]
    assert [each is not None for each in found] == [tells] * len(found)
