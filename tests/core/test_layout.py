"""Addresses and cells are each other's inverse, in every interleaving."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from amble.core.layout import Layout


@pytest.mark.parametrize("interleaving", ["rows", "banks", "lines"])
def test_every_address_has_a_cell_of_its_own_and_leads_back(interleaving: Literal["rows", "banks", "lines"]) -> None:
    layout = Layout(4, 2, 3, 1024, interleaving)
    addresses = np.arange(layout.num_bits)
    cells = layout.cells(addresses)
    np.testing.assert_array_equal(layout.addresses(cells), addresses)
    assert len(set(zip(cells.bank.tolist(), cells.row.tolist(), cells.bitline.tolist(), strict=True))) == 2 * 3 * 1024
    assert set(cells.chip.tolist()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(cells.chip[:40], np.repeat([0, 1, 2, 3, 0], 8))


def test_what_follows_a_row_or_a_line_is_what_the_interleaving_says() -> None:
    after = {
        "rows": Layout(4, 2, 3, 1024, "rows").cells(np.array([1024])),
        "banks": Layout(4, 2, 3, 1024, "banks").cells(np.array([1024])),
        "lines": Layout(4, 2, 3, 1024, "lines").cells(np.array([512])),
    }
    assert {name: (int(each.bank[0]), int(each.row[0])) for name, each in after.items()} == {
        "rows": (0, 1),
        "banks": (1, 0),
        "lines": (1, 0),
    }


def test_what_no_rank_can_be_or_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="multiple of 512"):
        Layout(row_bits=100)
    with pytest.raises(ValueError, match="interleaving"):
        Layout(interleaving="columns")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="addresses lie in"):
        Layout(4, 2, 3, 1024).cells(np.array([2 * 3 * 1024]))
