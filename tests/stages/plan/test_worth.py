"""What changing clocks saves shrinks as changes take longer, and never beats what is free."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amble.stages.plan.worth import Worth, break_even_s

FREE = Worth(0.0, 0.8, 0.79, 1.0, 3, 0.01)


def test_the_saving_is_a_share_of_the_single_settings_energy() -> None:
    assert FREE.saving == pytest.approx(0.2)
    assert replace(FREE, energy_j=1.0).saving == 0.0


def test_break_even_is_the_longest_settling_that_still_saves_enough() -> None:
    found = [FREE, replace(FREE, settle_s=0.001, energy_j=0.985), replace(FREE, settle_s=0.01, energy_j=0.995)]
    assert break_even_s(found) == 0.001
    assert break_even_s(found, least=0.002) == 0.01
    assert break_even_s(found, least=0.5) is None
