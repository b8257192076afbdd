"""What is told of a governor in virtual time: from `govern`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.kit.told import Numbers, Result, between, percent, plain

SOURCES = {"govern": "govern@sim"}
_TO = 0.7
_AZURE, _BUSIEST = ("azure",), ("azure at its busiest",)
_UNEVEN = ("bursts", "on-off", "twitter")
_MADE = ("poisson", *_UNEVEN)


def _saving(plant: str, traces: Sequence[str], least: float, most: float) -> Callable[[Result], str]:
    def told(result: Result) -> str:
        cells = [each for each in result.where(policy="amble", plant=plant) if each["trace"] in traces]
        cells = [each for each in cells if each["maximum_keeps"] and least <= each["load"] <= most]
        return between((each["saving"] for each in cells), scale=100, unit="%")

    return told


def _over(plant: str) -> Callable[[Result], str]:
    def told(result: Result) -> str:
        return between(result.values(plant, "over best that keeps"), 1, scale=100, unit="%")

    return told


def _worst(plant: str) -> Callable[[Result], str]:
    return lambda result: plain(max(result.values(plant, "late above maximum")), 2)


def _as_found(result: Result) -> str:
    faults, wrong = (result.value(name) for name in ("injected faults", "faults with clocks not as found"))
    return f"{faults - wrong:.0f} of {faults:.0f}"


def _hindsight(result: Result) -> str:
    return percent(max(result.values("over hindsight")))


def _judged(result: Result) -> str:
    """Count the cells where maximum clocks keep the objectives, of all."""
    cells = result.where(policy="amble")
    return f"{sum(each['maximum_keeps'] for each in cells)} of {len(cells)}"


def _played(result: Result) -> str:
    """Count the cells that were compared with hindsight, of all that are judged and not at the recording's busiest."""
    cells = [each for each in result.where(policy="amble", maximum_keeps=True) if "busiest" not in each["trace"]]
    return f"{len(result.values('over hindsight'))} of {len(cells)}"


def _proven(result: Result) -> str:
    runs = round(result.value("runs with a stated saving"))
    return f"{round(runs * result.value('stated saving holds the truth'))} of {runs}"


NUMBERS: Numbers = {
    "govern.judged": _judged,
    "govern.v100": _saving("v100", ("poisson",), 0.0, _TO),
    "govern.v100_full": _saving("v100", ("poisson",), 0.9, 0.9),
    "govern.v100_uneven": _saving("v100", _UNEVEN, 0.0, 1.0),
    "govern.v100_over": _over("v100"),
    "govern.v100_late": _worst("v100"),
    "govern.orin": _saving("jetson-orin-nano", _MADE, 0.0, 1.0),
    "govern.orin_over": _over("jetson-orin-nano"),
    "govern.rtx3090": _saving("rtx3090", _AZURE, 0.0, 1.0),
    "govern.rtx3090_made": _saving("rtx3090", _MADE, 0.0, 1.0),
    "govern.rtx3090_over": _over("rtx3090"),
    "govern.rtx3090_busiest": _saving("rtx3090", _BUSIEST, 0.0, 1.0),
    "govern.mean": lambda result: percent(result.value("mean saving against maximum")),
    "govern.hindsight": _hindsight,
    "govern.played": _played,
    "govern.proven": _proven,
    "govern.faults": _as_found,
    "govern.late_full": _worst("rtx3090"),
    "govern.late_most": _worst("late above maximum"),
    "govern.idle": lambda result: between(result.values("loaded idle", "power saved"), scale=100, unit="%"),
}
TABLES: Numbers = {}
