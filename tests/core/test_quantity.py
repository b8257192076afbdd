"""Quantities are read with their units only."""

import pytest

from amble.core.quantity import format_energy, format_time, parse_hz, parse_time_s


@pytest.mark.parametrize(
    ("text", "time_s"),
    [("30ms", 0.03), (" 1.5 s ", 1.5), ("250us", 250e-6), ("2min", 120.0), (".5ms", 5e-4)]
    + [(f"30{micro}s", 30e-6) for micro in ("\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}")],
)
def test_times_are_read_with_their_unit(text: str, time_s: float) -> None:
    assert parse_time_s(text) == pytest.approx(time_s, rel=1e-12)


@pytest.mark.parametrize("text", ["30", "ms", "30 parsecs", "-3ms", "3,5ms", "1e400", ""])
def test_a_time_that_could_be_mistaken_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="30ms"):
        parse_time_s(text)


def test_frequencies_are_read_in_any_case() -> None:
    assert parse_hz("1300MHz") == parse_hz("1.3 ghz") == 1.3e9


def test_a_bare_frequency_is_refused() -> None:
    with pytest.raises(ValueError, match="no unit"):
        parse_hz("1300")


def test_quantities_are_written_with_the_unit_that_suits_them() -> None:
    assert [format_time(t) for t in (2.0, 0.0123, 4.5e-5, 3e-9)] == ["2 s", "12.3 ms", "45 µs", "3 ns"]
    assert [format_energy(e) for e in (2500.0, 0.5, 2e-7)] == ["2.5 kJ", "500 mJ", "200 nJ"]


def test_an_unknown_energy_is_not_zero() -> None:
    assert format_energy(None) == "unknown"
