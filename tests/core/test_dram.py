"""Error models flip the bits they should, as often as they should, in nested sets."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.bits import stored_bits
from amble.core.dram import (
    Bitline,
    DataDependent,
    DramErrors,
    ErrorModel,
    Layout,
    Lines,
    Span,
    Uniform,
    Wordline,
)
from amble.core.draws import hashed, key_of

SMALL = Layout(num_banks=4, num_rows=64, row_bits=1024)
WHOLE = Span(0, SMALL.num_bits)
EMPTY = np.zeros(SMALL.num_bits // 8, dtype=np.uint8)
EVERY = ("rows", "banks", "lines")


def drawn(model: ErrorModel, stored: np.ndarray = EMPTY, key: int = 0) -> np.ndarray:
    errors = DramErrors(model, SMALL)
    return errors.flips(errors.weak_cells(WHOLE), stored, key)


def lines(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 0.2, count)


@pytest.mark.parametrize("interleaving", EVERY)
def test_every_address_has_a_cell_of_its_own(interleaving: str) -> None:
    layout = Layout(num_banks=4, num_rows=8, row_bits=1024, interleaving=interleaving)  # type: ignore[arg-type]
    addresses = np.arange(layout.num_bits)
    cells = layout.cells(addresses)
    np.testing.assert_array_equal(layout.addresses(cells), addresses)
    assert (cells.bank.max(), cells.row.max(), cells.bitline.max(), cells.chip.max()) == (3, 7, 1023, 7)
    assert len({*zip(cells.bank.tolist(), cells.row.tolist(), cells.bitline.tolist(), strict=True)}) == layout.num_bits


def test_interleaving_says_which_cell_comes_next() -> None:
    after_row = {name: Layout(interleaving=name).cells(np.array([65_536])) for name in EVERY}  # type: ignore[arg-type]
    assert [(int(cells.bank[0]), int(cells.row[0])) for cells in after_row.values()] == [(0, 1), (1, 0), (0, 0)]
    after_line = Layout(interleaving="lines").cells(np.array([511, 512]))
    assert after_line.bank.tolist() == [0, 1]


def test_bytes_go_to_the_chips_in_turn() -> None:
    assert Layout().cells(np.arange(0, 80, 8)).chip.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]


@pytest.mark.parametrize(
    "model",
    [
        Uniform(0.03, 0.5),
        Uniform(1.0, 0.002),
        Bitline(lines(1024, 1), lines(1024, 2)),
        Wordline(lines(64, 3), lines(64, 4)),
        DataDependent(0.1, 0.05, 0.3),
    ],
    ids=["uniform", "transient", "bitline", "wordline", "data"],
)
def test_the_bit_error_rate_found_is_the_one_asked(model: ErrorModel) -> None:
    stored = np.random.default_rng(0).integers(0, 256, len(EMPTY), dtype=np.uint8)
    rates = [len(drawn(model, stored, key)) / WHOLE.num_bits for key in range(40)]
    assert np.mean(rates) == pytest.approx(model.ber(ones=0.5), rel=0.05)


@pytest.mark.parametrize("make", [lambda p: Uniform(p, 1.0), lambda p: Bitline(p * lines(1024, 1), lines(1024, 2))])
def test_weak_cells_of_a_milder_point_are_weak_at_a_harsher_one(make) -> None:  # type: ignore[no-untyped-def]
    mild, harsh = (DramErrors(make(share), SMALL).weak_cells(WHOLE) for share in (0.1, 0.4))
    assert mild.positions is not None
    assert harsh.positions is not None
    assert 0 < mild.num < harsh.num
    assert np.isin(mild.positions, harsh.positions).all()


def test_another_module_has_other_weak_cells() -> None:
    one, other = (DramErrors(Uniform(0.1, 1.0), SMALL, module=number).weak_cells(WHOLE) for number in (1, 2))
    assert one.positions is not None
    assert other.positions is not None
    assert np.isin(one.positions, other.positions).mean() == pytest.approx(0.1, abs=0.02)


def test_weak_cells_belong_to_the_place_and_not_to_the_tensor() -> None:
    errors = DramErrors(Bitline(lines(1024, 1), np.ones(1024)), SMALL)
    whole, part = errors.weak_cells(WHOLE).positions, errors.weak_cells(Span(4_000, 9_000)).positions
    assert whole is not None
    assert part is not None
    np.testing.assert_array_equal(part + 4_000, whole[(whole >= 4_000) & (whole < 13_000)])


@pytest.mark.parametrize("span", [WHOLE, Span(1_000, 5_000), Span(2_048, 100)])
def test_few_bad_bitlines_are_found_as_if_every_cell_had_been_looked_at(span: Span) -> None:
    few = np.where(np.arange(1024) % 7 == 3, 0.4, 0.0)
    quick = DramErrors(Bitline(few, np.ones(1024)), SMALL).weak_cells(span).positions
    every = DramErrors(Uniform(0.4, 1.0), SMALL).weak_cells(span).positions
    assert quick is not None
    assert every is not None
    np.testing.assert_array_equal(quick, every[(every + span.start) % 1024 % 7 == 3])


def test_weak_cells_on_bitlines_are_numbers_below_the_rate_of_their_line_in_either_order_of_banks() -> None:
    rates, span = lines(1024, 2), Span(1_500, 70_001)
    cells = np.arange(span.start, span.start + span.num_bits)
    expected = np.flatnonzero(hashed(key_of("cell", 5), cells) < rates[cells % 1024])
    for order in ("rows", "banks"):
        layout = Layout(num_banks=4, num_rows=64, row_bits=1024, interleaving=order)  # type: ignore[arg-type]
        found = DramErrors(Bitline(rates, np.ones(1024)), layout, module=5).weak_cells(span).positions
        np.testing.assert_array_equal(found, expected)


def test_weak_bitlines_past_the_rank_are_refused() -> None:
    with pytest.raises(ValueError, match="addresses lie"):
        DramErrors(Bitline(lines(1024, 1), np.ones(1024)), SMALL).weak_cells(Span(SMALL.num_bits - 5_000, 10_000))


def test_persistent_errors_are_the_same_at_every_read_and_transient_ones_are_not() -> None:
    persistent, transient = Uniform(0.01, 1.0), Uniform(1.0, 0.01)
    np.testing.assert_array_equal(drawn(persistent, key=1), drawn(persistent, key=2))
    assert np.isin(drawn(transient, key=1), drawn(transient, key=2)).mean() < 0.05
    np.testing.assert_array_equal(drawn(transient, key=3), drawn(transient, key=3))


def test_bitline_errors_keep_to_their_bitlines_and_wordline_errors_to_their_rows() -> None:
    bad = np.zeros(1024)
    bad[[3, 700]] = 1.0
    assert set(SMALL.cells(drawn(Bitline(bad, bad))).bitline.tolist()) == {3, 700}
    rows = np.zeros(64)
    rows[5] = 1.0
    assert set(SMALL.cells(drawn(Wordline(rows, rows))).row.tolist()) == {5}


def test_data_dependent_errors_look_at_the_stored_bit() -> None:
    model = DataDependent(1.0, p_flip_one=0.3, p_flip_zero=0.02)
    stored = np.random.default_rng(0).integers(0, 256, len(EMPTY), dtype=np.uint8)
    held = stored_bits(stored, drawn(model, stored))
    num_ones = np.unpackbits(stored).sum()
    assert held.sum() / num_ones == pytest.approx(0.3, rel=0.05)
    assert (held == 0).sum() / (WHOLE.num_bits - num_ones) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Uniform(1.2, 0.5),
        lambda: Uniform(float("nan"), 0.5),
        lambda: DataDependent(0.1, -0.1, 0.2),
        lambda: Bitline(np.array([0.1, 2.0]), np.array([0.1, 0.1])),
        lambda: Bitline(np.array([0.1]), np.array([0.1, 0.1])),
        lambda: Wordline(np.empty(0), np.empty(0)),
        lambda: Layout(row_bits=100),
        lambda: Layout(interleaving="diagonal"),  # type: ignore[arg-type]
        lambda: Span(-1, 5),
        lambda: SMALL.cells(np.array([SMALL.num_bits])),
    ],
)
def test_impossible_models_and_places_are_wrong_arguments(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"lies? in|must both|a layout needs|interleaving is|a span starts"):
        wrong()


def test_lines_are_bitlines_or_rows() -> None:
    with pytest.raises(ValueError, match="'bitline' or 'row'"):
        Lines("column", [0.1], [0.1])  # type: ignore[arg-type]
