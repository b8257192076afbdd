"""What is told of models of time and power: from `prediction`."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.kit.told import Numbers, Record, Result, count, percent, plain
from bench.prediction import tables as tabulate_models

SOURCES = {"prediction": "prediction@cpu"}
NAMED = ("p-norm", "roofline", "linear", "interpolate", "han", "cpu-dvfs")


def _clean(result: Result) -> str:
    found = [each for each in result.targets if each["target"].endswith((" median", " p95"))]
    return f"{sum(each['met'] is True for each in found)} of {len(found)}"


def _all_met(result: Result) -> str:
    return f"{sum(each['met'] is True for each in result.targets)} of {len(result.targets)}"


def _new(result: Result) -> str:
    """Count the files met, of those on which nothing was chosen."""
    seen = {each["file"] for each in result.where(kind="few points", model="amble") if each["designed_on"]}
    files = [each for each in result.judged("figures at least as good") if each["target"].partition(":")[0] not in seen]
    return count(each["met"] is True for each in files)


def _below(result: Result) -> str:
    """By how much the p95 is below that of one baseline kept for all files, for each that has a name of its own."""
    few = result.where(kind="few points")
    mine = {each["file"]: each for each in few if each["model"] == "amble"}
    told = []
    for name in NAMED:
        gains = [_gain(mine[each["file"]], each) for each in few if each["model"] == name]
        told.append(f"{percent(float(np.mean(gains)))} (`{name}`)")
    return ", ".join(told)


def _gain(mine: Record, other: Record) -> float:
    """Return the mean over time and power of one file."""
    pairs = [(mine[name], other[name]) for name in ("time_p95", "power_p95")]
    return float(np.mean([1.0 - own / base for own, base in pairs if own is not None and base is not None]))


def _figure(result: Result, file: str, field: str, model: str = "amble") -> float:
    (found,) = result.where(kind="few points", file=file, model=model)
    return float(found[field])


def _against(result: Result, file: str, field: str, model: str = "") -> str:
    """Tell an error beside that of one baseline, or of the best: '4.1 against 3.0' [%]."""
    few = result.where(kind="few points", file=file)
    others = [each[field] for each in few if each["model"] != "amble" and model in ("", each["model"])]
    return f"{plain(_figure(result, file, field), 1)} against {plain(min(others), 1)}"


_TITAN_V = "titan-v-ulisboa-unitpower"
_ADA = "rtx5000-ada-darsh-llm-cap"


NUMBERS: Numbers = {
    "prediction.files": lambda r: r.met("figures at least as good").partition(" ")[0],
    "prediction.files_new": _new,
    "prediction.files_of": lambda r: r.met("figures at least as good"),
    "prediction.met": _all_met,
    "prediction.intervals": lambda r: r.met("in the 90 % interval"),
    "prediction.clean": _clean,
    "prediction.p95_all": lambda r: percent(r.value("p95 below the best", "all files")),
    "prediction.p95_new": lambda r: percent(r.value("p95 below the best", "first seen")),
    "prediction.p95_named": _below,
    "prediction.t4_covered": lambda r: plain(_figure(r, "tesla-t4-ulisboa-idle", "power_covered"), 2),
    "prediction.chai_covered": lambda r: plain(_figure(r, "jetson-tx2-osldvfs-chai", "power_covered"), 2),
    "prediction.pi_median": partial(_against, file="raspberry-pi-2b-tfpose", field="time_median"),
    "prediction.a4000_power": partial(_against, file="rtx-a4000-kerneltuner-fma", field="power_median"),
    "prediction.k40c_power": partial(_against, file="tesla-k40c-ulisboa-unitpower", field="power_median"),
    "prediction.rtx5000_median": partial(_against, file=_ADA, field="time_median", model="interpolate"),
    "prediction.rtx5000_p95": partial(_against, file=_ADA, field="time_p95", model="interpolate"),
    "prediction.titan_v": lambda r: plain(_figure(r, _TITAN_V, "power_median"), 1),
    "prediction.titan_v_linear": lambda r: plain(_figure(r, _TITAN_V, "power_median", "linear"), 1),
    "prediction.titan_xp_linear": lambda r: plain(_figure(r, "titan-xp-ulisboa-unitpower", "power_median", "linear")),
}
TABLES: Numbers = {
    "prediction.few_points": lambda r: "\n".join(tabulate_models.few_points(r.records)),
    "prediction.known_device": lambda r: "\n".join(tabulate_models.known_device(r.records)),
}
