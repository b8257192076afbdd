"""Measurements of approximate memories -> the fitted profiles that amble ships, as JSON files in one folder.

    python -m tools.memories [FOLDER]

Needs the folder of measured data (`AMBLE_DATA`). Only fitted numbers are written. What the fits predict on modules and
banks that they have not seen is the matter of `bench/dram_fit`.
"""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from amble.core.files import save
from amble.levers.memory.profiles import FORMAT, BankRates, MemoryProfile, RetentionCurve, Source, VoltageCurve
from amble.levers.memory.voltage import AtVoltage, fit_onsets
from amble.stages.fit.banks import BankModel, Measured, fit_banks
from bench.dram_fit.tables import FLOOR, NOMINAL_V, Timings, rows, timings, voltages
from bench.kit import places
from bench.kit.places import ROOT

SHIPPED = ROOT / "src" / "amble" / "levers" / "memory" / "memories"
BITS = 2**34  # of a module of 2 GB
NUM_BITLINES = 65_536  # of a rank's row; assumed for the spread over bitlines

LATENCY = Source(
    "bit error rates of the banks of 30 DDR3 modules against tRCD, tRP, data pattern and temperature",
    "Chang et al., SIGMETRICS 2016; CMU-SAFARI/DRAM-Latency-Variation-Study @ 1eabc9b",
    "BSD-3-Clause (LICENSE.chang2016_dram_latency)",
    (
        "tRP from banks 1 to 7, since bank 0 was not tested with short tRP; bank 0 is given the mean of the others",
        "repeats of one condition differ by 41 % (median): no rate is exact",
        "only the product of weak share and flip probability is determined",
        "temperature: four modules from 26 to 70 degrees, whose rates neither rise nor fall clearly",
    ),
)
VOLTAGE = Source(
    "share of 64-byte lines with an error of 31 DDR3L modules against supply voltage; fitted numbers only",
    "Chang et al., SIGMETRICS 2017; CMU-SAFARI/DRAM-Voltage-Study @ b2089c3",
    "none declared: the data are not shipped",
    (
        "rates are a lower bound (independent bits); multiply by 1, 10 and 100, docs/decisions/0003",
        "tRCD = tRP = 10 ns and 20 degrees are inferred; other modules than those of the timings",
    ),
)
RETENTION = Source(
    "bits lost by 31 DDR3L modules against refresh interval and temperature, at 1.35 V; fitted numbers only",
    "Chang et al., SIGMETRICS 2017; CMU-SAFARI/DRAM-Voltage-Study @ b2089c3",
    "none declared: the data are not shipped",
    ("modules of 2 GB assumed; 20 and 70 degrees; voltage down to 1.15 V hardly matters", "means over modules"),
)
SPATIAL = Source(
    "flips per bitline of 103 DDR3 modules; one fitted number only",
    "Lee et al., SIGMETRICS 2017; CMU-SAFARI/DIVA-DRAM @ b18d853",
    "none declared: the data are not shipped",
    ("shape of a Gamma distribution over 65,536 bitlines (assumed), median of modules; raw format inferred",),
)
SRAM = Source(
    "faults of the on-chip block RAM of two FPGA boards (28 nm) against supply voltage; fitted numbers only",
    "Salami et al., MICRO 2018; behzadsalami/FPGA-BRAMs-Undervoltig-Study @ 56b34b8",
    "none declared: the data are not shipped",
    ("98 to 100 % of the faults persist at the next lower voltage", "two boards: the spread between them is a guess"),
)


