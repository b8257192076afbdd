"""What is told of pruning: from `tail`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from bench.kit.told import Numbers, Result, between, percent, signed
from bench.tail import beside

SOURCES = {"tail": "tail@cpu"}
_WORDS = {"vgg": "VGG-like", "resnet": "ResNet-like", "mobilenet": "MobileNetV2-like"}
_MEASURED = "accuracy mode, time as measured"
_PLANNED = "planned, time as measured"


def _table(result: Result) -> str:
    """Lay every rule beside the others: accuracy and time at batch 1, and what planned widths win in its time."""
    names = [_WORDS[each] for each in beside.NETWORKS]
    lines = ["| | " + " | ".join(f"{each}: accuracy, time, won in its time" for each in names) + " |"]
    lines.append("| --- |" + " --- |" * len(names))
    lines.append("| unpruned | " + " | ".join(_cell(result, each, "none", "whole") for each in beside.NETWORKS) + " |")
    for level in beside.LEVELS:
        for rule in (*beside.RULES, "planned"):
            cells = [_cell(result, each, level, rule) for each in beside.NETWORKS]
            lines.append(f"| {level}: {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(result: Result, network: str, level: str, variant: str) -> str:
    accuracy, time_s = beside.side(result.records, network, level, variant)
    told = f"{percent(accuracy, 1)}, {1e6 * time_s:.0f} µs"
    if variant not in beside.RULES:
        return told
    won, seeds = beside.won(result.records, network, level, variant), _as_quick(result, network, level, variant)
    some = f" ({seeds} of {len(beside.SEEDS)} seeds)" if seeds < len(beside.SEEDS) else ""
    return f"{told}, {'none as quick' if won is None else signed(won) + some}"


def _as_quick(result: Result, network: str, level: str, rule: str) -> int:
    """Count the seeds on which a planned network is as quick as the rule's, so that the two can be compared."""
    mine = result.where(network=network)
    found = 0
    for seed in beside.SEEDS:
        (other,) = (each for each in mine if (each["seed"], each["level"], each["variant"]) == (seed, level, rule))
        planned = [each for each in mine if each["seed"] == seed and each["variant"] in beside.PLANNED]
        found += any(each["latency_1_s"] <= beside.SLACK * other["latency_1_s"] for each in planned)
    return found


def _compared(result: Result, level: str) -> str:
    """Count the comparisons with another rule, of all rules and seeds, in which a planned network is as quick."""
    counts = [sum(_as_quick(result, each, level, rule) for rule in beside.RULES) for each in beside.NETWORKS]
    return f"{', '.join(map(str, counts))} of {len(beside.RULES) * len(beside.SEEDS)}"


def _strongest(result: Result, level: str) -> str:
    return ", ".join(signed(beside.strongest(result.records, each, level)[0]) for each in beside.NETWORKS)


def _rules(result: Result, level: str) -> str:
    return ", ".join(beside.strongest(result.records, each, level)[1] for each in beside.NETWORKS)


def _saved(result: Result, variant: str, other: str) -> str:
    shares = [100 * beside.saved(result.records, each, variant, other) for each in beside.NETWORKS]
    return ", ".join(f"{each:.0f}".replace("-", "−") for each in shares) + " %"


def _less_accurate(result: Result, variant: str) -> str:
    """Tell the points of accuracy that a moderate variant has less than the unpruned network."""
    lost = []
    for network in beside.NETWORKS:
        whole, mine = (
            beside.side(result.records, network, *each) for each in (("none", "whole"), ("moderate", variant))
        )
        lost.append(100 * (whole[0] - mine[0]))
    return ", ".join(f"{each:.1f}".replace("-", "−") for each in lost)


def _slower(result: Result) -> str:
    """Count the seeds on which the blind pruner's network is slower than the unpruned one."""
    told = []
    for network in beside.NETWORKS:
        mine = [each for each in result.records if each.get("network") == network]
        whole_s = {each["seed"]: each["latency_1_s"] for each in mine if each.get("level") == "none"}
        blind = [each for each in mine if each.get("level") == "moderate" and each["variant"] == "blind"]
        told.append(f"{sum(each['latency_1_s'] > whole_s[each['seed']] for each in blind)} of {len(blind)}")
    return ", ".join(told)


def _unpruned_plans(result: Result) -> str:
    """Count the seeds on which the planned MobileNetV2-like network is the unpruned one."""
    whole = result.where(network="mobilenet", level="none")[0]["widths"]
    plans = result.where(network="mobilenet", level="moderate", variant="planned")
    return f"{sum(each['widths'] == whole for each in plans)} of {len(plans)}"


def _row(tell: Callable[[str], str]) -> str:
    return " | ".join(tell(each) for each in beside.NETWORKS)


def _latency(result: Result) -> str:
    def tell(network: str) -> str:
        found = [result.value("saved by latency mode over the blind", f"{network}, batch {batch}") for batch in (1, 8)]
        return f"{100 * found[0]:.0f} / {100 * found[1]:.0f} %"

    return _row(tell)


