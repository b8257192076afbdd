"""Links are read in bits; what is likely meant otherwise is refused by name."""

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.levers.split.link import RADIOS, Link, Radio, parse_radio, parse_rate, parse_uncertain


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20Mbit/s", 2e7), ("1.5 Gbit/s", 1.5e9), ("800kbps", 8e5), ("20Mbps", 2e7), ("5Mb/s", 5e6), ("9600bit/s", 9600)],
)
def test_a_rate_is_read(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0Mbit/s", "rate of 0"),
        ("20", "no unit, bits or bytes"),
        ("20MB/s", "counts bytes.*write 160Mbit/s if bytes are meant"),
        ("20MBps", "counts bytes"),
        ("20mbit/s", "'m' is not 'M'"),
        ("20Mbit", "unknown unit 'Mbit'"),
        ("fast", "is not a rate"),
        ("-3Mbit/s", "is not a rate"),
        ("20bit/s", "is the unit right"),
        ("trace.csv", "trace of rates cannot be planned for yet"),
    ],
)
def test_what_is_no_rate_is_refused(text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        parse_rate(text)


def test_an_exchange_takes_a_round_trip_and_its_bits() -> None:
    assert Link(8e6, 0.01, RADIOS["wifi"]).exchange_s(1000, 500) == pytest.approx(0.01 + 0.0015)
    with pytest.raises(ValueError, match="above 0"):
        Link(0, 0.01, RADIOS["wifi"])


def test_a_radio_takes_its_base_power_while_it_is_on_and_energy_for_each_bit() -> None:
    assert Radio("r", 2.0, 1e-6, 1e-7).energy_j(0.5, 1e6, 1e6) == pytest.approx(1.0 + 1.0 + 0.1)
    assert parse_radio("800mW") == Radio("800mW", 0.8)
    with pytest.raises(Refused, match="none of lte, 3g, wifi"):
        parse_radio("5g")


@pytest.mark.parametrize(
    ("text", "rate", "spread"),
    [("20±5Mbit/s", 2e7, 0.25), ("20 +- 5 Mbit/s", 2e7, 0.25), ("8+/-0.4kbps", 8e3, 0.05), ("20Mbit/s", 2e7, 0.0)],
)
def test_an_uncertain_rate_is_read(text: str, rate: float, spread: float) -> None:
    assert parse_uncertain(text) == (rate, pytest.approx(spread))


@pytest.mark.parametrize("text", ["±5Mbit/s", "20±Mbit/s", "20±5MB/s", "0±5Mbit/s", "20±5"])
def test_what_is_no_uncertain_rate_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_uncertain(text)


def test_a_rate_is_exceeded_with_the_probability_asked_for() -> None:
    rng = np.random.default_rng(0)
    link = Link(2e7, 0.01, RADIOS["wifi"], 0.2)
    for percentile in (0.9, 0.99):
        exceeded = rng.normal(2e7, 4e6, 200_000) >= link.at(percentile).rate_bit_s
        assert np.mean(exceeded) == pytest.approx(percentile, abs=0.003)
    certain = Link(2e7, 0.01, RADIOS["wifi"])
    assert certain.at(0.99) is certain


def test_a_link_too_uncertain_for_a_percentile_is_refused() -> None:
    with pytest.raises(Refused, match=r"20 Mbit/s ± 50 %.*too uncertain for p99"):
        Link(2e7, 0.01, RADIOS["wifi"], 0.5).at(0.99)
