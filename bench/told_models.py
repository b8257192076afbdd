"""What is told of models of time and power: from `prediction`, `regret` and `local_inference`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tabulate_models
from told import Numbers, Record, Result, between, percent, plain

NAMED = ("p-norm", "roofline", "linear", "interpolate", "han", "cpu-dvfs")
SOURCES = {"prediction": "prediction@cpu", "regret": "regret@cpu", "local": "local_inference@cpu"}


def _clean(result: Result) -> str:
    found = [each for each in result.targets if each["target"].endswith((" median", " p95"))]
    return f"{sum(each['met'] is True for each in found)} of {len(found)}"


def _all_met(result: Result) -> str:
    return f"{sum(each['met'] is True for each in result.targets)} of {len(result.targets)}"


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


def _choices(result: Result, kept: str, **fields: Any) -> float:
    """Return the share of Han's or another's choices in LOCAL-D that kept their bound."""
    mine = result.where(problem="LOCAL-D", **fields)
    return float(sum(each[kept] for each in mine) / sum(each["choices"] for each in mine))


def _saved(result: Result, **fields: Any) -> float:
    """Return the mean energy saved in LOCAL-D."""
    mine = [each for each in result.where(problem="LOCAL-D", **fields) if each["energy_saved_mean"] is not None]
    return float(
        np.average([each["energy_saved_mean"] for each in mine], weights=[each["aware_kept"] for each in mine])
    )


def _most(result: Result, words: str, saved: str, *, own: bool, problem: str | None = None) -> list[float]:
    """Return the largest savings against CPU-DVFS calibrated on the network itself, or on another one."""
    return [
        each["most"]
        for each in result.where(saved=saved, words=words)
        if "most" in each and ("reference" not in each["cpu_model"]) is own and problem in (None, each["problem"])
    ]


_HAN = partial(_saved, aware_model="han")
_TITAN_V = "titan-v-ulisboa-unitpower"
_ADA = "rtx5000-ada-darsh-llm-cap"
_TIGHT, _WIDE = "all files, at most 10 % slower", "all files, deadlines 1.1-2 x fastest"
NUMBERS: Numbers = {
    "prediction.files": lambda r: r.met("figures at least as good").partition(" ")[0],
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
    "regret.energy": lambda r: percent(r.value(_WIDE, "mean"), 2),
    "regret.p95": lambda r: percent(r.value(_WIDE, "p95"), 1),
    "regret.missed": lambda r: percent(r.value(_WIDE, "missed"), 1),
    "regret.tight_energy": lambda r: percent(r.value(_TIGHT, "mean"), 1),
    "regret.tight_p95": lambda r: percent(r.value(_TIGHT, "p95"), 1),
    "regret.tight_missed": lambda r: percent(r.value(_TIGHT, "missed"), 1),
    "local.time_own": lambda r: " and ".join(
        percent(max(_most(r, "measured", "time", own=True, problem="LOCAL-E")[k : k + 1])) for k in (0, 1)
    ),
    "local.time_weighted": lambda r: percent(max(_most(r, "measured", "time", own=True, problem="LOCAL-W"))),
    "local.time_reference": lambda r: percent(max(_most(r, "measured", "time", own=False))),
    "local.energy_measured": lambda r: percent(
        max(_most(r, "measured", "energy", own=True) + _most(r, "measured", "energy", own=False))
    ),
    "local.han_least_squares": lambda r: percent(_HAN(r, cpu_model="cpu-dvfs"), 1).replace("-", "−"),
    "local.han_top": lambda r: percent(_HAN(r, cpu_model="cpu-dvfs-top"), 1),
    "local.han_kept": lambda r: percent(_choices(r, "aware_kept", aware_model="han", cpu_model="cpu-dvfs")),
    "local.cpu_kept": lambda r: percent(_choices(r, "cpu_kept", aware_model="han", cpu_model="cpu-dvfs")),
    "local.top_kept": lambda r: percent(_choices(r, "cpu_kept", aware_model="han", cpu_model="cpu-dvfs-top")),
    "local.amble": lambda r: " and ".join(
        percent(_saved(r, aware_model="amble", cpu_model=each)) for each in ("cpu-dvfs", "cpu-dvfs-top")
    ),
    "local.amble_kept": lambda r: percent(_choices(r, "aware_kept", aware_model="amble", cpu_model="cpu-dvfs")),
    "local.told_energy_top": lambda r: percent(max(_most(r, "told", "energy", own=True))),
    "local.told_time_own": lambda r: percent(max(_most(r, "told", "time", own=True))),
    "local.told_time": lambda r: between(_most(r, "told", "time", own=False), scale=100, unit="%"),
}
TABLES: Numbers = {
    "prediction.few_points": lambda r: "\n".join(tabulate_models.few_points(r.records)),
    "prediction.known_device": lambda r: "\n".join(tabulate_models.known_device(r.records)),
    "regret.rules": lambda r: "\n".join(tabulate_models.regret(r.records)),
    "local.readings": lambda r: "\n".join(tabulate_models.local_inference(r.records)),
}
