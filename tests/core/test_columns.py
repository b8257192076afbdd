"""Names as people write them are read where they leave no doubt, and named with a remedy where they do."""

from __future__ import annotations

import pytest

from amble.core.columns import ENERGY, assigned, claim, notes_of
from amble.core.errors import Refused
from amble.core.table import SCHEMA


@pytest.mark.parametrize(
    ("name", "column", "factor"),
    [
        ("power_w", "power_w", 1),
        ("Power_W", "power_w", 1),
        ("power_w [W]", "power_w", 1),
        ("power (W)", "power_w", 1),
        ("GPU power draw [mW]", "power_w", 1e-3),
        ("avg_power_watts", "power_w", 1),
        ("latency_ms", "latency_s", 1e-3),
        ("Latency [ms]", "latency_s", 1e-3),
        ("latencyMs", "latency_s", 1e-3),
        ("latency, us", "latency_s", 1e-6),
        ("inference time (µs)", "latency_s", 1e-6),
        ("mean_latency_ms", "latency_s", 1e-3),
        ("Memory_Hz", "memory_hz", 1),
        ("core_mhz", "core_hz", 1e6),
        ("gpuClock_GHz", "core_hz", 1e9),
        ("core_kHz", "core_hz", 1e3),
        ("clocks.current.memory [MHz]", "memory_hz", 1e6),
        ("EMC freq (MHz)", "memory_hz", 1e6),
        ("cpu_freq_mhz", "cpu_hz", 1e6),
        ("requested core MHz", "requested_core_hz", 1e6),
        ("PowerLimit_W", "power_limit_w", 1),
        ("power cap (W)", "power_limit_w", 1),
        ("energy_mJ", ENERGY, 1e-3),
        ("mJ/inference", ENERGY, 1e-3),
        ("P [mW]", "power_w", 1e-3),
        ("f_core GHz", "core_hz", 1e9),
        ("f_mem (MHz)", "memory_hz", 1e6),
        ("E_mJ", ENERGY, 1e-3),
        ("batch_size", "batch", 1),
        ("Model", "workload", 1),
        ("dtype", "precision", 1),
    ],
)
def test_a_name_with_its_unit_is_read(name, column, factor):
    found = claim(name, SCHEMA)
    assert (found.column, found.factor, found.certain) == (column, pytest.approx(factor), True)


@pytest.mark.parametrize(
    ("name", "likely", "remedy"),
    [
        ("latency", "latency_s", "it has no unit; name it latency_s, or latency_ms"),
        ("Power", "power_w", "it has no unit; name it power_w, or power_mw"),
        ("memory clock", "memory_hz", "it has no unit; name it memory_hz, or memory_mhz"),
        ("power_w [mW]", "power_w", "it names two units, w and mw"),
        ("latnecy_ms", "latency_s", "if it is latency_s (x 0.001), name it latency_ms"),
        ("core_hzz", "core_hz", "did you mean core_hz?"),
        ("total_time_ms", "latency_s", "if it is latency_s"),
        ("cpu_power_w", "power_w", "if it is power_w"),
        ("fps", "latency_s", "it is a rate"),
        ("gpu", "device", "if it is device, name it so"),
    ],
)
def test_a_doubtful_name_comes_with_its_likely_meaning_and_a_remedy(name, likely, remedy):
    found = claim(name, SCHEMA)
    assert (found.column, found.certain) == (likely, False)
    assert remedy in found.advice


@pytest.mark.parametrize(
    "name", ["temp", "temperature_c", "colour", "memory_gb", "images/s", "p99_latency_ms", "seed", "f", "P", "e"]
)
def test_what_is_truly_extra_claims_nothing(name):
    assert (claim(name, SCHEMA).column, claim(name, SCHEMA).advice) == ("", "")


def test_the_exact_name_wins_and_the_other_is_listed():
    taken, left = assigned(["power_w", "Power [mW]", "temp"], SCHEMA)
    assert taken["power_w"].name == "power_w"
    assert notes_of(taken, left) == ("columns that are not read: Power [mW], temp",)


def test_a_median_wins_over_a_mean_and_two_alike_are_refused():
    taken, _ = assigned(["latency_mean_ms", "latency_p50_ms"], SCHEMA)
    assert taken["latency_s"].name == "latency_p50_ms"
    with pytest.raises(Refused, match="the columns lat_ms and time_us could both be latency_s"):
        assigned(["lat_ms", "time_us"], SCHEMA)


def test_what_was_read_otherwise_than_it_was_named_is_said():
    taken, left = assigned(["core_mhz", "Power_W", "latnecy_s"], SCHEMA)
    assert notes_of(taken, left) == (
        "read core_mhz as core_hz (x 1e+06), Power_W as power_w",
        "column latnecy_s is not read: if it is latency_s, name it latency_s",
    )
