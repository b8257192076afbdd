"""What is told of clocks against governors: from `neurobalancer`."""

from __future__ import annotations

from functools import partial
from statistics import median

from bench.kit.told import Numbers, Result, between, count, percent, plain

SOURCES = {"neurobalancer": "neurobalancer@sim"}


def _saving(result: Result, chip: str, policy: str) -> str:
    (most,) = {each["value"] for each in result.judged(f"against {policy}, at most, {chip}")}
    return percent(most, 1)


def _median(result: Result, chip: str, policy: str) -> str:
    """Return the median saving over the networks and deadlines."""
    energy_j: dict[tuple[str, float], dict[str, float]] = {}
    for each in result.where(kind="energy", chip=chip):
        energy_j.setdefault((each["network"], each["factor"]), {})[each["policy"]] = each["energy_j"]
    return percent(median(1.0 - each["amble"] / each[policy] for each in energy_j.values()), 1)


def _optimum(result: Result, chip: str, policy: str) -> str:
    """Return the largest saving of the exact optimum, over the networks and deadlines, against a governor."""
    energy_j: dict[tuple[str, float], dict[str, float]] = {}
    for each in result.where(kind="energy", chip=chip):
        energy_j.setdefault((each["network"], each["factor"]), {})[each["policy"]] = each["energy_j"]
    both = [each for each in energy_j.values() if "exact optimum" in each and policy in each]
    return percent(max(1.0 - each["exact optimum"] / each[policy] for each in both), 1)


def _peak(result: Result) -> str:
    """Return the deadlines at which most is saved against `schedutil` on the phone, by network."""
    energy_j = {
        (each["network"], each["factor"], each["policy"]): each["energy_j"]
        for each in result.where(kind="energy", chip="snapdragon-phone-cpu")
    }
    saved: dict[str, dict[float, float]] = {}
    for (network, factor, policy), value in energy_j.items():
        if policy == "amble":
            saved.setdefault(network, {})[factor] = 1.0 - value / energy_j[network, factor, "schedutil"]
    return between([max(each, key=each.__getitem__) for each in saved.values()], 2)


def _one_clock(result: Result) -> str:
    plans = result.where(kind="energy", chip="jetson-orin-nano", factor=3.0, policy="amble")
    return count(each["segments"] == 1 for each in plans)


def _distances(result: Result) -> list[float]:
    """Return how far the largest savings of a plan are from those of the exact optimum, where they fall short."""
    missed = [
        ("snapdragon-phone-cpu", "schedutil"),
        ("snapdragon-phone-cpu", "sysscale"),
        ("jetson-orin-nano", "simple_ondemand"),
    ]
    return [
        abs(float(_optimum(result, *each).split()[0]) - float(_saving(result, *each).split()[0])) / 100
        for each in missed
    ]


NUMBERS: Numbers = {
    "neurobalancer.phone_schedutil": partial(_saving, chip="snapdragon-phone-cpu", policy="schedutil"),
    "neurobalancer.phone_sysscale": partial(_saving, chip="snapdragon-phone-cpu", policy="sysscale"),
    "neurobalancer.orin_ondemand": partial(_saving, chip="jetson-orin-nano", policy="simple_ondemand"),
    "neurobalancer.phone_schedutil_best": partial(_optimum, chip="snapdragon-phone-cpu", policy="schedutil"),
    "neurobalancer.phone_sysscale_best": partial(_optimum, chip="snapdragon-phone-cpu", policy="sysscale"),
    "neurobalancer.orin_ondemand_best": partial(_optimum, chip="jetson-orin-nano", policy="simple_ondemand"),
    "neurobalancer.phone_schedutil_median": partial(_median, chip="snapdragon-phone-cpu", policy="schedutil"),
    "neurobalancer.phone_sysscale_median": partial(_median, chip="snapdragon-phone-cpu", policy="sysscale"),
    "neurobalancer.orin_ondemand_median": partial(_median, chip="jetson-orin-nano", policy="simple_ondemand"),
    "neurobalancer.peak": _peak,
    "neurobalancer.orin_single": _one_clock,
    "neurobalancer.from_optimum": lambda r: plain(100 * max(_distances(r)), 1),
}
TABLES: Numbers = {}
