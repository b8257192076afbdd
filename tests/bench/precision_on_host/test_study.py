"""What a governor holds is judged from records; with a budget that binds INT8 cannot be all there is."""

from __future__ import annotations

import pytest

from amble.stages.plan.ladder import build
from bench.precision_on_host import study as bench


def steps(governor: str, *held: bool, clock: str = "cpu") -> list[dict[str, object]]:
    about = {"clock": clock, "governor": governor, "speedup": 2.0, "right": 99, "fp32_right": 100}
    return [{**about, "rate_hz": 10.0 * (index + 1), "held": each} for index, each in enumerate(held)]


def test_rates_are_compared_on_the_same_clock_with_the_speed_up_of_the_records() -> None:
    records = [*steps("max", True, False), *steps("amble", True, True, True), *steps("amble", True, clock="wall")]
    found = {each.target: each.value for each in bench.goals(records)}
    assert found == {
        "rate held over s x FP32's, amble, cpu clock": pytest.approx(1.5),
        "accuracy over FP32's, amble, cpu clock": pytest.approx(0.99),
    }


def test_a_step_above_one_that_was_not_held_counts_for_nothing() -> None:
    assert bench.held_hz(steps("amble", True, False, True)) == 10.0


def test_one_governor_may_lose_only_half_of_what_int8_is_stated_to_lose() -> None:
    rungs = [bench.rung("fp32", 0.004, 1.0), bench.rung("int8", 0.002, 0.998)]
    found = bench.governors(bench.Bench("cpu", None, build(rungs, graph="n", device="host"), 0.004, 0.018))  # type: ignore[arg-type]
    assert list(found) == list(bench.GOVERNORS)
    assert found["amble-bound"].budget.allowed == pytest.approx(0.001)  # type: ignore[attr-defined]
    assert found["amble"].budget.allowed > 0.002  # type: ignore[attr-defined]
