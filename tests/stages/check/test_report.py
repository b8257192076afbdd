from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.log import Log
from amble.core.point import Clocks
from amble.core.report import Report
from amble.core.schedule import Deadline
from amble.core.subject import Where
from amble.stages.check.report import assess, clocks_of
from tests.stages.check.builders import (
    BEST,
    GOVERNOR,
    IDLE_W,
    MAX,
    PERIOD_S,
    PLAN,
    SLOW,
    Policy,
    log,
    predicted_j,
    schedule,
    without_meter,
)

ALL = (PLAN, MAX, BEST, GOVERNOR)


def report(*policies: Policy, requests: int = 600, idle_w: float | None = IDLE_W) -> Report:
    return assess([log(each, requests=requests) for each in policies or ALL], schedule(), idle_w=idle_w)


def with_late(count: int, requests: int) -> Log:
    """Return a run in which exactly so many answers are late."""
    whole = log(requests=requests)
    served = tuple(
        replace(each, deadline_s=each.finish_s + (-0.001 if index < count else 0.001))
        for index, each in enumerate(whole.served)
    )
    return replace(whole, served=served)


def test_a_run_without_late_answers_passes_for_certain() -> None:
    found = report()
    assert found.verdict == "PASS"
    assert found.checked.certain
    assert "no answer of 600 was late" in found.checked.reasons[0]


@pytest.mark.parametrize(
    ("late", "requests", "verdict", "certain"),
    [
        (0, 299, "PASS", True),
        (0, 298, "INCONCLUSIVE", False),
        (1, 50, "INCONCLUSIVE", False),  # 2 % late, and chance could have done it
        (10, 50, "FAIL", True),
        (10, 1000, "PASS", False),
        (11, 1000, "FAIL", False),
        (40, 1000, "FAIL", True),
        (1, 1000, "PASS", True),
        (5, 1000, "PASS", False),
        (4, 1000, "PASS", True),
    ],
)
def test_the_verdict_follows_the_late_ones_once_there_are_enough(
    late: int, requests: int, verdict: str, certain: bool
) -> None:
    found = assess([with_late(late, requests)], Deadline(0.028))
    assert (found.verdict, found.checked.certain) == (verdict, certain)
    assert found.checked.late.count == late


def test_too_few_requests_are_said_with_the_number_needed() -> None:
    found = report(requests=60)
    assert found.verdict == "INCONCLUSIVE"
    assert "only 60 requests" in found.checked.reasons[0]
    assert "299" in found.checked.reasons[0]


def test_another_percentile_needs_another_number() -> None:
    assert assess([log(requests=30)], Deadline(0.028, 0.9)).verdict == "PASS"
    assert assess([log(requests=600)], Deadline(0.028, 0.999)).verdict == "INCONCLUSIVE"


def test_chance_is_named_where_it_could_have_decided() -> None:
    found = assess([with_late(10, 1000)], Deadline(0.028))
    assert any("chance could have decided" in reason for reason in found.checked.reasons)


def test_percentiles_are_of_the_time_from_arrival_to_answer() -> None:
    whole = log()
    latency_s = np.sort([each.latency_s for each in whole.served])
    found = assess([whole], Deadline(0.028)).checked
    assert found.percentile(0.5).latency_s.value == latency_s[299]
    assert found.percentile(0.99).latency_s.value == latency_s[593]
    assert [each.percentile for each in found.latency] == [0.5, 0.9, 0.95, 0.99, 0.999]
    with pytest.raises(KeyError):
        found.percentile(0.42)


def test_the_percentile_of_the_deadline_is_always_there() -> None:
    assert assess([log()], Deadline(0.028, 0.975)).checked.percentile(0.975).latency_s.value < 0.028


def test_energy_power_and_delay_agree_with_each_other() -> None:
    found = report().checked
    assert found.period_j is not None
    assert found.power_w == pytest.approx(found.period_j.value / PERIOD_S)
    assert found.edp_js == pytest.approx(found.period_j.value * found.mean_s)
    assert found.goodput_hz == pytest.approx(1 / PERIOD_S)
    assert found.changes_per_inference == 2


