"""The folder of measured data -> rates of banks and modules as arrays, as the fits of approximate memory take them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amble.levers.memory.voltage import AtVoltage
from amble.stages.fit.banks import Measured

FLOOR = -10.0  # of a mean over repeats; one wrong bit of a bank is 10^-9.03
PATTERNS = {
    "0x0": "zeros",
    "0xff": "ones",
    "0xaa": "alternate",
    "0x55": "alternate",
    "0xcc": "pairs",
    "0x33": "pairs",
    "0x66": "shifted",
    "0x99": "shifted",
}
NOMINAL_V = 1.35


@dataclass(frozen=True, slots=True)
class Timings:
    """Rates of a vendor's banks at one pair of timings [ns] and one temperature [C]."""

    vendor: str
    trcd_ns: float
    trp_ns: float
    temperature_c: float
    rates: Measured


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def timings(data: Path) -> list[Timings]:
    """Every tested pair of timings; banks 1 to 7 alone where tRP is short, since bank 0 was not tested there."""
    groups: dict[tuple[str, float, float, float], list[dict[str, str]]] = {}
    for row in rows(data / "chang2016_dram_latency" / "ber_by_dimm_condition_derived.csv"):
        key = (row["VendorMask"], float(row["tRCD"]), float(row["tRP"]), float(row["Temperature"]))
        groups.setdefault(key, []).append(row)
    return [Timings(*key, _measured(found, range(int(key[2] < 12.5), 8))) for key, found in sorted(groups.items())]


def _measured(found: list[dict[str, str]], banks: range) -> Measured:
    cells = [(row, bank) for row in found for bank in banks]
    return Measured(
        kind=np.array([row["Model"] for row, _ in cells]),
        module=np.array([row["Label"] for row, _ in cells]),
        pattern=np.array([PATTERNS[row["Pattern"]] for row, _ in cells]),
        bank=np.array([str(bank) for _, bank in cells]),
        log10_ber=np.log10(np.maximum([float(row[f"Bank{bank}"]) for row, bank in cells], 10.0**FLOOR)),
    )


def voltages(data: Path) -> dict[str, AtVoltage]:
    """Lower bounds of the rate at lowered voltages, by vendor; decision 3 says what is exact."""
    found = rows(data / "chang2017_dram_voltage" / "faulty_cachelines_with_ber_equiv_derived.csv")
    return {vendor: _at_voltage([row for row in found if row["vendor"] == vendor]) for vendor in ("A", "B", "C")}


def _at_voltage(found: list[dict[str, str]]) -> AtVoltage:
    share: NDArray[np.float64] = np.array([float(row["line_error_fraction"]) for row in found])
    seen = 1.0 / 2**25  # one line of those tested
    rate = -np.log1p(-np.minimum(np.maximum(share, seen), 0.49)) / 512.0
    return AtVoltage(
        module=np.array([row["dimm_name"] for row in found]),
        voltage_ratio=np.array([float(row["vdd"]) / NOMINAL_V for row in found]),
        log10_ber=np.log10(rate),
        censored=np.where(share == 0.0, -1, np.where(share >= 0.49, 1, 0)),
    )
