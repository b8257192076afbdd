"""Is the planner of splits exact, quick, and right where its costs are not the truth?

Parts: `exactness` (everything tried; HiGHS), `policies` (other ways to choose, judged by a simulated board's physics),
`many` (devices that share a link and a server).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from bench.kit import document
from bench.split.exactness import beside_highs, tried
from bench.split.many import shared
from bench.split.policies import RIVALS, judged
from bench.split.problems import NETWORKS, case

__all__ = ["main", "targets"]

Record = dict[str, Any]
Cell = dict[str, Record]

FACTOR = 50
WITHIN = 1.02
RATES = (1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8)
LOOSENESS = (1.1, 1.5, 2.0, 3.0)
SPREAD = 0.03
HIGHS_S = 60.0


def exact(*, quick: bool) -> Iterator[Record]:
    """Try everything, and ask HiGHS."""
    for name in NETWORKS:
        of = case(name)
        if of is not None:
            yield from tried(of, RATES[2::2] if quick else RATES[1:], (1.5,) if quick else (1.2, 2.0))
    for name in ("alexnet", "resnet152"):
        of = case(name)
        if of is not None:
            for rate in (1e6,) if quick else (1e6, 3e7, 1e8):
                most_s = 20.0 if quick else HIGHS_S
                yield beside_highs(of, rate, 1.5, pairs=(10, 3), most_s=most_s, repeats=3 if quick else 7)


def others(*, quick: bool) -> Iterator[Record]:
    """Plan in all ways."""
    for name in ("alexnet", "mobilenetv2") if quick else NETWORKS:
        of = case(name)
        if of is not None:
            rates, loose = (RATES[::3], LOOSENESS[::2]) if quick else (RATES, LOOSENESS)
            yield from judged(of, rates, loose, 1 if quick else 4, SPREAD)


def cells(records: list[Record], *, own: bool) -> list[Cell]:
    """Group the policies' records by network, link, deadline and specimen; those of the board itself, or the others."""
    found: dict[tuple[Any, ...], Cell] = defaultdict(dict)
    for each in records:
        if each["what"] == "policy" and (each["specimen"] == 0) is own:
            key = tuple(each[name] for name in ("network", "rate_bit_s", "deadline", "specimen"))
            found[key][each["policy"]] = each
    return list(found.values())


def targets(records: list[Record]) -> Iterator[document.Target]:
    """Compare what was found with what was promised."""
    for name in NETWORKS:
        offs = [each["off"] for each in records if each["what"] == "everything tried" and each["network"] == name]
        value = max(offs, default=None)
        yield document.target(f"{name}: off everything tried, worst", want="<= 1e-9", value=value, unit="1")
    highs = [each for each in records if each["what"] == "beside HiGHS"]
    for name, want in (("resnet152", f">= {FACTOR}"),):
        value = min((each["times_faster"] for each in highs if each["network"] == name), default=None)
        yield document.target(f"{name} x 30 x 3: times as fast as HiGHS, least", want=want, value=value, unit="1")
    off = max((each["exact_off"] for each in highs if each["exact_off"] is not None), default=None)
    yield document.target("off HiGHS, worst of those that it ended", want="<= 1e-6", value=off, unit="1")
    for few, what in ((True, "two or three"), (False, "16")):
        offs = [each["off"] for each in records if each["what"] == "sharing" and (each["devices"] < 16) is few]
        name = f"{what} devices on a link: above the exact optimum, worst"
        yield document.target(name, want="<= 0.01", value=max(offs, default=None), unit="1")
    for own, where in ((True, "on the board"), (False, "on its specimens")):
        found = cells(records, own=own)
        for rival in RIVALS:
            yield from _against(found, rival, where)


def _against(found: list[Cell], rival: str, where: str) -> Iterator[document.Target]:
    """Energy where the rival keeps the deadline, and misses anywhere."""
    kept = [each for each in found if each[rival]["late"] <= 0.01]
    ratios = [each["amble"]["energy_j"] / each[rival]["energy_j"] for each in kept]
    yield document.target(
        f"energy over that of {rival} {where}, worst of cells where it is in time",
        want=f"<= {WITHIN}",
        value=max(ratios, default=None),
        unit="1",
        cause=_CAUSE,
    )
    worse = [each["amble"]["late"] > max(0.01, each[rival]["late"]) for each in found]
    yield document.target(
        f"cells with more late than {rival} {where}, and than promised",
        want="<= 0",
        value=sum(worse) if worse else None,
        unit="1",
        cause=_MISSES,
    )


_CAUSE = (
    "short networks under the tightest deadline (1.1 times their time at the quickest clocks): amble keeps the 99th "
    "percentile by a margin measured on 20 runs at each setting, 640 in all (3 % for MobileNetV2, 21 % for AlexNet), "
    "which rules the next lower clock out; least squares believe times near the highest clocks to be shorter than they "
    "are, take it, and are in time because the margin was not needed there (in other cells of the same table they are "
    "late). Tried: with 100 runs at each setting AlexNet's margin is 11 % and it takes at most 3.3 % more, but "
    "MobileNetV2's margin stays at 3.7 % and its worst cell at 4.5 %. So plans are of 20 runs, as in `amble split`"
)
_MISSES = (
    "one specimen of four runs ResNet-152 slower than the board that was measured by more than the margin of 3 %; who "
    "holds the highest clocks has what the others save as reserve. The margin is honest of the board that was measured "
    "(no cell is late there) and promises nothing of another one: a device is to be measured itself. amble run "
    "corrects how quick the device is while it runs; plans are judged here without that"
)


def main() -> None:
    """Run all parts; `--quick` fewer networks, rates and deadlines."""
    document.run("split", __doc__, _measured, targets)


def _measured(options: document.Options) -> list[Record]:
    together = shared((5e7,) if options.quick else (5e7, 2e8), 1 if options.quick else 4)
    return [*exact(quick=options.quick), *others(quick=options.quick), *together]
