"""Injection flips the same bits everywhere, exactly as many as asked, and implausible values are caught."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from amble.core.dram import Bitline, DataDependent, DramErrors, ErrorModel, Uniform
from amble.runtimes.faults import Bounds, Home, Injector, Wanted, bounds_of

FORMATS = (np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8)
RANDOM = np.random.default_rng(0)


def home(ber: float, **others: object) -> Home:
    return Home(DramErrors(Uniform(1.0, ber)), **others)  # type: ignore[arg-type]


def normal(dtype: type, count: int = 20_000) -> np.ndarray:
    values = RANDOM.normal(0, 0.1, count)
    return (values * 100 if np.dtype(dtype).itemsize == 1 else values).astype(dtype)


def flips(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.unpackbits(one.view(np.uint8) ^ other.view(np.uint8)).sum())


@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_gets_the_bit_error_rate_asked_for(dtype: type) -> None:
    clean = normal(dtype)
    rates = [
        flips(Injector().inject({"w": clean}, {"w": home(1e-3)}, seed)["w"], clean) / (8 * clean.nbytes)
        for seed in range(20)
    ]
    assert np.mean(rates) == pytest.approx(1e-3, rel=0.1)


def test_the_seed_the_name_and_the_read_decide_and_nothing_else() -> None:
    clean = {"w": normal(np.float32)}
    homes = {"w": home(1e-3)}
    first = Injector().inject(clean, homes, 3)["w"].tobytes()
    assert Injector().inject({"x": clean["w"], **clean}, homes, 3)["w"].tobytes() == first
    assert Injector().inject(clean, homes, 4)["w"].tobytes() != first
    assert Injector().inject(clean, homes, 3, read=1)["w"].tobytes() != first
    renamed = Injector().inject({"v": clean["w"]}, {"v": home(1e-3)}, 3)["v"]
    assert renamed.tobytes() != first


def test_formats_of_the_same_bytes_lose_the_same_bits() -> None:
    content = RANDOM.integers(0, 256, 4_000, dtype=np.uint8)
    results = {Injector().inject({"w": content.view(dtype)}, {"w": home(1e-2)}, 5)["w"].tobytes() for dtype in FORMATS}
    assert len(results) == 1


def test_weak_cells_at_another_address_are_others() -> None:
    clean = {"w": np.zeros(4_000, np.float32)}
    persistent = DramErrors(Uniform(0.01, 1.0))
    here, there = (Injector().inject(clean, {"w": Home(persistent, start)}, 0)["w"] for start in (0, 1 << 20))
    assert here.tobytes() != there.tobytes()
    moved = Injector().inject({"v": clean["w"]}, {"v": Home(persistent, 0)}, 99, read=7)["v"]
    assert moved.tobytes() == here.tobytes()


def test_examples_that_go_through_the_same_addresses_lose_the_same_bits() -> None:
    clean = np.zeros((6, 500), np.float32)
    persistent = DramErrors(Uniform(0.01, 1.0))
    read = Injector().inject({"x": clean}, {"x": Home(persistent, each_example=True)}, 0)["x"]
    alone = Injector().inject({"x": clean[:1]}, {"x": Home(persistent)}, 5)["x"]
    assert (read.view(np.uint32) == alone.view(np.uint32)).all()
    assert alone.any()
    half = DramErrors(Uniform(0.01, 0.5))
    fresh = Injector().inject({"x": clean}, {"x": Home(half, each_example=True)}, 0)["x"]
    assert (fresh[0].view(np.uint32) != fresh[1].view(np.uint32)).any()
    assert (fresh.view(np.uint32) & ~alone.view(np.uint32) == 0).all()


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    "model",
    [Uniform(1.0, 0.01), Uniform(0.01, 1.0), Uniform(0.02, 0.5), Bitline(np.full(65_536, 0.01), np.ones(65_536))],
    ids=["transient", "persistent", "both", "bitline"],
)
def test_flips_drawn_ahead_are_those_of_the_read(model: ErrorModel, dtype: type) -> None:
    place, clean = Home(DramErrors(model), start=64), {name: normal(dtype, 3_000) for name in ("a", "b")}
    alone = Injector().inject(clean, dict.fromkeys(clean, place), 4, read=2)
    injector, itemsize = Injector(), np.dtype(dtype).itemsize
    wanted = tuple(Wanted(name, place, 3_000 * itemsize, itemsize) for name in clean)
    for _ in range(2):  # what is kept of the first time changes nothing
        ahead = injector.ahead(wanted, 4, read=2)
        for name, value in clean.items():
            found = value.copy()
            changed = injector.corrupt(found, name, place, 4, read=2, flips=ahead[name])
            assert found.tobytes() == alone[name].tobytes() != value.tobytes()
            assert changed.num_flips == flips(found, value)
            changed.undo(found)
            assert found.tobytes() == value.tobytes()


def test_flips_that_depend_on_contents_are_not_drawn_ahead() -> None:
    place = Home(DramErrors(DataDependent(1.0, p_flip_one=0.0, p_flip_zero=0.01)))
    assert Injector().ahead((Wanted("x", place, 4_000, 4),), 0) == {}


def test_what_was_given_stays_clean_and_homeless_tensors_pass() -> None:
    clean = {"w": normal(np.float32), "b": normal(np.float32)}
    before = clean["w"].copy()
    found = Injector().inject(clean, {"w": home(0.01)}, 0)
    np.testing.assert_array_equal(clean["w"], before)
    assert found["b"] is clean["b"]


@pytest.mark.parametrize("bounds", [None, Bounds(-1, 1, "zero"), Bounds(-1, 1, "saturate")])
def test_changes_can_be_undone(bounds: Bounds | None) -> None:
    array = normal(np.float32)
    before = array.tobytes()
    changed = Injector().corrupt(array, "w", home(0.02, bounds=bounds, every_value=True), 1)
    assert array.tobytes() != before
    changed.undo(array)
    assert array.tobytes() == before


def read_with(mode: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    clean = normal(np.float32)
    for seed in range(5):
        bounds = bounds_of(clean, margin=0.5, mode=mode)  # type: ignore[arg-type]
        yield clean, Injector().inject({"w": clean}, {"w": home(0.02, bounds=bounds)}, seed)["w"]


def test_zeroing_leaves_nothing_implausible_and_no_plausible_error_untouched() -> None:
    for clean, read in read_with("zero"):
        assert np.abs(read).max() <= 2 * np.abs(clean).max()
        assert (read[read != clean] == 0).any()
        assert (read[read != clean] != 0).any()


def test_saturating_clamps_to_the_bounds() -> None:
    for clean, read in read_with("saturate"):
        bounds = bounds_of(clean, margin=0.5, mode="saturate")
        assert read.max() == np.float32(bounds.high)
        assert read.min() == np.float32(bounds.low)


def test_not_a_number_becomes_zero_in_both_modes() -> None:
    for mode in ("zero", "saturate"):
        array = np.array([np.nan, 0.5, np.inf], np.float32)
        Injector().corrupt(array, "x", home(0.0, bounds=Bounds(-1, 1, mode), every_value=True), 0)
        assert array.tolist() == [0.0, 0.5, 0.0 if mode == "zero" else 1.0]


def test_only_asked_for_checks_look_at_values_without_errors() -> None:
    array = np.array([5.0, 0.5], np.float32)
    Injector().corrupt(array, "x", home(0.0, bounds=Bounds(-1, 1, "zero")), 0)
    assert array.tolist() == [5.0, 0.5]


def test_rectified_data_lose_mostly_zeros_under_data_dependent_errors() -> None:
    rectified = np.maximum(normal(np.float32), 0)
    errors = DramErrors(DataDependent(1.0, p_flip_one=0.0, p_flip_zero=0.01))
    read = Injector().inject({"x": rectified}, {"x": Home(errors)}, 0)["x"]
    assert (read.view(np.uint32) & rectified.view(np.uint32) == rectified.view(np.uint32)).all()
    assert flips(read, rectified) > 0


def test_wrong_arguments_say_what_is_there() -> None:
    with pytest.raises(ValueError, match="no tensors v; there are w"):
        Injector().inject({"w": normal(np.float32)}, {"v": home(0.1)}, 0)
    with pytest.raises(ValueError, match="contiguous"):
        Injector().corrupt(np.zeros((4, 4), np.float32).T[:, :2], "w", home(0.1), 0)
    with pytest.raises(ValueError, match="low <= high"):
        Bounds(1, -1, "zero")
    with pytest.raises(ValueError, match="finite"):
        bounds_of(np.array([np.inf]), margin=0.1, mode="zero")