def test_every_baseline_that_ran_has_a_saving_in_each_accounting() -> None:
    found = report()
    assert [(each.baseline, each.accounting) for each in found.savings[:3]] == [
        ("maximum clocks", "period"),
        ("maximum clocks", "above_idle"),
        ("maximum clocks", "gross"),
    ]
    saving = found.saving("best single clock")
    assert saving.clocks == "core 854.25 MHz, memory 1331.2 MHz"
    assert saving.ratio is not None
    assert saving.ratio.value == pytest.approx(1 - predicted_j(PLAN) / predicted_j(BEST), abs=0.01)
    with pytest.raises(KeyError):
        found.saving("amble")


def test_accuracy_is_of_the_answers_with_a_label() -> None:
    whole = log()
    half = tuple(replace(each, correct=None) if i % 2 else each for i, each in enumerate(whole.served))
    accuracy = assess([replace(whole, served=half)], Deadline(0.028)).checked.accuracy
    assert accuracy is not None
    assert accuracy.out_of == 300
    assert accuracy.count == sum(bool(each.correct) for each in half)
    unlabelled = replace(whole, served=tuple(replace(each, correct=None) for each in whole.served))
    assert assess([unlabelled], Deadline(0.028)).checked.accuracy is None


def test_predictions_are_set_against_what_was_measured() -> None:
    found = report()
    latency, energy = found.checked.prediction("latency"), found.checked.prediction("energy")
    assert latency is not None
    assert energy is not None
    assert latency.predicted == schedule().predicted.latency_s
    assert latency.measured == pytest.approx(PLAN.latency_s, rel=0.01)
    assert latency.error == pytest.approx(0.02, abs=0.01)
    assert energy.error == pytest.approx(-0.02, abs=0.01)
    baseline = found.of("maximum clocks").prediction("latency")
    assert baseline is not None
    assert baseline.predicted == schedule().baseline("maximum clocks").predicted.latency_s


def test_prediction_compares_service_and_not_waiting() -> None:
    slow = replace(PLAN, latency_s=0.0305)  # longer than the period: a queue builds up
    latency = report(slow).checked.prediction("latency")
    assert latency is not None
    assert latency.measured == pytest.approx(0.0305, rel=0.01)
    assert report(slow).checked.percentile(0.5).latency_s.value > 0.1


def test_a_prediction_is_moved_to_the_period_of_the_load() -> None:
    other = replace(schedule(), period_s=PERIOD_S / 2)
    energy = assess([log()], other, idle_w=IDLE_W).checked.prediction("energy")
    assert energy is not None
    assert other.predicted.energy_j is not None
    assert energy.predicted == pytest.approx(other.predicted.energy_j + IDLE_W * PERIOD_S / 2)
    assert assess([log()], other).checked.prediction("energy") is None


def test_a_baseline_is_moved_to_the_period_of_the_load_by_what_it_draws_where_it_waits_itself() -> None:
    other = replace(schedule(), period_s=PERIOD_S / 2)
    found = assess([log(), log(MAX)], other, idle_w=IDLE_W)
    energy = next(each for each in found.policies if each.policy == MAX.name).prediction("energy")
    predicted = next(each.predicted.energy_j for each in other.baselines if each.name == MAX.name)
    assert energy is not None
    assert predicted is not None
    assert energy.predicted == pytest.approx(predicted + MAX.wait_w * PERIOD_S / 2)
    assert MAX.wait_w != IDLE_W
    unknown = replace(other, baselines=tuple(replace(each, idle_power_w=None) for each in other.baselines))
    found = assess([log(), log(MAX)], unknown, idle_w=IDLE_W)
    assert next(each for each in found.policies if each.policy == MAX.name).prediction("energy") is None


def test_without_a_schedule_nothing_was_predicted() -> None:
    found = assess([log(), log(MAX)], Deadline(0.028))
    assert found.checked.predictions == ()
    assert found.gap is None
    assert found.saving("maximum clocks").ratio is not None


def test_without_a_meter_energy_is_unknown_and_the_report_says_so() -> None:
    found = assess([without_meter(log()), without_meter(log(MAX))], schedule(), idle_w=IDLE_W)
    mine = found.checked
    assert (mine.period_j, mine.above_idle_j, mine.gross_j, mine.power_w, mine.edp_js) == (None,) * 5
    assert found.saving("maximum clocks").ratio is None
    assert any("no meter" in note for note in found.notes)
    assert mine.prediction("energy") is None
    assert mine.prediction("latency") is not None


