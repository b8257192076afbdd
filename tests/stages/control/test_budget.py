"""The account of accuracy: whatever is asked of it, no window of rows loses more than allowed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amble.stages.control.governors import Budget

BUDGET = Budget(allowed=0.01, window=100, cap_share=0.1, saving=0.25)  # cap 0.1, income 0.009


@pytest.mark.parametrize("long", [50, 5_000])
def test_however_long_it_was_saved_no_window_then_loses_more_than_the_budget(long: int) -> None:
    budget, loss = Budget(window=50, cap_share=0.1), 0.02
    saved, lost = 0.0, [0.0] * (long + 1)
    for _ in range(long):
        saved = budget.after(saved, 0.0, 1)
    while budget.affords(saved, loss):
        saved = budget.after(saved, loss, 1)
        lost.append(loss)
        assert len(lost) < long + 6_000, "an account that never ends"
    total = np.cumsum(lost + [0.0] * 50)
    assert (total[50:] - total[:-50] <= budget.allowed * 50 + 1e-9).all()
    assert len(lost) > long + 1, "what was saved may be spent"


def test_rows_pay_in_what_they_may_lose_and_take_out_what_they_lost_up_to_the_cap() -> None:
    assert BUDGET.after(0.02, 0.004, 3) == pytest.approx(0.02 + 3 * 0.005)
    assert BUDGET.after(0.02, 0.014, 3) == pytest.approx(0.02 - 3 * 0.005)
    assert BUDGET.after(0.099, 0.0, 3) == BUDGET.cap == pytest.approx(0.1)
    assert BUDGET.after(0.015, 0.014, 3) == pytest.approx(0.0, abs=1e-12)


def test_an_account_may_be_emptied_and_not_overdrawn_by_more_than_rounding() -> None:
    assert BUDGET.after(0.0, BUDGET.income + 1e-10, 1) == 0.0
    with pytest.raises(ValueError, match="overdraw"):
        BUDGET.after(0.0, BUDGET.income + 1e-8, 1)


def test_what_is_put_by_grows_with_the_rows_up_to_a_part_of_the_cap_and_to_what_there_is() -> None:
    assert BUDGET.put_by(0.001, 0.09, 2) == pytest.approx(0.001 + 2 * 0.25 * 0.009)
    assert BUDGET.put_by(0.02, 0.09, 1000) == pytest.approx(0.3 * 0.1)
    assert BUDGET.put_by(0.02, 0.005, 1000) == 0.005


def test_an_account_affords_rows_down_to_its_last() -> None:
    assert BUDGET.affords(0.0, BUDGET.income)
    assert not BUDGET.affords(0.0, BUDGET.income + 1e-6)
    assert BUDGET.affords(0.011, 0.02)
    assert not BUDGET.affords(0.011, 0.02, 2)
    assert BUDGET.affords(0.0221, 0.02, 2)


def test_rows_left_are_whole_and_endless_where_every_row_pays_itself() -> None:
    assert BUDGET.rows_left(0.033, 0.02) == 3.0
    assert BUDGET.rows_left(0.0329, 0.02) == 2.0
    assert BUDGET.rows_left(0.0, BUDGET.income) == math.inf


def test_the_share_of_rows_that_may_lose_so_much_in_the_long_run_is_what_income_pays() -> None:
    assert BUDGET.share(0.018) == pytest.approx(0.5)
    assert BUDGET.share(BUDGET.income) == 1.0
    assert BUDGET.share(0.001) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [{"allowed": -0.1}, {"allowed": 1.0}, {"window": 0}, {"cap_share": 0.0}, {"cap_share": 1.0}, {"saving": 1.0}],
)
def test_shares_lie_between_nothing_and_all(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Budget(**wrong)  # type: ignore[arg-type]
    assert Budget(allowed=0.0, window=1, saving=0.0).cap == 0.0
