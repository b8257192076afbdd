"""What is told of the governors in virtual time: from `pit`."""

from __future__ import annotations

from collections.abc import Sequence

from bench.kit.told import Numbers, Record, Result, between, count, percent, plain
from bench.pit import plot as plot_pit

SOURCES = {"pit": "pit@sim"}
_FLOOR = 0.995  # of FP32's accuracy
_ABSURD = 0.5  # above the bound: see plot_pit


def _best(result: Result, name: str) -> list[float]:
    """Return the lowest value over the loads of what `pit` comes to, for each network of the paper's kind."""
    shape = result.where(part="shape")
    return [min(each[name] for each in shape if each["network"] == one) for one in {each["network"] for each in shape}]


def _stated(result: Result, stated: float, name: str) -> list[float]:
    return [float(each[name]) for each in result.where(part="misstated", stated=stated)]


def _dearer(result: Result) -> list[float]:
    """Return how much more energy a request takes where the ladder states twice the loss, cell by cell."""
    twice, true = _stated(result, 0.012, "energy_j"), _stated(result, 0.006, "energy_j")
    return [one / other - 1.0 for one, other in zip(twice, true, strict=True)]


def _split(result: Result, **fields: object) -> list[tuple[float, float, float]]:
    """Return arrivals, settling and the governor's own part of the distance from the bound, cell by cell [points]."""
    found = []
    for each in result.where(part="bound", **fields):
        online, settled = (plot_pit.above(each, name) for name in ("online_j", "online_settled_j"))
        if each["trace"] != "on-off" and online < _ABSURD:
            found.append((100 * settled, 100 * (online - settled), 100 * (each["gap"] - online)))
    return found


def _own(result: Result, traces: Sequence[str]) -> list[float]:
    return [own for trace in traces for _, _, own in _split(result, trace=trace)]


def _shape(result: Result, load: float) -> Record:
    (found,) = result.where(part="shape", network="pnasnet-large", load=load)
    return found


def _cells(result: Result) -> list[dict[str, Record]]:
    """Return what every governor came to, cell by cell."""
    cells: dict[tuple[object, ...], dict[str, Record]] = {}
    for each in result.where(part="sweep"):
        key = each["network"], each["factor"], each["trace"], each["load"]
        cells.setdefault(key, {})[each["governor"]] = each
    return list(cells.values())


def _refused(result: Result) -> list[float]:
    """Return how often the rival misses for each miss of `amble`, where `amble` takes more energy than it."""
    return [
        cell[name]["missed"] / cell["amble"]["missed"]
        for cell in _cells(result)
        for name in ("pit", "dvfs")
        if cell[name]["accuracy"] >= _FLOOR and cell["amble"]["energy_j"] > cell[name]["energy_j"]
    ]


def _no_more_than_any_pit(result: Result) -> str:
    """Count the cells in which `amble` takes no more energy than `pit`, whatever accuracy `pit` keeps."""
    return count(cell["amble"]["energy_j"] <= cell["pit"]["energy_j"] for cell in _cells(result))


def _dearest(result: Result) -> str:
    over = [each["value"] - 1.0 for each in result.judged("energy over pit's") if each["met"] is False]
    return between(over, scale=100, unit="%")


def _more_missed(result: Result) -> list[Record]:
    return [each for each in result.judged("amble's misses more than max's") if each["met"] is not True]


def _max_missed(result: Result) -> str:
    """Tell what `max` misses where `amble` misses more than is allowed."""
    names = {each["target"].partition(":")[0] for each in _more_missed(result)}
    found = [
        cell["max"]["missed"]
        for cell in _cells(result)
        if "{network}, {trace}, load {load}".format(**cell["max"]) in names
    ]
    return between(found, 1, scale=100, unit="%") if found else "nothing"


NUMBERS: Numbers = {
    "pit.more_missed": lambda r: between([each["value"] for each in _more_missed(r)] or [0.0], 2),
    "pit.max_missed": _max_missed,
    "pit.no_more_energy_count": lambda r: r.met("energy over pit's").partition(" ")[0],
    "pit.cases": lambda r: r.met("energy over pit's").rpartition(" ")[2],
    "pit.missed_met": lambda r: r.met("amble's misses more than max's"),
    "pit.near_bound": lambda r: r.met("above the lower bound"),
    "pit.paper_energy": lambda r: between([-each for each in _best(r, "energy")], scale=100, unit="%"),
    "pit.paper_response": lambda r: between([-each for each in _best(r, "response")], scale=100, unit="%"),
    "pit.paper_accuracy": lambda r: between(_best(r, "accuracy"), 2, scale=100, unit="%"),
    "pit.paper_within": lambda r: r.met("paper, "),
    "pit.stated_half": lambda r: percent(min(_stated(r, 0.003, "accuracy")), 2),
    "pit.stated_half_told": lambda r: percent(min(_stated(r, 0.003, "told")), 2),
    "pit.stated_true": lambda r: percent(min(_stated(r, 0.006, "accuracy")), 2),
    "pit.stated_twice": lambda r: percent(min(_stated(r, 0.012, "accuracy")), 2),
    "pit.stated_twice_energy": lambda r: between(_dearer(r), scale=100, unit="%"),
    "pit.stated_twice_missed": lambda r: percent(max(_stated(r, 0.012, "missed")), 1),
    "pit.stated_true_missed": lambda r: percent(max(_stated(r, 0.006, "missed")), 1),
    "pit.settling": lambda r: between(
        [settling for load in (0.5, 0.7) for _, settling, _ in _split(r, network="resnet50", factor=1.1, load=load)]
    ),
    "pit.unknown": lambda r: plain(max(unknown for unknown, _, _ in _split(r, load=0.9))),
    "pit.own_steady": lambda r: count(each < 5.0 for each in _own(r, ("poisson", "twitter", "azure"))),
    "pit.own_bursts": lambda r: between(_own(r, ("bursts",))),
    "pit.own_ramp": lambda r: plain(max(_own(r, ("ramp",)))),
    "pit.pit_accurate": lambda r: count(cell["pit"]["accuracy"] >= _FLOOR for cell in _cells(r)),
    "pit.no_more_than_any_pit": _no_more_than_any_pit,
    "pit.loose": lambda r: between([each["loose"] for each in r.where(part="looseness")], 1, scale=100, unit="%"),
    "pit.dearest": _dearest,
    "pit.refused": lambda r: plain(min(_refused(r)), 1),
    "pit.accuracy_at_95": lambda r: percent(_shape(r, 0.95)["accuracy"], 2),
    "pit.p95_missed": lambda r: between(
        [each["value"] for each in r.judged("keeps p95") if each["met"] is False], 1, scale=100, unit="%"
    ),
    "pit.ramp_kept": lambda r: count(each["met"] is True for each in r.judged("ramp, load 1.1", "keeps p95")),
}
TABLES: Numbers = {
    "pit.all": lambda r: plot_pit.tables({"results": r.records, "targets": r.targets, "quick": False}),
}
