"""What is told of how far simulated chips are from real ones: from `calibration`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Result

SOURCES = {"calibration": "calibration@cpu"}


def _error(result: Result, figure: str, chip: str, what: str) -> str:
    (found,) = {each[figure] for each in result.where(chip=chip) if each["what"] == what}
    return f"{found:.1f} %"


_CURVE = "against its own curve: power heavy networks"
_WATTS = "power heavy networks, table of watts"


NUMBERS: Numbers = {
    "calibration.p40_watts": partial(_error, figure="median_percent", chip="tesla-p40", what=_WATTS),
    "calibration.p40_watts_p95": partial(_error, figure="p95_percent", chip="tesla-p40", what=_WATTS),
    "calibration.p40_curve": partial(_error, figure="median_percent", chip="tesla-p40", what=_CURVE),
    "calibration.p40_curve_p95": partial(_error, figure="p95_percent", chip="tesla-p40", what=_CURVE),
}
TABLES: Numbers = {}