def test_runs_of_one_policy_are_pooled() -> None:
    found = assess([log(seed=1), log(seed=2), log(MAX, seed=1), log(MAX, seed=2)], schedule())
    assert found.checked.runs == 2
    assert found.checked.requests == 1200
    assert found.saving("maximum clocks").blocks == 40


def test_the_policy_to_be_checked_can_be_named() -> None:
    found = assess([log(MAX), log()], schedule(), policy="amble")
    assert found.checked.policy == "amble"
    assert [each.baseline for each in found.savings] == ["maximum clocks"] * 3
    with pytest.raises(Refused, match="no log of policy 'nobody'; there are amble"):
        assess([log()], schedule(), policy="nobody")


def test_logs_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(Refused, match="different loads"):
        assess([log(), replace(log(MAX), load="poisson:35/s:60s")], schedule())
    with pytest.raises(Refused, match="different devices"):
        assess([log(), replace(log(MAX), where=Where("host"))], schedule())
    with pytest.raises(Refused, match="nothing was served"):
        assess([replace(log(), served=())], schedule())
    with pytest.raises(Refused, match="nothing was served"):
        assess([], schedule())


def test_unpaired_arrivals_are_noted() -> None:
    found = assess([log(), log(MAX, requests=500)], schedule())
    assert any("other arrivals than amble: maximum clocks" in note for note in found.notes)


def test_open_and_closed_loops_are_told_apart() -> None:
    assert report().loop == "open"
    assert assess([replace(log(), load="closed:1000")], schedule()).loop == "closed"


def test_clocks_are_named_by_what_ran() -> None:
    assert clocks_of([log(MAX)]) == "core 1300.5 MHz, memory 1866 MHz"
    assert clocks_of([log()]) == "core 420.75–854.25 MHz, memory 1331.2 MHz"
    assert clocks_of([replace(log(), slices=())]) == "unknown clocks"


def test_clocks_that_held_for_a_moment_only_do_not_name_a_policy() -> None:
    whole = log(MAX, traced=100)
    start = replace(whole.slices[0], ran_at=Clocks(core_hz=1e8, memory_hz=1e8))
    assert clocks_of([replace(whole, slices=(start, *whole.slices[1:]))]) == "core 1300.5 MHz, memory 1866 MHz"


def test_a_policy_is_named_by_its_plan_while_most_work_ran_there() -> None:
    whole = log(MAX, traced=10)
    settling = tuple(replace(each, ran_at=SLOW) if each.request < 4 else each for each in whole.slices)
    kept = assess([log(), replace(whole, slices=settling)], schedule())
    assert kept.of("maximum clocks").clocks == "core 1300.5 MHz, memory 1866 MHz"
    throttled = tuple(replace(each, ran_at=SLOW) for each in whole.slices)
    lost = assess([log(), replace(whole, slices=throttled)], schedule())
    assert lost.of("maximum clocks").clocks == "core 420.75 MHz, memory 1331.2 MHz"


def test_an_untraced_baseline_has_the_clocks_of_its_plan() -> None:
    found = assess([log(), replace(log(MAX), slices=())], schedule())
    assert found.of("maximum clocks").clocks == "core 1300.5 MHz, memory 1866 MHz"


def test_logs_with_numpy_s_numbers_give_plain_ones() -> None:
    whole = log()
    served = tuple(replace(each, start_s=np.float64(each.start_s), energy_j=np.float64(1.0)) for each in whole.served)
    numpy = replace(whole, served=served, finish_s=np.float64(whole.finish_s), energy_j=np.float64(90.0))
    assert msgspec.json.encode(assess([numpy, log(MAX)], schedule(), idle_w=IDLE_W))


def test_a_report_survives_its_file() -> None:
    found = report()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found


def test_a_level_of_confidence_below_one_half_is_an_error() -> None:
    with pytest.raises(ValueError, match="a level of confidence"):
        assess([log()], schedule(), confidence=0.3)
