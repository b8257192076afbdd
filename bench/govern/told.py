"""What is told of a governor in virtual time: from `govern`."""

from __future__ import annotations

from collections.abc import Callable

from bench.kit.told import Numbers, Result, between, percent, plain

SOURCES = {"govern": "govern@sim"}
_TO = 0.7


def _saving(plant: str, trace: str, least: float, most: float) -> Callable[[Result], str]:
    def told(result: Result) -> str:
        cells = result.where(policy="amble", plant=plant, trace=trace)
        cells = [each for each in cells if least <= each["load"] <= most]
        return between((each["saving"] for each in cells), scale=100, unit="%")

    return told


def _over(plant: str) -> Callable[[Result], str]:
    def told(result: Result) -> str:
        return between(result.values(plant, "over best that keeps"), 1, scale=100, unit="%")

    return told


def _worst(plant: str) -> Callable[[Result], str]:
    return lambda result: plain(max(result.values(plant, "late above maximum")), 2)


def _hindsight(result: Result) -> str:
    return percent(max(result.values("over hindsight")))


def _busiest(result: Result) -> str:
    cells = result.where(policy="amble", trace="azure at its busiest", maximum_keeps=True)
    return between((each["saving"] for each in cells), scale=100, unit="%")


def _played(result: Result) -> str:
    """Count the cells that were compared with hindsight, of all that are judged and not at the recording's busiest."""
    cells = [each for each in result.where(policy="amble", maximum_keeps=True) if "busiest" not in each["trace"]]
    return f"{len(result.values('over hindsight'))} of {len(cells)}"


def _proven(result: Result) -> str:
    runs = round(result.value("runs with a stated saving"))
    return f"{round(runs * result.value('stated saving holds the truth'))} of {runs}"


NUMBERS: Numbers = {
    "govern.v100": _saving("v100", "poisson", 0.0, _TO),
    "govern.v100_full": _saving("v100", "poisson", 0.9, 0.9),
    "govern.v100_over": _over("v100"),
    "govern.v100_late": _worst("v100"),
    "govern.orin": _saving("jetson-orin-nano", "poisson", 0.0, 1.0),
    "govern.orin_over": _over("jetson-orin-nano"),
    "govern.rtx3090": _saving("rtx3090", "azure", 0.0, 1.0),
    "govern.rtx3090_over": _over("rtx3090"),
    "govern.rtx3090_busiest": _busiest,
    "govern.rtx3090_late": _worst("rtx3090"),
    "govern.mean": lambda result: percent(result.value("mean saving against maximum")),
    "govern.hindsight": _hindsight,
    "govern.played": _played,
    "govern.proven": _proven,
    "govern.faults": lambda result: f"{result.value('injected faults'):.0f}",
    "govern.idle": lambda result: between(result.values("loaded idle", "power saved"), scale=100, unit="%"),
}
TABLES: Numbers = {}