def main() -> None:
    data = places.data()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    tested, lowered = timings(data), voltages(data)
    slope, error = temperature_slope(tested)
    for vendor in ("A", "B", "C"):
        profile = MemoryProfile(
            name=f"ddr3-vendor{vendor}",
            vendor=vendor,
            kind="ddr3",
            nominal_v=1.35,
            banks=tuple(bank_rates(each) for each in tested if each.vendor == vendor and wrong(each)),
            voltage=voltage_curve(lowered[vendor], "lines", 10e-9),
            decades_per_c=slope,
            decades_per_c_error=error,
            line_shape=line_shape(data, vendor),
            sources=(LATENCY, VOLTAGE, SPATIAL, RETENTION),
            retention=retention(data, vendor),
        )
        save(profile, folder / f"{profile.name}.json", FORMAT)
        print(profile.name, len(profile.banks), profile.voltage, profile.line_shape)
    save(sram(data), folder / "sram-28nm.json", FORMAT)
    print("decades per degree", slope, "+-", error)


def wrong(tested: Timings) -> bool:
    """Tell whether this was tested at 20 degrees and any bank was wrong."""
    return tested.temperature_c == 20.0 and bool((tested.rates.log10_ber > FLOOR).any())


def bank_rates(tested: Timings) -> BankRates:
    """Predict every bank of an unseen module, type and all, for three kinds of data."""
    model = fit_banks(tested.rates)
    first = int(tested.trp_ns < 12.5)
    banks = [str(bank) if bank >= first else "mean" for bank in range(8)]
    mixed = [np.mean([predicted(model, pattern, banks) for pattern in ("alternate", "pairs")], axis=0)]
    stored = [predicted(model, "zeros", banks), *mixed, predicted(model, "ones", banks)]
    _, unseen = model.predict(asked(["zeros"], ["0" if not first else "1"], "unseen"))
    seen = str(tested.rates.module[0])
    _, inside = model.predict(asked(["zeros"], ["unseen"], seen, kind=str(tested.rates.kind[0])))
    return BankRates(
        trcd_s=tested.trcd_ns * 1e-9,
        trp_s=tested.trp_ns * 1e-9,
        log10_ber=tuple(tuple(float(f"{value:.4g}") for value in row) for row in stored),
        module_spread=float(f"{unseen[0]:.3g}"),
        bank_spread=float(f"{inside[0]:.3g}"),
        num_modules=len(np.unique(tested.rates.module)),
        floor=FLOOR,
    )


def predicted(model: BankModel, pattern: str, banks: list[str]) -> NDArray[np.float64]:
    mean, _ = model.predict(asked([pattern] * len(banks), banks, "unseen"))
    return np.clip(mean, FLOOR, 0.0)


def asked(patterns: list[str], banks: list[str], module: str, kind: str = "unseen") -> Measured:
    count = len(banks)
    return Measured(
        np.array([kind] * count), np.array([module] * count), np.array(patterns), np.array(banks), np.zeros(count)
    )


def voltage_curve(seen: AtVoltage, counted: Literal["bits", "lines"], timing_s: float) -> VoltageCurve:
    fit = fit_onsets(seen)
    return VoltageCurve(
        onset_ratio=float(f"{fit.onset_ratio:.5g}"),
        onset_spread=float(f"{fit.onset_spread:.3g}"),
        decades_per_ratio=float(f"{fit.decades_per_ratio:.4g}"),
        residual_spread=float(f"{fit.residual_spread:.3g}"),
        lowest_ratio=float(f"{seen.voltage_ratio.min():.5g}"),
        num_modules=len(np.unique(seen.module)),
        trcd_s=timing_s,
        trp_s=timing_s,
        counted=counted,
    )


