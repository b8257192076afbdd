"""Rates of banks and modules that a fit has not seen: the fitted model against the average of the vendor.

Each module (then each bank) of a vendor is left out in turn and predicted from the others, in every tested pair of
timings that has errors. The error is that of log10 of the bit error rate, floored at 1e-10. Averages: `vendor`, the
mean rate of the vendor's other modules at the same timings; `geometric`, the same of log10; `pattern`, the mean rate
for the same stored data. A module that was left out is not looked at in any way, but for its type.
"""

from __future__ import annotations

from typing import SupportsFloat, cast

from bench.kit import document

document.on_one_core()

import numpy as np  # noqa: E402  after the threads are set
from numpy.typing import NDArray  # noqa: E402

from amble.stages.fit.banks import Measured, fit_banks  # noqa: E402
from bench.dram_fit.tables import FLOOR, Timings, timings  # noqa: E402

Floats = NDArray[np.float64]
LEFT_OUT = ("module", "bank")


def main() -> None:
    options = document.options("dram_fit", __doc__)
    results: list[dict[str, SupportsFloat | str]] = []
    for tested in timings(options.data):
        if tested.temperature_c != 20.0 or not (tested.rates.log10_ber > FLOOR).any():
            continue
        if options.quick and (tested.trcd_ns, tested.trp_ns) != (7.5, 12.5):
            continue
        results += [record(tested, left_out) for left_out in LEFT_OUT]
    targets = [
        document.target(
            f"unseen {row['left_out']}s, vendor {row['vendor']}, tRCD {row['trcd_ns']:g} ns, tRP {row['trp_ns']:g} ns: "
            "error of the fit over that of the vendor average",
            want="< 1",
            value=cast(float, row["ratio"]),
            unit="1",
        )
        for row in results
    ]
    document.finish(options, results, targets)


def record(tested: Timings, left_out: str) -> dict[str, SupportsFloat | str]:
    """Mean absolute error in decades of each predictor, and how often the fit's 90 % interval holds the rate."""
    rates = tested.rates
    errors: dict[str, list[Floats]] = {"fit": [], "vendor": [], "geometric": [], "pattern": []}
    held = []
    labels = getattr(rates, left_out)
    for label in np.unique(labels):
        seen, unseen = rates.rows(labels != label), rates.rows(labels == label)
        mean, spread = fit_banks(seen).predict(unseen)
        errors["fit"].append(np.abs(np.clip(mean, FLOOR, 0.0) - unseen.log10_ber))
        held.append(np.abs(mean - unseen.log10_ber) <= 1.645 * spread)
        for name, value in averages(seen, unseen).items():
            errors[name].append(np.abs(value - unseen.log10_ber))
    mean_error = {f"{name}_decades": float(np.concatenate(each).mean()) for name, each in errors.items()}
    return {
        "left_out": left_out,
        "vendor": tested.vendor,
        "trcd_ns": tested.trcd_ns,
        "trp_ns": tested.trp_ns,
        "rates": len(labels),
        **mean_error,
        "ratio": mean_error["fit_decades"] / mean_error["vendor_decades"],
        "within_90": float(np.concatenate(held).mean()),
    }


def averages(seen: Measured, unseen: Measured) -> dict[str, Floats]:
    rates = 10.0**seen.log10_ber
    by_pattern = [np.log10(rates[seen.pattern == pattern].mean()) for pattern in unseen.pattern]
    ones = np.ones(len(unseen.log10_ber))
    return {
        "vendor": ones * np.log10(rates.mean()),
        "geometric": ones * seen.log10_ber.mean(),
        "pattern": np.array(by_pattern),
    }