def _moderate(result: Result) -> str:
    def points(network: str, variant: str) -> float:
        return 100 * (beside.side(result.records, network, "moderate", variant)[0] - _blind(network))

    def _blind(network: str) -> float:
        return beside.side(result.records, network, "moderate", "blind")[0]

    return _row(lambda each: f"{signed(points(each, 'latency mode'))} / {signed(points(each, 'planned'))}")


def _won(result: Result, variant: str) -> str:
    return _row(lambda each: signed(result.value(f"accuracy won by {variant} in the blind", each)))


def _times(result: Result, variant: str) -> str:
    return between(result.values(f"time of {variant} over the blind"), 2)


def _against_16(result: Result) -> str:
    def tell(network: str) -> str:
        parts = [result.value("accuracy won over round_to=16 in its time", level, network) for level in beside.LEVELS]
        return " / ".join(map(signed, parts))

    return _row(tell)


def _predicted(result: Result, batch: int) -> str:
    def tell(network: str) -> str:
        middle, worst = (
            result.value(f"{what} error of the predicted", f"{network}, batch {batch}") for what in ("median", "worst")
        )
        return f"{percent(middle, 1)} ({percent(worst, 1)})"

    return _row(tell)


def _full_size(result: Result, how: str) -> str:
    names = ("mobilenetv2", "resnet50", "vgg16")
    return ", ".join(f"{100 * result.value(how, f'{each} at full size'):.0f}" for each in names) + " %"


def _tight(result: Result, what: str, network: str) -> float:
    return result.value(what, "tight", network)


def _lost(result: Result, network: str) -> float:
    """Return the points that the blind pruner loses at the harsh ratio."""
    return result.value("accuracy lost by the blind pruner at the harsh ratio", network)


def _rows() -> Iterator[tuple[str, Callable[[Result], str]]]:
    yield "latency", _latency
    yield "moderate", _moderate
    yield "harsh_lost", lambda r: _row(lambda each: signed(-_lost(r, each), 0))
    yield "filled", partial(_won, variant=_MEASURED)
    yield "planned", partial(_won, variant=_PLANNED)
    yield "against_16", _against_16
    yield "edges", lambda r: _row(lambda each: signed(r.value("won by searching edges", "multiples of 8", each)))
    yield "predicted_1", partial(_predicted, batch=1)
    yield "predicted_8", partial(_predicted, batch=8)


NUMBERS: Numbers = {
    **{f"tail.{name}": tell for name, tell in _rows()},
    "tail.filled_times": partial(_times, variant=_MEASURED),
    "tail.planned_times": partial(_times, variant=_PLANNED),
    "tail.edges_times": lambda r: between(
        [each["value"] for each in r.judged("time of the network found among edges") if "tight" not in each["target"]],
        2,
    ),
    "tail.full_filled": partial(_full_size, how="filling the stairs"),
    "tail.full_moved": partial(_full_size, how="moving the blind"),
    "tail.tight_lost": lambda r: between(
        [_tight(r, "accuracy lost by the search over every width", each) for each in ("vgg", "resnet")]
    ),
    "tail.tight_edges_lost": lambda r: between(
        [
            _tight(r, "accuracy lost by the search over every width", each)
            - r.value("accuracy won by searching edges of stairs instead of every width", each)
            for each in ("vgg", "resnet")
        ],
        1,
    ),
    "tail.tight_times": lambda r: between(
        [each for name in ("vgg", "resnet") for each in r.values("tight time of the network found", name)], 1
    ),
    "tail.tight_times_mobilenet": lambda r: between(r.values("tight time of the network found", "mobilenet"), 1),
    "tail.longest_filled": lambda r: f"{max(r.values('time of accuracy mode over the blind')):.1f}",
    "tail.strongest_moderate": partial(_strongest, level="moderate"),
    "tail.strongest_harsh": partial(_strongest, level="harsh"),
    "tail.strongest_rules": partial(_rules, level="moderate"),
    "tail.strongest_rules_harsh": partial(_rules, level="harsh"),
    "tail.compared_harsh": partial(_compared, level="harsh"),
    "tail.longest_planned": lambda r: f"{max(r.values('time of planned over the blind')):.1f}",
    "tail.tight_low": lambda r: ", ".join(
        signed(r.value("lower end of the seeds' interval", "instead of every width in a tight time", each))
        for each in ("vgg", "resnet")
    ),
    "tail.saved_whole": partial(_saved, variant="planned", other="whole"),
    "tail.lost_whole": partial(_less_accurate, variant="planned"),
    "tail.blind_whole": partial(_saved, variant="blind", other="whole"),
    "tail.blind_slower": _slower,
    "tail.unpruned_plans": _unpruned_plans,
}
TABLES: Numbers = {"tail.beside": _table}
