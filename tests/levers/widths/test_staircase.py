"""Times between measured points, the widths worth using, and tables on disk."""

from pathlib import Path

import pytest

from amble.core import files
from amble.core.layers import Shape
from amble.core.subject import Where
from amble.levers.widths.staircase import FORMAT, Point, Staircase, StaircaseTable, Stairs, worth

SHAPE = Shape("conv", 32, 64, kernel=(3, 3), stride=(2, 2), size=(14, 14))


def point(inputs: int, outputs: int, time_s: float, mad_s: float = 0.0) -> Point:
    return Point(inputs, outputs, time_s, mad_s, None, 40)


def stairs() -> Staircase:
    """Blocks of 16 in both widths, 1 µs each and 1 µs on top; 20 inputs take half of what their block would."""
    outputs = [point(32, 16 * n, 1e-6 * (1 + 2 * n)) for n in (1, 2, 3, 4)]
    inputs = [point(16, 64, 5e-6), point(20, 64, 4.5e-6)]
    return Staircase(
        SHAPE, (*outputs, *inputs, point(16, 16, 2e-6)), Stairs((16, 32, 48, 64), 16), Stairs((16, 32), 16)
    )


def test_a_partly_filled_block_takes_as_long_as_a_full_one() -> None:
    found = stairs()
    assert [found.latency_s(32, each) for each in (33, 40, 48)] == pytest.approx([7e-6] * 3)


def test_both_widths_together_come_from_the_grid() -> None:
    assert stairs().latency_s(16, 32) == pytest.approx(3e-6)
    assert stairs().latency_s(16, 48) == pytest.approx(4e-6)


def test_a_width_measured_inside_a_stair_keeps_its_own_time() -> None:
    assert stairs().latency_s(20, 64) == pytest.approx(4.5e-6)
    assert stairs().latency_s(20, 32) == pytest.approx(0.5 * stairs().latency_s(32, 32))


def disliking() -> Staircase:
    """Blocks of 16, 1 µs each; what is no multiple of 4 takes half as long again; few ends of blocks were measured."""
    outputs = {16: 1e-6, 17: 3e-6, 33: 4.5e-6, 40: 3e-6, 64: 4e-6}
    return Staircase(SHAPE, tuple(point(32, w, t) for w, t in outputs.items()), Stairs((16, 32, 48, 64), 16))


def test_the_end_of_a_block_is_not_taken_for_the_odd_width_beside_it() -> None:
    found = disliking()
    assert [found.latency_s(32, each) for each in (32, 48)] == pytest.approx([2e-6, 3e-6])


def test_widths_that_no_vector_fits_pay_what_others_like_them_were_measured_to() -> None:
    found = disliking()
    assert found.latency_s(32, 61) == pytest.approx(1.5 * 4e-6)
    assert found.latency_s(32, 60) == pytest.approx(4e-6)
    assert found.latency_s(32, 33) == pytest.approx(4.5e-6)


def test_the_tail_is_what_is_paid_and_not_there() -> None:
    assert stairs().tail(32, 64) == 0.0
    assert stairs().tail(32, 24) == pytest.approx(0.25)
    assert stairs().tail(24, 24) == pytest.approx(1 - 0.75 * 0.75)


def test_energy_is_unknown_where_no_point_was_metered() -> None:
    assert stairs().energy_j(32, 64) is None


def test_tolerance_is_two_deviations_and_at_least_one_per_cent() -> None:
    assert stairs().tolerance == 0.01
    noisy = Staircase(SHAPE, (point(32, 64, 1e-5, 2e-7),))
    assert noisy.tolerance == pytest.approx(0.04)


def test_only_right_hand_edges_are_worth_using() -> None:
    assert worth((15, 16, 17, 31, 32), (1.0, 1.0, 2.0, 2.0, 2.0), 0.01) == (16, 32)


def test_a_slower_narrower_width_is_not_worth_using() -> None:
    assert worth((60, 62, 64), (0.8, 1.3, 1.0), 0.01) == (60, 64)


def test_a_smooth_ramp_keeps_widths_a_tolerance_apart() -> None:
    """The pairwise rule would leave the widest alone: each step is half the tolerance."""
    widths = list(range(1, 101))
    kept = worth(widths, [1.005**each for each in widths], 0.01)
    assert 30 < len(kept) < 60
    assert kept[-1] == 100


def test_a_shape_is_written_short() -> None:
    assert str(SHAPE) == "conv 3x3/2 32->64 at 14x14"
    assert str(Shape("gemm", 8, 4)) == "gemm 8->4"


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    table = StaircaseTable(Where("host"), "onnxruntime", "fp32", 1, 1000, (stairs(),), 2.0)
    files.save(table, tmp_path / "stairs.json", FORMAT)
    again = files.load(tmp_path / "stairs.json", FORMAT)
    assert again == table
    assert again.of(SHAPE).latency_s(16, 48) == pytest.approx(4e-6)
    assert not again.knows(Shape("gemm", 8, 4))
    with pytest.raises(KeyError, match="gemm"):
        again.of(Shape("gemm", 8, 4))
