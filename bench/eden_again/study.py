"""A part of `bench/eden` once more on the code as it is now, beside what the whole study had found.

The whole study takes many hours of training. Here one base network is retrained anew by the better recipe, judged,
mapped for four systems and vendor B, proven and tried again: nothing of the study's networks or rates is used. Whether
both agree is judged by limits as wide as the noise: training is not the same to the last bit on another machine, and a
rate is estimated from 40 trials of 75 examples.

The base network must be there (`python -m bench.bases.base --networks lenet --seeds 1`). What is done is kept in
`build/eden_again` and `build/eden` under digests of the code: an interrupted run goes on, and one that has taken its
time (20 minutes, or AMBLE_EDEN_LIMIT_S seconds) begins no further case and says what it has.
"""

from __future__ import annotations

from bench.kit import document
from bench.kit.places import BUILD

document.on_one_core()

import os  # noqa: E402  after the threads are set
import time  # noqa: E402
from collections.abc import Iterator, Mapping, Sequence  # noqa: E402
from dataclasses import asdict  # noqa: E402

import torch  # noqa: E402

from amble.levers.memory.learning.unreliable import Precision  # noqa: E402
from bench.bases.base import KEPT as BASES  # noqa: E402
from bench.eden import mappings, retrain  # noqa: E402
from bench.eden.mappings import CENTRAL, Record  # noqa: E402
from bench.eden.retrain import Case  # noqa: E402
from bench.eden.study import CAUSES, COUNTS, over, place, replayed  # noqa: E402
from bench.kit import places  # noqa: E402
from bench.kit.cells import kept  # noqa: E402
from bench.kit.document import target  # noqa: E402

FOLDER = BUILD / "eden_again"
WHOLE = "eden@cpu"  # what the whole study came to
NETWORK, SEED = "lenet", 1
PRECISION: Precision = "int8"
RECIPES = ("none", "better")
LIMIT_S = float(os.environ.get("AMBLE_EDEN_LIMIT_S", "1200"))
SAME_ACCURACY, SAME_RATE, SAME_SAVING = 0.01, 1.5, 0.02  # by how much both may differ: a point, a half, two points
LEAST_KEPT = 38 / 40


def main() -> None:
    options = document.options("eden_again", __doc__)
    deadline_s = time.monotonic() + LIMIT_S
    if not (base := BASES / f"{NETWORK}-{SEED}.pt").exists():
        raise SystemExit(f"{base} is missing: run python -m bench.bases.base --networks {NETWORK} --seeds {SEED}")
    torch.set_num_threads(1)
    retrain.HARDENED = mappings.HARDENED = FOLDER / "networks"
    mappings.ALL_VENDORS = ("", 0, "")  # B for every network
    rows: dict[str, Record] = {}
    plans: list[Record] = []
    for recipe in RECIPES[:1] if options.quick else RECIPES:
        if (row := judged(recipe, deadline_s)) is None:
            break
        rows[recipe] = row
        if not options.quick:
            plans += mappings.kept((NETWORK, SEED, PRECISION, recipe), row, deadline_s=deadline_s)
    log = {recipe: row for (*where, recipe), row in replayed().items() if where == [NETWORK, SEED, PRECISION]}
    whole = document.stored(places.result(WHOLE))
    wanted = [*retraining_targets(rows, log), *mapping_targets(plans, whole)]
    document.finish(options, [*(beside(row, log.get(each)) for each, row in rows.items()), *plans], wanted)


def judged(recipe: str, deadline_s: float) -> Record | None:
    """Retrain and judge a case, or read what this code found before; None where it is not there and the time is up."""
    case, sources = Case(NETWORK, SEED, PRECISION, recipe), retrain.provenance()
    file = FOLDER / f"{recipe}-{str(sources['code_sha256'])[:16]}.json"
    if not file.exists() and time.monotonic() > deadline_s:
        return None

    def anew() -> Record:
        begin_s = time.process_time()
        return {**asdict(case), **retrain.judged(case), "cpu_s": time.process_time() - begin_s, **sources}

    return kept(file, anew)


def beside(row: Record, before: Record | None) -> Record:
    """Lay what a case came to beside what the log has, flat."""
    names = ("held_out_accuracy", "test_accuracy", "lost_clean", *COUNTS)
    return {
        **{name: each for name, each in row.items() if not isinstance(each, dict)},
        **{f"unseen at {rate}": loss for rate, loss in row["unseen"].items()},
        **({} if before is None else {f"{name} before": before[name] for name in names}),
    }


def retraining_targets(rows: Mapping[str, Record], log: Mapping[str, Record]) -> Iterator[document.Target]:
    """Whether accuracies and rates are those of the log, and what the better recipe gains today."""
    for recipe in RECIPES:
        row, before = rows.get(recipe), log.get(recipe)
        both = row is not None and before is not None
        off = abs(row["held_out_accuracy"] - before["held_out_accuracy"]) if both else None  # type: ignore[index]
        name = f"{recipe}: held-out accuracy off the one before"
        yield target(name, want=f"<= {SAME_ACCURACY}", value=off, unit="1")
        for count, said in COUNTS.items():
            ratio = either_way(row[count], before[count]) if both else None  # type: ignore[index]
            yield target(
                f"{recipe}: rate borne against the one before, {said}", want=f"<= {SAME_RATE}", value=ratio, unit="1"
            )
    for count, said in COUNTS.items():
        rates = [rows[each][count] if each in rows else None for each in ("better", "none")]
        name = f"rate borne after the better recipe over before, {said}"
        yield target(name, want=">= 5", value=over(*rates), unit="1", cause=CAUSES["int8"])


def either_way(one: float, other: float) -> float | None:
    """Return the ratio of two rates, the greater over the lesser; None where one of them is 0."""
    low, high = sorted((one, other))
    return over(high, low)


def mapping_targets(plans: Sequence[Record], whole: Sequence[Record]) -> Iterator[document.Target]:
    """Whether mappings are proven, keep their target on other modules, and save what those of the whole study saved."""
    before = {(*place(each), each["recipe"]): each for each in whole if each.get("factor") == CENTRAL}
    for plan in (each for each in plans if each.get("factor") == CENTRAL):
        found = before.get((*place(plan), plan["recipe"]))
        where = f"{plan['recipe']}, {plan['system']}, vendor {plan['vendor']}"
        yield target(
            f"{where}: trials kept on other modules", want=f">= {LEAST_KEPT}", value=plan["kept_of_40"], unit="1"
        )
        off = None if found is None else abs(plan["saving"] - found["saving"])
        yield target(f"{where}: saving off the one before", want=f"<= {SAME_SAVING}", value=off, unit="1")
