from __future__ import annotations

from pathlib import Path

import pytest

from amble.core.files import Format, load, save
from amble.core.report import Estimate, Percentile, PolicyReport, Prediction, Report, Saving, Share
from amble.core.schedule import Deadline
from amble.core.subject import Subject, Where

POLICY = PolicyReport(
    policy="amble",
    clocks="core 800 MHz",
    runs=1,
    requests=400,
    window_s=20.0,
    mean_s=0.02,
    latency=(Percentile(0.5, Estimate(0.019, 0.018, 0.02)), Percentile(0.999, Estimate(0.03, 0.025, None))),
    late=Share(4, 400, Estimate(0.01, 0.003, 0.025)),
    verdict="PASS",
    certain=False,
    reasons=("4 of 400 were late",),
    period_j=Estimate(0.1),
    gross_j=Estimate(0.08),
    predictions=(Prediction("latency, median (s)", 0.018, 0.019), Prediction("energy, period (J)", 0.11, 0.1)),
)
REPORT = Report(
    subject=Subject(network="net", digest="d"),
    where=Where(device="host", calibration="real"),
    load="poisson:20/s:20s",
    loop="open",
    deadline=Deadline(0.03),
    confidence=0.95,
    policy="amble",
    policies=(POLICY,),
    savings=(Saving("maximum clocks", "core 1300 MHz", "period", Estimate(0.2), paired=True),),
)


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    form = Format("report", 1, Report)
    save(REPORT, tmp_path / "r.json", form)
    assert load(tmp_path / "r.json", form) == REPORT


def test_the_verdict_is_the_checked_policy_s() -> None:
    assert REPORT.checked is POLICY
    assert REPORT.verdict == "PASS"
    with pytest.raises(KeyError):
        REPORT.of("nobody")


def test_an_energy_is_asked_for_by_its_accounting() -> None:
    assert POLICY.energy_j("period") == Estimate(0.1)
    assert POLICY.energy_j("gross") == Estimate(0.08)
    assert POLICY.energy_j("above_idle") is None


def test_a_saving_is_found_by_baseline_and_accounting() -> None:
    assert REPORT.saving("maximum clocks").ratio == Estimate(0.2)
    with pytest.raises(KeyError):
        REPORT.saving("maximum clocks", "gross")


def test_an_error_is_positive_where_the_prediction_was_too_high() -> None:
    latency, energy = POLICY.prediction("latency"), POLICY.prediction("energy")
    assert latency is not None
    assert energy is not None
    assert latency.error == pytest.approx(-1 / 19)
    assert energy.error == pytest.approx(0.1)


def test_goodput_counts_answers_in_time() -> None:
    assert POLICY.goodput_hz == pytest.approx(396 / 20)


def test_a_percentile_is_found_by_its_number() -> None:
    assert POLICY.percentile(0.999).latency_s.high is None
    with pytest.raises(KeyError):
        POLICY.percentile(0.9)
