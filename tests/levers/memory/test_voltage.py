"""Onsets and slopes of errors under low voltage are found from exact, absent and saturated rates."""

from __future__ import annotations

import numpy as np
import pytest

from amble.levers.memory.voltage import AtVoltage, fit_onsets


def planted(seed: int) -> AtVoltage:
    random = np.random.default_rng(seed)
    voltage = np.tile(np.arange(0.74, 0.90, 0.01), 12)
    onset = np.repeat(random.normal(0.80, 0.015, 12), len(voltage) // 12)
    rate = -9.0 + 110.0 * (onset - voltage) + random.normal(0, 0.3, len(voltage))
    return AtVoltage(
        module=np.repeat(np.arange(12).astype(str), len(voltage) // 12),
        voltage_ratio=voltage,
        log10_ber=np.clip(rate, -9.5, -4.0),
        censored=np.where(rate < -9.5, -1, np.where(rate > -4.0, 1, 0)),
    )


def test_onset_spread_and_slope_are_recovered() -> None:
    fits = [fit_onsets(planted(seed)) for seed in range(3)]
    assert np.mean([fit.onset_ratio for fit in fits]) == pytest.approx(0.80, abs=0.006)
    assert np.mean([fit.decades_per_ratio for fit in fits]) == pytest.approx(110.0, rel=0.1)
    assert np.mean([fit.onset_spread for fit in fits]) == pytest.approx(0.015, rel=0.4)
    assert np.mean([fit.residual_spread for fit in fits]) == pytest.approx(0.3, rel=0.3)


def test_dropping_what_showed_no_error_biases_the_slope_and_keeping_it_does_not() -> None:
    seen = planted(5)
    exact = seen.censored == 0
    dropped = AtVoltage(
        seen.module[exact], seen.voltage_ratio[exact], seen.log10_ber[exact], np.zeros(exact.sum(), np.int64)
    )
    full = fit_onsets(seen).decades_per_ratio
    assert fit_onsets(dropped).decades_per_ratio < full
    assert full == pytest.approx(110.0, rel=0.12)


def test_a_vendor_without_errors_cannot_be_fitted() -> None:
    seen = planted(0)
    clean = AtVoltage(seen.module, seen.voltage_ratio, seen.log10_ber, np.full(len(seen.module), -1))
    with pytest.raises(ValueError, match="two rates"):
        fit_onsets(clean)
