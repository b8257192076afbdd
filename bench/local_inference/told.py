"""What is told of the single-clock problems: from `local_inference`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from bench.kit.told import Numbers, Record, Result, between, percent

_READINGS = {
    ("LOCAL-D", "energy", "measured"): "LOCAL-D: less energy, measured",
    ("LOCAL-E", "time", "measured"): "LOCAL-E: less time, measured",
    ("LOCAL-W", "energy", "measured"): "LOCAL-W: less energy, measured",
    ("LOCAL-W", "time", "measured"): "LOCAL-W: less time, measured",
    ("LOCAL-D", "energy", "told"): "LOCAL-D: less energy, as the models say",
    ("LOCAL-D", "time", "told"): "LOCAL-D: less time, as the models say",
}

SOURCES = {"local": "local_inference@cpu"}


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


def _table(records: list[Record]) -> Iterator[str]:
    """The largest saving of Han's choices in each reading of the published numbers."""
    summed = [record for record in records if "most" in record]
    models = list(dict.fromkeys(str(record["cpu_model"]) for record in summed))
    yield f"| reading | {' | '.join(f'`{model}`' for model in models)} |"
    yield "|" + "---|" * (len(models) + 1)
    for key, words in _READINGS.items():
        found = {
            str(record["cpu_model"]): record["most"]
            for record in summed
            if (record["problem"], record["saved"], record["words"]) == key
        }
        yield f"| {words} | " + " | ".join(f"{100 * float(str(found[model])):.0f} %" for model in models) + " |"


NUMBERS: Numbers = {
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
TABLES: Numbers = {"local.readings": lambda r: "\n".join(_table(r.records))}
