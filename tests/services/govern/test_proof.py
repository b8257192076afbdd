"""What a log proves: an interval that holds the truth, and no saving where there is none."""

from dataclasses import replace

import numpy as np
import pytest

import amble.services.govern.telling  # noqa: F401  how a proof is told
from amble.core.errors import Refused
from amble.core.log import Governed, Log, Period
from amble.core.point import Clocks
from amble.core.subject import Subject, Where
from amble.services.govern.proof import BLOCK_S, prove
from amble.stages.check.tables import tables
from tests.services.govern.rehearsing import a_server, governed

SLOW = Clocks(core_hz=5e8)
ABOUT = Governed(
    "made up",
    ("latency p99 < 100ms",),
    ((0.05, 0.1),),
    (0.1,),
    (Clocks(core_hz=1e9), SLOW),
    ((1.0,), (2.0,)),
    1.0,
    0.1,
    0,
)


def a_day(seed, *, saves=0.3, blocks=120, metered=True, late=0):
    """A log of blocks under a random load: power is 40 W and 2 J a request, less ``saves`` where governed."""
    random = np.random.default_rng(seed)
    periods = []
    load = 20.0
    for block in range(blocks):
        load = float(np.clip(load + random.normal(0.0, 4.0), 2.0, 60.0))
        control = bool(block % 10 == np.random.default_rng([seed, block // 10]).integers(10))
        noise_w = random.normal(0.0, 2.0)
        for start_s in np.arange(block * BLOCK_S, (block + 1) * BLOCK_S, 2.0).tolist():
            finished = float(random.poisson(2.0 * load))
            power_w = (40.0 + finished + noise_w + random.normal(0.0, 3.0)) * (1.0 if control else 1.0 - saves)
            asked = Clocks() if control else SLOW
            counts = ((max(0.0, finished - late), 0.0, min(finished, float(late))),)
            periods.append(
                Period(
                    start_s,
                    start_s + 2.0,
                    asked,
                    asked,
                    control,
                    True,
                    finished,
                    finished,
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                    counts,
                    2.0 * power_w if metered else None,
                )
            )
    energies = [each.energy_j for each in periods]
    energy_j = sum(energies) if metered else None
    about = Log(Subject("made up"), Where("d"), "amble govern", "", (), 0.0, periods[-1].finish_s, energy_j)
    return replace(about, governed=ABOUT, periods=tuple(periods))


def test_the_interval_holds_the_truth():
    found = [prove(a_day(seed)).saving for seed in range(60)]
    held = sum(each.low <= 0.3 <= each.high for each in found)
    assert held >= 54
    assert np.mean([each.high - each.low for each in found]) < 0.1, "and says something"


def test_where_nothing_is_saved_no_saving_is_proved():
    proofs = [prove(a_day(seed, saves=0.0)) for seed in range(20)]
    false = sum(each.saving.low > 0.0 for each in proofs)
    assert false <= 2
    assert any("no saving is proved" in note for note in proofs[0].notes) == (proofs[0].saving.low <= 0.0)


def test_without_a_meter_the_saving_is_unknown_and_not_nothing():
    proof = prove(a_day(0, metered=False))
    assert proof.saving is None
    assert proof.governed.energy_j is None
    assert any("unknown" in note for note in proof.notes)


def test_too_few_blocks_prove_nothing():
    proof = prove(a_day(0, blocks=10))
    assert proof.saving is None
    assert any("run longer" in note for note in proof.notes)


def test_late_answers_fail_the_objective():
    assert prove(a_day(0)).verdict == "PASS"
    assert prove(a_day(0, late=2)).verdict == "FAIL"


def test_periods_that_cannot_be_trusted_count_for_nothing():
    log = a_day(0)
    spoiled = tuple(
        replace(each, usable=False, energy_j=0.0) if index % 7 == 0 and not each.control else each
        for index, each in enumerate(log.periods)
    )
    proof = prove(replace(log, periods=spoiled))
    assert proof.saving.low <= 0.3 <= proof.saving.high
    assert proof.unusable_s > 0.0


def test_the_saving_of_a_rehearsed_server_is_the_true_one():
    log, _ = governed(a_server(duration_s=1500.0), 1500.0, control=0.25, seed=3)
    fastest = a_server(duration_s=1500.0)
    at_s = [0.0]
    energies = {0.0: 0.0}
    for each in log.periods:
        fastest.sleep(each.finish_s - at_s[0])
        at_s[0] = each.finish_s
        energies[each.finish_s] = fastest.read().energy_j
    mine = [each for each in log.periods if not each.control and each.span_s > 0]
    theirs_j = sum(energies[each.finish_s] - energies[each.start_s] for each in mine if each.start_s in energies)
    truth = 1.0 - sum(each.energy_j for each in mine) / theirs_j
    proof = prove(log)
    assert truth > 0.1
    assert proof.saving.low <= truth <= proof.saving.high


def test_another_log_is_refused():
    with pytest.raises(Refused, match="not of amble govern"):
        prove(replace(a_day(0, blocks=1), governed=None))


def test_a_day_is_told_in_minutes_and_hours():
    told = [cell for table in tables(prove(a_day(0))) for row in table.rows for cell in row]
    assert "36 min" in told
    assert "none" in told, "no time in which the page could not be trusted"
    assert not [cell for cell in told if "e+" in cell]
