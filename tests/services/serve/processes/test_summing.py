"""Counters of several processes are added up, and what a dead one counted stays."""

from __future__ import annotations

from amble.core.ladder import Rung
from amble.core.point import Clocks
from amble.services.serve.processes import summing
from amble.services.serve.requests.lanes import added
from amble.services.serve.telling.history import Second
from amble.services.serve.telling.ledger import Ledger, Outcome
from amble.stages.control.engine import Totals

RUNG = Rung("fp32", Clocks(), (0.01, 0.02), None)


def counted(count: int) -> Ledger:
    ledger = Ledger(busy_s=1.0)
    book = ledger.book("m", "1")
    for _ in range(count):
        book.answered(Outcome(RUNG, 1, 2, 0.0, 0.002, 0.02, 0.01, None, None, None))
        book.ran(RUNG, 2, 0.03)
    book.failed("REJECTED", "deadline", 0.5)
    book.pending = 3
    return ledger


def test_sums_are_those_of_one_process_that_counted_all() -> None:
    apart, together = summing.summed([counted(2), counted(5)]), counted(7)
    together.book("m", "1").failed("REJECTED", "deadline", 0.5)
    together.book("m", "1").pending = 6
    together.busy_s = 2.0
    mine, other = apart.book("m", "1"), together.book("m", "1")
    assert mine.error_ratio is not None
    assert other.error_ratio is not None
    assert abs(mine.error_ratio - other.error_ratio) < 1e-12
    mine.error_ratio = other.error_ratio
    assert apart == together


def test_the_dead_keep_what_they_counted_and_have_nothing_waiting() -> None:
    left = summing.ended(counted(4))
    assert left.book("m", "1").success == 4
    assert left.book("m", "1").pending == 0


def test_energy_is_unknown_where_one_does_not_know_it() -> None:
    known, unknown = Totals(answered=1, active_j=2.0, refused={"full": 1}), Totals(answered=2, active_j=None)
    whole = added([known, unknown, Totals(refused={"full": 2})])
    assert (whole.answered, whole.active_j, whole.idle_j, whole.refused) == (3, None, 0.0, {"full": 3})
    assert summing.seconds([Second(answered=1), Second(answered=2, baseline_j=None)]).baseline_j is None
