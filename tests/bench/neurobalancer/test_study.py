"""The bench's figures are of the right things: savings by chip and baseline, lateness of all requests, gaps by case."""

import pytest

from amble.core.schedule import Deadline
from amble.devices.simulated.chip import chips
from amble.stages.plan import clocks
from bench.neurobalancer import study as bench
from tests.stages.plan.test_clocks import made_up


def row(policy: str, saves: float, **fields: object) -> dict[str, object]:
    return {"network": "n", "chip": "jetson-tx2", "calibrated": True, "factor": 1.5, "policy": policy, "late": 0.0,
            "amble_saves": saves, "gap": None, **fields}  # fmt: skip


def test_averages_stand_beside_maxima() -> None:
    rows = [row("amble", 0.0), row("sysscale", 0.1), row("sysscale", 0.3, factor=2.0, late=0.5)]
    (found,) = bench.averages(rows, ["jetson-tx2", "snapdragon-phone-cpu"])
    assert (found["max"], found["mean"], found["min"]) == pytest.approx((0.3, 0.2, 0.1))
    assert (found["max_at"], found["late"], found["cases"]) == ("n x 2.0", 0.25, 2)


def test_each_chip_has_the_published_figures_of_its_kind() -> None:
    rows = [row("simple_ondemand", 0.22), row("sysscale", 0.1)]
    found = list(bench.saving_targets(list(bench.averages(rows, ["jetson-tx2"])), ["jetson-tx2"]))
    assert [(each.want, each.met) for each in found] == [(">= 0.211", True), (">= 0.186", False)]
    cpu = list(bench.saving_targets([], ["snapdragon-phone-cpu"]))
    assert [(each.want, each.met) for each in cpu] == [(">= 0.439", None), (">= 0.421", None)]


def test_the_worst_gap_of_a_case_counts_and_a_missing_network_is_a_miss() -> None:
    rows = [row("exact optimum", 0.0, gap=0.001), row("exact optimum", 0.0, gap=0.02)]
    found = list(bench.gap_targets(rows, ["n", "absent"], ["jetson-tx2"]))
    assert [each.met for each in found] == [False, None]


def test_late_requests_are_counted_over_all_cases() -> None:
    rows = [{"policy": "amble, punctual", "requests": 60_000, "late": 0.001},
            {"policy": "amble, punctual", "requests": 60_000, "late": 0.0},
            {"policy": "amble", "requests": 60_000, "late": 0.5}]  # fmt: skip
    share, count = bench.late_targets(rows, [])
    assert share.value == pytest.approx(0.0005)
    assert count.met
    assert [each.met for each in bench.late_targets(rows, ["vgg16"])] == [None, None]


def test_requests_come_one_period_apart() -> None:
    graph, costs = made_up()
    asked = bench.requests(clocks.fastest(graph, costs, Deadline(0.5)), 3)
    assert asked.arrivals_s.tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert (asked.deadline_s, asked.period_s) == (0.5, 0.5)


def test_the_chips_named_exist_and_seeds_differ() -> None:
    assert set(bench.CHIPS) <= set(chips())
    assert len({bench.SEED_MEASURED, bench.SEED_REHEARSED, bench.SEED_REHEARSED + 1, bench.SEED_TESTED}) == 4
