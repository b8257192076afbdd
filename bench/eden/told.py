"""What is told of networks on approximate memory: from `eden`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bench.dram_ceiling.told import SYSTEMS
from bench.kit.told import Numbers, Record, Result, between, count, mean, percent, plain

SOURCES = {"eden": "eden@cpu"}
NETWORKS = {
    "lenet": "LeNet-like",
    "vgg": "VGG-like",
    "resnet": "residual",
    "mobilenet": "MobileNet-like",
    "keywords": "keywords",
}
SEEDS, STRICT, WITHIN = (1, 2, 3), "tolerable_ber", "within_a_point_ber"
ONE_BIT = 1e-6  # of the rates in use the next is ten times this, and the one below expects about one bit in a megabyte


def _proven(result: Result) -> list[Record]:
    """Return the mappings that were proven and tried."""
    return [each for each in result.records if each.get("kept_of_40") is not None]


def _network(record: Record) -> tuple[object, ...]:
    return tuple(record[name] for name in ("network", "precision", "seed", "recipe", "vendor", "limits"))


def _tried(result: Result) -> str:
    """Count the tries of 40 modules each: a mapping that is the same on several systems was tried once."""
    return str(len({(*_network(each), each["highest_ber"], each["kept_of_40"]) for each in _proven(result)}))


def _saving(result: Result, field: str, system: str, vendor: str = "B") -> str:
    mine = [each[field] for each in _proven(result) if (each["system"], each["vendor"]) == (system, vendor)]
    return between(mine, scale=100, unit="%")


def _untried(result: Result, factor: float) -> str:
    """Tell the savings of mappings for vendor B at other error rates, which were made and not tried."""
    mine = result.column("saving", factor=factor, vendor="B")
    return between(mine, scale=100, unit="%")


def _algorithm_1(result: Result) -> str:
    return percent(1.0 - min(each["over_algorithm_1"] for each in result.records if "over_algorithm_1" in each))


def _case(result: Result, network: str, precision: str, seed: int, recipe: str, field: str) -> float:
    found = result.where(network=network, precision=precision, seed=seed, recipe=recipe)
    return float(next(each[field] for each in found if each.get(field) is not None and "system" not in each))


def _retrained(result: Result) -> str:
    """Lay the rates before and after retraining beside each other."""
    lines = [
        "| network | borne before | after the curriculum, times | after the better recipe, times | strictly "
        "| points lost without errors | at 3e-3 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for network, words in NETWORKS.items():
        for precision in ("int8", "fp32"):
            lines.append(f"| {words}, {precision.upper()} | " + " | ".join(_cells(result, network, precision)) + " |")
    return "\n".join(lines)


def _cells(result: Result, network: str, precision: str) -> list[str]:
    case = partial(_case, result, network, precision)

    def times(recipe: str, field: str) -> str:
        return ", ".join(f"{case(seed, recipe, field) / case(seed, 'none', field):.1f}" for seed in SEEDS)

    def points(recipe: str, field: str) -> str:
        return f"{round(100 * mean([case(seed, recipe, field) for seed in SEEDS]), 1) + 0.0:.1f}"

    before = ", ".join(f"{case(seed, 'none', WITHIN):.1e}".replace("e-0", "e-") for seed in SEEDS)
    better = f"**{times('better', WITHIN)}**"
    clean = " / ".join(points(each, "lost_clean") for each in ("faithful", "better"))
    hit = " / ".join(points(each, "unseen at 0.003") for each in ("none", "faithful", "better"))
    return [before, times("faithful", WITHIN), better, times("better", STRICT), clean, hit]


def _raised(result: Result, said: str, precision: str, *, image: bool = True) -> list[Record]:
    found = result.judged("rate borne after the better recipe", said, f", {precision},")
    return [each for each in found if each["target"].startswith("keywords") is not image]


def _times(result: Result, network: str, precision: str, recipe: str, field: str = WITHIN) -> list[float]:
    """Return how many times the rate before is borne after a recipe, for each seed."""
    case = partial(_case, result, network, precision, field=field)
    return [case(seed, recipe) / case(seed, "none") for seed in SEEDS if result.where(recipe=recipe, seed=seed)]


def _first(result: Result, recipe: str, field: str) -> str:
    """Tell the times for the LeNet-like network in INT8, first seed."""
    case = partial(_case, result, "lenet", "int8", 1, field=field)
    return plain(case(recipe) / case("none"), 1)


def _apart(result: Result) -> str:
    """Tell how far apart the rates of base networks in INT8 are that differ in the seed alone, at most."""
    rates = [[_case(result, each, "int8", seed, "none", WITHIN) for seed in SEEDS] for each in list(NETWORKS)[:4]]
    return plain(max(max(each) / min(each) for each in rates), 1)


def _scientific(values: Iterable[float]) -> str:
    found = sorted(values)
    return f"{found[0]:.1e} to {found[-1]:.1e}".replace("e-0", "e-")


def _base(result: Result, field: str) -> list[float]:
    """Return a rate of every untrained network in FP32."""
    return [_case(result, network, "fp32", seed, "none", field) for network in NETWORKS for seed in SEEDS]


def _left_out(result: Result, recipe: str) -> str:
    return f"{100 * _case(result, 'lenet', 'int8', 1, recipe, 'left out, at 0.003'):.1f}".replace("-", "−")


def _gained(result: Result, recipe: str) -> list[float]:
    return [
        _case(result, network, precision, seed, recipe, WITHIN)
        / _case(result, network, precision, seed, "none", WITHIN)
        for network in NETWORKS
        for precision in ("int8", "fp32")
        for seed in SEEDS
    ]


NUMBERS: Numbers = {
    "eden.mappings": lambda r: str(len(_proven(r))),
    "eden.networks": lambda r: str(len({_network(each) for each in _proven(r)})),
    "eden.kept": lambda r: between([40 * each["kept_of_40"] for each in _proven(r)]),
    "eden.one_bit": lambda r: count(each["highest_ber"] < ONE_BIT for each in _proven(r)),
    "eden.one_bit_rate": lambda r: (
        f"{max(each['highest_ber'] for each in _proven(r) if each['highest_ber'] < ONE_BIT):.0e}".replace("e-0", "e-")
    ),
    "eden.tried": _tried,
    **{f"eden.saving_{each}": partial(_saving, field="saving", system=each) for each in SYSTEMS},
    "eden.saving_others": lambda r: between(
        [each["saving"] for each in _proven(r) if each["vendor"] != "B"], scale=100, unit="%"
    ),
    "eden.saving_lowest": partial(_untried, factor=1.0),
    "eden.saving_highest": partial(_untried, factor=100.0),
    "eden.saving_published": lambda r: r.met("saving of a verified mapping"),
    "eden.time_published": lambda r: r.met("time saved by a verified mapping"),
    "eden.time_cpu": partial(_saving, field="time_saved", system="cpu"),
    "eden.time_gpu": partial(_saving, field="time_saved", system="gpu"),
    "eden.algorithm_1": _algorithm_1,
    "eden.algorithm_1_less": lambda r: percent(r.value("networks on which the assignment is strictly better")),
    "eden.greedy": lambda r: count(each["over_greedy"] > 0.999 for each in r.records if "over_greedy" in each),
    "eden.raised": lambda r: count(each["met"] is True for each in _raised(r, "within one point", "int8")),
    "eden.raised_strictly": lambda r: count(each["met"] is True for each in _raised(r, "nothing gained", "int8")),
    "eden.not_raised": lambda r: between(
        [each["value"] for each in _raised(r, "within one point", "int8") if each["met"] is False], 1
    ),
    "eden.raised_keywords": lambda r: between(
        [each["value"] for each in _raised(r, "within one point", "int8", image=False)], 1
    ),
    "eden.raised_fp32": lambda r: plain(
        max(each["value"] for image in (True, False) for each in _raised(r, "within one point", "fp32", image=image)), 1
    ),
    "eden.seeds_apart": _apart,
    "eden.plain": partial(_first, recipe="plain", field=WITHIN),
    "eden.better": partial(_first, recipe="better", field=WITHIN),
    "eden.plain_strictly": partial(_first, recipe="plain", field=STRICT),
    "eden.better_strictly": partial(_first, recipe="better", field=STRICT),
    "eden.uncorrected": lambda r: _scientific(_base(r, "uncorrected_ber")),
    "eden.corrected": lambda r: _scientific(_base(r, STRICT)),
    **{
        f"eden.left_out.{each}": partial(_left_out, recipe=each)
        for each in ("fixed", "fitted", "fresh", "faithful", "none", "plain", "better")
    },
    "eden.mobilenet_faithful": lambda r: ", ".join(
        plain(each, 1) for each in _times(r, "mobilenet", "fp32", "faithful")
    ),
    "eden.mobilenet_better": lambda r: ", ".join(plain(each, 1) for each in _times(r, "mobilenet", "fp32", "better")),
    "eden.unseen": lambda r: r.met("loss on unseen patterns"),
    "eden.unseen_modules": lambda r: r.met("loss on unseen measured modules"),
    "eden.curriculum": lambda r: between(_gained(r, "faithful"), 1),
}
TABLES: Numbers = {"eden.retrained": _retrained}