def temperature_slope(tested: list[Timings]) -> tuple[float, float]:
    """Mean over modules of the slope of log10 of the rate over temperature, 0 where it is not clear, and its error."""
    base = {(one.vendor, one.trcd_ns, one.trp_ns): one.rates for one in tested if one.temperature_c == 20.0}
    differences: dict[str, list[tuple[float, float]]] = {}
    for one in tested:
        if one.temperature_c == 20.0:
            continue
        cold = dict(keyed(base[one.vendor, one.trcd_ns, one.trp_ns]))
        for key, value in keyed(one.rates):
            if cold.get(key, FLOOR) > FLOOR and FLOOR < value < -0.5:
                differences.setdefault(key[0], []).append((one.temperature_c - 20.0, value - cold[key]))
    slopes = []
    for pairs in differences.values():
        above, change = np.array(pairs).T
        slopes.append(float(above @ change / (above @ above)))
    print("slopes by module", {name: round(slope, 4) for name, slope in zip(differences, slopes, strict=True)})
    mean, error = float(np.mean(slopes)), float(np.std(slopes, ddof=1) / np.sqrt(len(slopes)))
    return float(f"{mean:.3g}") if abs(mean) > 2.0 * error else 0.0, float(f"{error:.3g}")


def keyed(rates: Measured) -> list[tuple[tuple[str, str, str], float]]:
    names = zip(rates.module.tolist(), rates.pattern.tolist(), rates.bank.tolist(), strict=True)
    return list(zip(names, rates.log10_ber.tolist(), strict=True))


def line_shape(data: Path, vendor: str) -> float:
    """Shape of the Gamma over bitlines whose Poisson counts have the Fano factor seen; median over modules."""
    shapes = []
    for row in rows(data / "diva2017_summary" / "diva_spatial_stats_derived.csv"):
        if row["vendor"] == vendor:
            shapes.append(float(row["n_flips_decoded"]) / NUM_BITLINES / (float(row["fano_bitline"]) - 1.0))
    return float(f"{np.median(shapes):.3g}")


def retention(data: Path, vendor: str) -> RetentionCurve:
    """Fit counts by a power of the interval and an exponential of temperature (quasi-Poisson, reweighted)."""
    counts: dict[tuple[float, float], list[float]] = {}
    with gzip.open(data / "chang2017_dram_voltage" / "retention_time_profile.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if row["vendor"] == vendor and float(row["vdd"]) == NOMINAL_V:
                key = (float(row["refresh_interval(ms)"]) / 1e3, float(row["temperature(C)"]))
                counts.setdefault(key, []).append(float(row["total_dimm_bit_err_count"]))
    tested = sorted(counts)
    longest_s = max(interval for interval, _ in tested)
    mean = np.array([np.mean(counts[key]) for key in tested])
    design = np.array([[1.0, np.log(interval / longest_s), degrees - 20.0] for interval, degrees in tested])
    fit = np.array([np.log(mean.max()) - 3.0, 5.0, 0.05])
    for _ in range(100):
        expected = np.exp(np.clip(design @ fit, -30.0, 30.0))
        step = np.linalg.solve(design.T @ (expected[:, None] * design), design.T @ (mean - expected))
        fit = fit + np.clip(step, -1.0, 1.0)
    clean_s = max(interval for interval, _ in tested if not any(sum(counts[k]) for k in tested if k[0] <= interval))
    values = (fit[0] - np.log(BITS)) / np.log(10), fit[1], fit[2] / np.log(10)
    at = [float(f"{value:.4g}") for value in values]
    return RetentionCurve(at[0], at[1], at[2], clean_s, longest_s, max(degrees for _, degrees in tested))


def sram(data: Path) -> MemoryProfile:
    found = rows(data / "bram2018_undervolting" / "ber_vs_voltage_from_info_sheets.csv")
    seen = AtVoltage(
        module=np.array([row["platform"] for row in found]),
        voltage_ratio=np.array([float(row["VCCBRAM_V"]) for row in found]),
        log10_ber=np.log10([float(row["ber"]) for row in found]),
        censored=np.zeros(len(found), dtype=np.int64),
    )
    return MemoryProfile(
        name="sram-28nm",
        vendor="FPGA block RAM",
        kind="sram",
        nominal_v=1.0,
        banks=(),
        voltage=voltage_curve(seen, "bits", 0.0),
        decades_per_c=0.0,
        decades_per_c_error=0.0,
        line_shape=None,
        sources=(SRAM,),
    )


if __name__ == "__main__":
    main()
