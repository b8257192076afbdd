"""Memory profiles answer what was measured, refuse what was not, and make the errors they speak of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amble.core.dram import DataDependent, Lines, Uniform
from amble.core.errors import Refused
from amble.core.files import load, save
from amble.levers.memory.profiles import FORMAT, MemoryPoint, MemoryProfile, line_rates

FOLDER = Path(__file__).parents[3] / "src" / "amble" / "levers" / "memory" / "memories"
NAMES = ("ddr3-vendorA", "ddr3-vendorB", "ddr3-vendorC")
SHORT = MemoryPoint(trcd_s=7.5e-9, trp_s=12.5e-9)


def profile(name: str) -> MemoryProfile:
    return load(FOLDER / f"{name}.json", FORMAT)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_profiles_are_clean_at_ten_nanoseconds_and_nominal_voltage(name: str) -> None:
    memory = profile(name)
    for bank in range(memory.num_banks):
        assert memory.ber(MemoryPoint(), bank, ones=0.5) == 0.0
        assert memory.ber(MemoryPoint(trcd_s=10e-9, trp_s=10e-9), bank, ones=0.0) == 0.0


@pytest.mark.parametrize(("name", "low", "high"), [("ddr3-vendorA", 1e-5, 3e-2), ("ddr3-vendorB", 5e-3, 8e-2)])
def test_rates_at_short_timings_lie_where_the_published_quantiles_are(name: str, low: float, high: float) -> None:
    rates = [profile(name).ber(SHORT, bank, ones=0.5) for bank in range(8)]
    assert low < np.median(rates) < high


@pytest.mark.parametrize("name", NAMES)
def test_zeros_are_wrong_more_often_than_ones_at_the_first_short_timing(name: str) -> None:
    memory = profile(name)
    assert memory.ber(SHORT, 1, ones=0.0) > memory.ber(SHORT, 1, ones=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_rates_rise_as_timings_shorten_and_voltage_falls(name: str) -> None:
    memory = profile(name)
    shortening = [memory.ber(MemoryPoint(trcd_s=t * 1e-9), 2, ones=0.5) for t in (10.0, 7.5, 5.0, 2.5)]
    assert shortening == sorted(shortening)
    assert shortening[-1] > 0.1
    lowering = [memory.ber(point, 2, ones=0.5) for point in memory.points() if point.voltage_ratio < 1]
    assert lowering == sorted(lowering)
    assert lowering[-1] > 0.0


def test_a_timing_between_two_tested_ones_has_the_errors_of_the_shorter() -> None:
    memory = profile("ddr3-vendorB")
    between = memory.ber(MemoryPoint(trcd_s=6e-9), 0, ones=0.5)
    assert between == memory.ber(MemoryPoint(trcd_s=5e-9), 0, ones=0.5)


def test_every_point_offered_can_be_asked() -> None:
    for name in NAMES:
        memory = profile(name)
        for point in memory.points():
            assert 0.0 <= memory.ber(point, 0, ones=0.5) <= 0.5


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (MemoryPoint(voltage_ratio=0.5, trcd_s=10e-9, trp_s=10e-9), "measured down to"),
        (MemoryPoint(voltage_ratio=0.9, trcd_s=7.5e-9), "together"),
        (MemoryPoint(voltage_ratio=1.1), "up to nominal"),
        (MemoryPoint(trcd_s=1e-9), "longer timings"),
        (MemoryPoint(trcd_s=5e-9, trp_s=5e-9), "one short timing"),
    ],
)
def test_what_was_not_measured_is_refused(point: MemoryPoint, words: str) -> None:
    with pytest.raises(Refused, match=words):
        profile("ddr3-vendorB").ber(point, 0, ones=0.5)


def test_the_factor_over_the_lower_bound_scales_rates_at_low_voltage_alone() -> None:
    memory = profile("ddr3-vendorB")
    low = next(point for point in reversed(memory.points()) if 0.77 < point.voltage_ratio < 0.79)
    assert memory.ber(low, 0, ones=0.5, factor=100.0) == pytest.approx(100 * memory.ber(low, 0, ones=0.5, factor=1.0))
    assert memory.ber(SHORT, 0, ones=0.5, factor=100.0) == memory.ber(SHORT, 0, ones=0.5, factor=1.0)
    sram = profile("sram-28nm")
    assert sram.ber(MemoryPoint(0.56), 0, ones=0.5, factor=100.0) == sram.ber(
        MemoryPoint(0.56), 0, ones=0.5, factor=1.0
    )


@pytest.mark.parametrize("name", NAMES)
def test_bits_are_lost_at_long_refresh_and_in_heat_and_none_up_to_256_ms(name: str) -> None:
    memory = profile(name)
    rates = [memory.ber(MemoryPoint(refresh_s=interval), 0, ones=0.5) for interval in (0.064, 0.256, 1.024, 2.048)]
    assert rates[:2] == [0.0, 0.0]
    assert 0 < rates[2] < rates[3] < 1e-7
    hot = memory.ber(MemoryPoint(refresh_s=2.048, temperature_c=70.0), 0, ones=0.5)
    assert 10 * rates[3] < hot < 1e-6
    with pytest.raises(Refused, match=r"measured up to 2\.048 s"):
        memory.ber(MemoryPoint(refresh_s=5.0), 0, ones=0.5)
    with pytest.raises(Refused, match="long refresh together"):
        memory.ber(MemoryPoint(0.9, 10e-9, 10e-9, refresh_s=1.024), 0, ones=0.5)


def test_undervolted_sram_follows_the_published_boards() -> None:
    assert 2e-6 < profile("sram-28nm").ber(MemoryPoint(0.56), 0, ones=0.5) < 2e-4


@pytest.mark.parametrize(("shape", "kind"), [("uniform", Uniform), ("bitline", Lines), ("data", DataDependent)])
def test_the_errors_made_have_the_rate_of_the_profile(shape, kind) -> None:  # type: ignore[no-untyped-def]
    memory = profile("ddr3-vendorB")
    for flip in (1.0, 0.5):
        errors = memory.errors(SHORT, 3, shape=shape, flip=flip)
        assert isinstance(errors.model, kind)
        ones = 1.0 if shape == "data" else 0.5
        assert errors.model.ber(ones) == pytest.approx(memory.ber(SHORT, 3, ones=ones), rel=0.01)


def test_lines_keep_their_order_as_rates_grow() -> None:
    mild, harsh = (line_rates(rate, 0.05, num_lines=4096, module=3) for rate in (1e-3, 1e-2))
    assert mild.mean() == pytest.approx(1e-3, rel=1e-3)
    assert harsh.mean() == pytest.approx(1e-2, rel=1e-3)
    assert (harsh >= mild).all()
    assert np.sort(mild)[-41:].sum() > 0.2 * mild.sum()


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    memory = profile("ddr3-vendorC")
    save(memory, tmp_path / "memory.json", FORMAT)
    assert load(tmp_path / "memory.json", FORMAT) == memory
