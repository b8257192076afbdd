"""Blocks in waves: the edges that theory gives, and tiles found again from times."""

import numpy as np
import pytest

from amble.levers.widths.waves import Products, WaveModel, fit, matched

ORACLE = WaveModel(tile_rows=128, tile_columns=128, units=80)
ROWS = 32 * 14 * 14


def test_edges_are_those_of_the_published_formula() -> None:
    assert ORACLE.edges(ROWS, 1152) == (128, 384, 512, 768, 1024, 1152)


def test_a_wave_that_is_partly_filled_leaves_a_tail() -> None:
    some, more = ORACLE.wave(ROWS, 256), ORACLE.wave(ROWS, 384)
    assert (some.blocks, some.waves, some.last) == (98, 2, 18)
    assert some.utilisation == pytest.approx(0.6125)
    assert some.idle == pytest.approx(1 - 18 / 80)
    assert (more.blocks, more.waves) == (147, 2)
    assert more.utilisation == pytest.approx(0.92, abs=0.005)


def test_where_a_column_of_tiles_takes_many_waves_every_tile_ends_a_stair() -> None:
    model = WaveModel(tile_rows=16, tile_columns=64, units=10)
    assert model.edges(1600, 256) == (64, 128, 192, 256)


def products(model: WaveModel, seed: int = 0, noise: float = 0.0) -> Products:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(8, 4000, 400).astype(float), rng.integers(8, 2000, 400).astype(float)
    depth = rng.choice([256.0, 512.0, 1024.0], 400)
    bare = Products(rows, columns, depth, 4 * (rows * depth + depth * columns), np.ones(400))
    latency_s = model.time_s(bare) * (1 + noise * rng.standard_normal(400))
    return Products(rows, columns, depth, bare.moved_bytes, latency_s)


@pytest.mark.parametrize("tile", [(128, 64), (64, 256), (32, 32)])
@pytest.mark.parametrize("occupancy", [1, 2])
def test_tiles_are_found_again_from_noisy_times_at_any_occupancy(tile: tuple[int, int], occupancy: int) -> None:
    truth = WaveModel(*tile, units=40, occupancy=occupancy, launch_s=5e-6, tile_s=1e-6, element_s=2e-8)
    found = fit(products(truth, noise=0.02), units=40)
    assert (found.tile_rows, found.tile_columns) == tile
    fresh = products(truth, seed=9)
    assert np.abs(found.time_s(fresh) / fresh.latency_s - 1).mean() < 0.03


def test_a_cpu_is_one_unit_with_a_block_of_channels() -> None:
    truth = WaveModel(1, 16, units=1, launch_s=2e-6, element_s=1e-11)
    found = fit(products(truth), units=1, tiles=[(1, 4), (1, 8), (1, 16), (1, 32)])
    assert found.tile_columns == 16
    assert found.edges(784, 70) == (16, 32, 48, 64, 70)


def test_memory_bounds_every_time_from_below() -> None:
    model = WaveModel(128, 128, units=80, launch_s=1e-6, element_s=1e-12, bytes_per_s=1e9)
    flat = Products(*(np.array([each]) for each in (128.0, 128.0, 64.0, 1e6, 1.0)))
    assert model.time_s(flat)[0] == pytest.approx(1e-3)


def test_too_few_samples_are_refused() -> None:
    few = products(ORACLE).at(np.arange(400) < 3)
    with pytest.raises(ValueError, match="at least 6"):
        fit(few, units=80)


def test_edges_match_within_a_distance() -> None:
    assert matched((16, 33, 64), (16, 32, 64)) == pytest.approx(2 / 3)
    assert matched((16, 33, 64), (16, 32, 64), within=1) == 1.0
    assert matched((), (16,)) == 1.0
