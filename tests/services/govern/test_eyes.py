"""What happened between two pages, and which pages are not to be trusted."""

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.services.govern.buckets import Buckets, judged_at
from amble.services.govern.eyes import Eyes, Memory
from amble.services.govern.maps import recognise
from amble.services.govern.objective import Objective

OBJECTIVE = Objective.parse("latency p99 < 100ms")


def page(counts=(0, 0, 0), finished=None, waiting=0, name="amble_request_duration_seconds", value=None):
    below = np.cumsum(counts).tolist()
    if value is not None:
        below[0] = value
    edges = zip(("0.05", "0.1", "+Inf"), below, strict=True)
    return "\n".join(
        [
            "amble_build_info 1",
            f"nv_inference_pending_request_count {waiting}",
            f"amble_requests_total {sum(counts) if finished is None else finished}",
            *(f'{name}_bucket{{le="{edge}"}} {count}' for edge, count in edges),
        ]
    )


def eyes():
    text = page()
    return Eyes.open(recognise(["amble_build_info"]), (OBJECTIVE,), text)


def looks(*pages):
    memory, found = Memory(), []
    for at, text in enumerate(pages):
        memory, look = eyes().look(memory, text, float(at))
        found.append(look)
    return found


def test_differences_of_buckets_are_what_came():
    *_, last = looks(page((1, 0, 0)), page((4, 2, 1)))
    assert last.counts == ((3.0, 2.0, 1.0),)
    assert (last.finished, last.span_s, last.usable) == (6.0, 1.0, True)


def test_arrivals_are_answers_and_what_waits_more_where_nobody_counts_them():
    *_, last = looks(page((1, 0, 0), waiting=2), page((4, 0, 0), waiting=5))
    assert last.arrivals == 6.0


def test_a_restarted_server_is_seen_and_its_new_counts_are_taken_from_zero():
    *_, last = looks(page((9, 1, 0)), page((2, 0, 0)))
    assert "restarted" in last.note
    assert not last.usable
    assert last.counts == ((2.0, 0.0, 0.0),)


def test_a_histogram_that_is_renamed_away_is_seen():
    *_, last = looks(page((1, 0, 0)), page((4, 0, 0), name="something_else"))
    assert not last.usable
    assert "is gone" in last.note


def test_a_bucket_that_is_not_a_number_is_seen():
    *_, last = looks(page((1, 0, 0)), page((4, 0, 0), value="NaN"))
    assert not last.usable


def test_a_damaged_page_is_seen():
    *_, last = looks(page((1, 0, 0)), 'amble_requests_total{x="} 1')
    assert not last.usable
    assert "cannot be read" in last.note


def test_a_page_that_stands_still_while_requests_wait_is_stale():
    still = page((1, 0, 0), waiting=1)
    assert [look.usable for look in looks(still, page((2, 0, 0), waiting=1), *[page((2, 0, 0), waiting=1)] * 2)] == [
        False,
        True,
        True,
        False,
    ]


DAMAGED = 'amble_requests_total{x="} 1'


@pytest.mark.parametrize("bad", [page((4, 0, 0), name="something_else"), page((4, 0, 0), value="NaN"), DAMAGED])
def test_after_a_page_that_cannot_be_trusted_counting_begins_anew(bad):
    found = looks(page((1, 0, 0)), bad, page((90, 0, 0)), page((93, 0, 0)))
    assert [each.usable for each in found] == [False, False, False, True]
    assert found[-1].counts == ((3.0, 0.0, 0.0),)


def test_what_came_while_a_page_stood_still_is_not_taken_for_one_period():
    still = page((2, 0, 0), waiting=1)
    *_, thawed, after = looks(page((1, 0, 0), waiting=1), *[still] * 4, page((80, 0, 0)), page((83, 0, 0)))
    assert not thawed.usable
    assert after.usable
    assert after.counts == ((3.0, 0.0, 0.0),)


def test_a_page_that_stands_still_without_requests_is_idleness():
    assert all(look.usable for look in looks(page(), *[page()] * 5)[1:])


def test_percentiles_are_intervals_that_hold_the_truth():
    random = np.random.default_rng(3)
    edges = tuple(0.001 * 1.3**step for step in range(30))
    held = 0
    for _ in range(100):
        latencies = random.lognormal(-3.0, 0.6, 400)
        counts = np.histogram(latencies, [0.0, *edges, np.inf])[0]
        found = Buckets(edges, tuple(map(float, counts))).percentile(0.9)
        held += found.low_s <= np.exp(-3.0 + 0.6 * 1.2816) <= found.high_s
    assert held >= 93


def test_few_requests_leave_the_tail_open():
    found = Buckets((0.1, 0.2), (10.0, 0.0, 0.0)).percentile(0.99)
    assert (found.low_s, found.high_s) == (0.0, float("inf"))
    assert Buckets((0.1,), (0.0, 0.0)).percentile(0.5) is None


def test_an_objective_is_judged_at_the_edge_below_its_limit():
    assert judged_at((0.05, 0.1, 0.2), Objective.parse("latency p99 < 150ms")) == 0.1
    counts = Buckets((0.05, 0.1, 0.2), (5.0, 4.0, 3.0, 2.0))
    assert counts.over(0.1) == 5.0


@pytest.mark.parametrize("limit", ["4ms", "900ms"])
def test_an_objective_between_coarse_buckets_is_refused_with_those_that_can_be_judged(limit):
    with pytest.raises(Refused, match=r"too coarse.*p99 < "):
        judged_at((0.005, 0.01, 0.1, 10.0), Objective.parse(f"latency p99 < {limit}"))


@pytest.mark.parametrize(
    "text", ["latency < 40ms", "latency p99 < 40", "speed p99 < 4ms", "latency p100 < 4ms", "ttft p99 < 4 parsecs"]
)
def test_what_is_no_objective_is_refused(text):
    with pytest.raises(Refused, match="--slo"):
        Objective.parse(text)
