"""What is told of how far simulated chips are from real ones: from `calibration`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Result, between, count

SOURCES = {"calibration": "calibration@cpu"}


def _error(result: Result, figure: str, chip: str, what: str) -> str:
    (found,) = {each[figure] for each in result.where(chip=chip) if each["what"] == what}
    return f"{found:.1f} %"


_CURVE = "against its own curve: power heavy networks"
_WATTS = "power heavy networks, table of watts"


def _errors(result: Result, what: str, figure: str, chip: str = "") -> list[float]:
    """Return an error of every calibrated chip, or of one, in time or in power [%]."""
    mine = [each for each in result.records if what in each["what"] and chip in each["chip"]]
    return [each[figure] for each in mine if each[figure] is not None]


def _medians(result: Result, what: str, chip: str = "") -> str:
    return between(_errors(result, what, "median_percent", chip), 1, unit="%")


def _p95(result: Result, what: str) -> str:
    return f"{max(_errors(result, what, 'p95_percent')):.0f} %"


def _uncalibrated(result: Result) -> str:
    return count(each["what"] == "uncalibrated" for each in {each["chip"]: each for each in result.records}.values())


NUMBERS: Numbers = {
    "calibration.times": partial(_medians, what="time "),
    "calibration.times_p95": partial(_p95, what="time "),
    "calibration.powers": partial(_medians, what="power"),
    "calibration.powers_p95": partial(_p95, what="power"),
    "calibration.orin_times": partial(_medians, what="time ", chip="jetson-orin-nano-super"),
    "calibration.orin_powers": partial(_medians, what="power", chip="jetson-orin-nano-super"),
    "calibration.uncalibrated": _uncalibrated,
    "calibration.p40_watts": partial(_error, figure="median_percent", chip="tesla-p40", what=_WATTS),
    "calibration.p40_watts_p95": partial(_error, figure="p95_percent", chip="tesla-p40", what=_WATTS),
    "calibration.p40_curve": partial(_error, figure="median_percent", chip="tesla-p40", what=_CURVE),
    "calibration.p40_curve_p95": partial(_error, figure="p95_percent", chip="tesla-p40", what=_CURVE),
}
TABLES: Numbers = {}
