"""Interpolation gets a share only where it is clearly better; a law that holds is predicted where it was left out."""

from __future__ import annotations

import numpy as np

from amble.stages.fit.held_out import interpolation_share


def test_interpolation_gets_no_share_of_what_the_model_knows() -> None:
    left = np.full(10, 0.1)
    assert interpolation_share(0.01 * left, left) == 0.0
    assert interpolation_share(left, 0.95 * left) == 0.0, "hardly better"


def test_interpolation_gets_all_where_the_model_errs_and_half_where_errors_cancel() -> None:
    left = np.full(10, 0.1)
    assert interpolation_share(left, 0.0 * left) == 1.0
    assert interpolation_share(left, -left) == 0.5
