"""What is told of the part of the study of approximate memory that was done again: from `eden_again`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Record, Result, between, plain

SOURCES = {"eden_again": "eden_again@cpu"}
WITHIN, STRICT = "within_a_point_ber", "tolerable_ber"


def _case(result: Result, recipe: str) -> Record:
    (found,) = (each for each in result.where(recipe=recipe) if WITHIN in each)
    return found


def _times(result: Result, recipe: str, field: str = WITHIN) -> str:
    """Tell how many times the rate before is borne after a recipe: today, or in the log."""
    count, _, when = field.partition(" ")
    name = f"{count} {when}".strip()
    return plain(float(_case(result, recipe)[name]) / float(_case(result, "none")[name]), 1)


def _rate(result: Result, field: str) -> str:
    return f"{_case(result, 'none')[field]:.1e}".replace("e-0", "e-")


def _proven(result: Result) -> list[Record]:
    return [each for each in result.records if each.get("kept_of_40") is not None]


def _off(result: Result, part: str, digits: int) -> str:
    """Tell by how many points at most a kind of value is off the one before."""
    return plain(100.0 * max(result.values(part)), digits)


NUMBERS: Numbers = {
    "eden_again.mappings": lambda r: str(len(_proven(r))),
    "eden_again.kept": lambda r: between([40 * each["kept_of_40"] for each in _proven(r)]),
    "eden_again.base": partial(_rate, field=WITHIN),
    "eden_again.base_before": partial(_rate, field=f"{WITHIN} before"),
    "eden_again.better": partial(_times, recipe="better"),
    "eden_again.better_before": partial(_times, recipe="better", field=f"{WITHIN} before"),
    "eden_again.strictly": partial(_times, recipe="better", field=STRICT),
    "eden_again.strictly_before": partial(_times, recipe="better", field=f"{STRICT} before"),
    "eden_again.accuracy": partial(_off, part="held-out accuracy off", digits=1),
    "eden_again.saving": partial(_off, part="saving off", digits=1),
}
TABLES: Numbers = {}
