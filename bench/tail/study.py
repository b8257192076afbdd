"""Widths at the ends of stairs against widths that know of no stairs: latency at equal accuracy, and the other way.

The networks were trained, cut and fine-tuned by `prune.py`, which takes an hour; its log is replayed here,
one cell is repeated live, and the latency of all widths in it is measured live in ONNX Runtime on one thread.
Moderate: the same pruner with and without stairs. Harsh: where the blind pruner loses at least five points, the same
time is spent. The times that were measured are kept for an hour, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from scipy.stats import t as students

from bench.kit import document
from bench.kit.places import BENCH, BUILD, ROOT
from bench.tail import beside as pruned_beside

LOG, BASE_LOG = BENCH / "tail" / "prune.jsonl", BENCH / "bases" / "base.jsonl"
KEPT = BUILD / "tail"
FULL_SIZE = ("resnet50", "vgg16", "mobilenetv2")
NETWORKS, BATCHES, SEEDS = ("vgg", "resnet", "mobilenet"), (1, 8), (1, 2, 3)
AGAIN = ("vgg", 1, "harsh", "blind")  # the cell that is repeated live
MEASURED = "accuracy mode, time as measured"
PLANNED = "planned, time as measured"
AWARE = ("latency mode", "accuracy mode", MEASURED, "planned", PLANNED, "planned, time of round to 16")
SPACES = ("search over edges, time as measured", "search over every width, time as measured")
_KEPT_S = 3_600.0
Kind = TypeVar("Kind", bound=msgspec.Struct)
Record = dict[str, object]


class Trained(msgspec.Struct, frozen=True):
    """One line of the log: a network after surgery and fine-tuning."""

    network: str
    seed: int
    level: str
    ratio: float
    variant: str
    widths: dict[str, int]
    flops: float
    parameters: int
    test_accuracy: float
    held_out_accuracy: float
    code_sha256: str


class Base(msgspec.Struct, frozen=True):
    """One line of the log of first training."""

    network: str
    seed: int
    test_accuracy: float


class Timed(msgspec.Struct, frozen=True):
    """One network at some widths: time of a run [s], measured and predicted."""

    network: str
    batch: int
    widths: dict[str, int]
    latency_s: float
    predicted_s: float


class FullSize(msgspec.Struct, frozen=True):
    """A well-known network at full size with random weights, whole or at the widths of a rule."""

    network: str
    variant: str
    latency_s: float
    flops: float


class Again(msgspec.Struct, frozen=True):
    """What the repeated cell came to."""

    test_accuracy: float
    onnx_test_accuracy: float
    time_s: float


class Repeated(msgspec.Struct, frozen=True):
    """The repeated cell and its line in the log."""

    logged: Trained
    again: Again


class Table:
    """Everything that was trained and timed, by network, seed, level and variant."""

    def __init__(self, trained: Iterable[Trained], base: Iterable[Base], timed: Iterable[Timed]) -> None:
        self.trained = {(each.network, each.seed, each.level, each.variant): each for each in trained}
        self.base = {(each.network, each.seed): each.test_accuracy for each in base}
        self.timed = {(each.network, each.batch, _key(each.widths)): each for each in timed}

    def time(self, of: Trained, batch: int) -> Timed:
        return self.timed[of.network, batch, _key(of.widths)]

    def pairs(self, network: str, level: str, variant: str, against: str) -> list[tuple[Trained, Trained]]:
        """The two variants of every seed that has both."""
        found = [[self.trained.get((network, seed, level, each)) for each in (variant, against)] for seed in SEEDS]
        return [(one, other) for one, other in found if one is not None and other is not None]


def main() -> None:
    options = document.options("tail", __doc__, judges=True)
    if options.judge:
        document.judged(options, found := document.stored(options.judge), rejudged(options.judge, found))
        return
    trained = _lines(LOG, Trained)
    networks, batches = (NETWORKS[:1], BATCHES[:1]) if options.quick else (NETWORKS, BATCHES)
    timed = [each for name in networks for batch in batches for each in times(name, batch, trained, options.quick)]
    table = Table([each for each in trained if each.network in networks], _lines(BASE_LOG, Base), timed)
    large = [] if options.quick else [each for name in FULL_SIZE for each in full_size(name)]
    repeated = None if options.quick else again()
    found = [*records(table, batches), *(msgspec.to_builtins(each) for each in large)]
    wanted = [*targets(table, networks, batches, repeated), *full_size_targets(large), *pruned_beside.targets(found)]
    document.finish(options, found, wanted)


def rejudged(path: Path, found: Sequence[Record]) -> list[document.Target]:
    """Judge the rules beside each other anew; the other targets need the log and stay as they are."""
    kept = [document.Target(**each) for each in json.loads(path.read_text(encoding="utf-8"))["targets"]]
    others = [each for each in kept if not each.target.startswith(pruned_beside.NAMES)]
    return [*others, *pruned_beside.targets(found)]


def _lines(path: Path, kind: type[Kind]) -> list[Kind]:
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]


def _key(widths: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(widths.items())


def times(network: str, batch: int, trained: Iterable[Trained], quick: bool) -> list[Timed]:
    """Measure all widths of a network in the log, unless that was done within the hour."""
    path = KEPT / f"{network}-{batch}{'-quick' if quick else ''}.jsonl"
    wanted = {_key(each.widths) for each in trained if each.network == network}
    if not (_is_fresh(path) and wanted <= {_key(each.widths) for each in _lines(path, Timed)}):
        rounds = ["--rounds", "5"] if quick else []
        asked = ["bench.tail.measure", "--networks", network, "--batches", str(batch), *rounds]
        _keep(path, _answer(asked))
    return _lines(path, Timed)


def full_size(network: str) -> list[FullSize]:
    """Measure a network at full size, unless that was done within the hour."""
    path = KEPT / f"{network}.jsonl"
    if not _is_fresh(path):
        _keep(path, _answer(["bench.tail.full_size", "--networks", network]))
    return _lines(path, FullSize)


def _is_fresh(path: Path) -> bool:
    return path.exists() and time.time() - path.stat().st_mtime < _KEPT_S


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def again() -> Repeated:
    """Repeat one cell: the same cut, the same fine-tuning, and the ONNX file's accuracy."""
    return msgspec.json.decode(_answer(["bench.tail.again", *map(str, AGAIN)]), type=Repeated)


def _answer(asked: Sequence[str]) -> bytes:
    """What a module prints, run on one thread."""
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", *asked], stdout=subprocess.PIPE, cwd=ROOT, env=one, check=True).stdout


def records(table: Table, batches: Sequence[int]) -> Iterator[Record]:
    """One record for each network, seed, level and variant, the whole network first."""
    for (network, seed), accuracy in table.base.items():
        whole = [each for each in table.timed.values() if each.network == network and each.batch in batches]
        if whole:
            about = {"network": network, "seed": seed, "level": "none", "variant": "whole", "test_accuracy": accuracy}
            first = {each.batch: each for each in reversed(whole)}  # the whole network is measured first
            times_s = {f"latency_{batch}_s": each.latency_s for batch, each in sorted(first.items())}
            yield about | {"widths": list(whole[0].widths.values())} | times_s
    for each in table.trained.values():
        yield {
            **{key: getattr(each, key) for key in ("network", "seed", "level", "ratio", "variant", "test_accuracy")},
            **{key: getattr(each, key) for key in ("held_out_accuracy", "flops", "parameters")},
            "widths": list(each.widths.values()),
            **_times(table, each, batches),
            "code_sha256": each.code_sha256,
        }


def _times(table: Table, of: Trained, batches: Sequence[int]) -> Record:
    found: Record = {}
    for batch in batches:
        measured = table.time(of, batch)
        found |= {f"latency_{batch}_s": measured.latency_s, f"predicted_{batch}_s": measured.predicted_s}
    return found


def targets(
    table: Table, networks: Sequence[str], batches: Sequence[int], repeated: Repeated | None
) -> Iterator[document.Target]:
    """Every promise, for each network and batch."""
    yield from _latency_targets(table, networks, batches)
    for network in networks:
        yield from _harsh_targets(table, network, batches)
        yield from _space_targets(table, network, batches)
        yield from _prediction_targets(table, network, batches)
    if repeated is not None:
        yield from _repeated_targets(repeated)


def _latency_targets(table: Table, networks: Sequence[str], batches: Sequence[int]) -> Iterator[document.Target]:
    for variant in ("latency mode", "planned"):
        saved = {
            (network, batch): _saved(table, table.pairs(network, "moderate", variant, "blind"), batch)
            for network in networks
            for batch in batches
        }
        for (network, batch), value in saved.items():
            name = f"latency saved by {variant} over the blind pruner, {network}, batch {batch}"
            yield document.target(name, want=">= 0.11", value=value, unit="1")
        known = [each for each in saved.values() if each is not None]
        average = float(np.mean(known)) if len(known) == len(saved) else None
        name = f"latency saved by {variant} over the blind pruner, average"
        yield document.target(name, want=">= 0.20", value=average, unit="1")
        for network in networks:
            won, half = _won(table.pairs(network, "moderate", variant, "blind"))
            name = f"upper end of the seeds' interval of the accuracy won by {variant} over the blind pruner, {network}"
            yield document.target(name, want=">= 0", value=_end(won, half), unit="points")


def _harsh_targets(table: Table, network: str, batches: Sequence[int]) -> Iterator[document.Target]:
    blind = [each for each, _ in table.pairs(network, "harsh", "blind", "blind")]
    lost = [100.0 * (table.base[network, each.seed] - each.test_accuracy) for each in blind]
    name = f"accuracy lost by the blind pruner at the harsh ratio, {network}"
    yield document.target(name, want=">= 5", value=float(np.mean(lost)) if lost else None, unit="points")
    for variant in ("accuracy mode", MEASURED, "planned", PLANNED):
        pairs = table.pairs(network, "harsh", variant, "blind")
        yield from _won_targets(f"by {variant} in the blind pruner's time, {network}", pairs)
        for batch in batches:
            name = f"time of {variant} over the blind pruner's, {network}, batch {batch}"
            yield document.target(name, want="<= 1.02", value=_ratio(table, pairs, batch), unit="1")


def _space_targets(table: Table, network: str, batches: Sequence[int]) -> Iterator[document.Target]:
    pairs = table.pairs(network, "harsh", "search over edges", "search over multiples of 8")
    name = f"accuracy won by searching edges of stairs instead of multiples of 8, {network}"
    yield document.target(name, want=">= 2.5", value=_won(pairs)[0], unit="points")
    for batch in batches:
        name = f"time of the network found among edges over the other's, {network}, batch {batch}"
        yield document.target(name, want="<= 1.02", value=_ratio(table, pairs, batch), unit="1")
    yield from _tight_targets(table, network, batches)
    for level in ("moderate", "harsh"):
        pairs = table.pairs(network, level, "planned, time of round to 16", "round to 16")
        won, half = _won(pairs)
        name = f"accuracy won over round_to=16 in its time, {level}, {network}"
        yield document.target(name, want=">= 0", value=won, unit="points")
        name = f"upper end of the seeds' interval of the accuracy won over round_to=16, {level}, {network}"
        yield document.target(name, want=">= 0", value=_end(won, half), unit="points")


def _tight_targets(table: Table, network: str, batches: Sequence[int]) -> Iterator[document.Target]:
    """Compare the design spaces in one measured time, where the search over every width loses at least five points."""
    pairs = table.pairs(network, "tight", *SPACES)
    lost = [100.0 * (table.base[network, other.seed] - other.test_accuracy) for _, other in pairs]
    name = f"accuracy lost by the search over every width in a tight time, {network}"
    yield document.target(name, want=">= 5", value=float(np.mean(lost)) if lost else None, unit="points")
    yield from _won_targets(f"by searching edges of stairs instead of every width in a tight time, {network}", pairs)
    for batch in batches:
        name = f"tight time of the network found among edges over the other's, {network}, batch {batch}"
        yield document.target(name, want="<= 1.02", value=_ratio(table, pairs, batch), unit="1")


def _won_targets(how: str, pairs: Sequence[tuple[Trained, Trained]]) -> Iterator[document.Target]:
    """At least 2.5 points on the average, and more than the seeds differ by."""
    won, half = _won(pairs)
    yield document.target(f"accuracy won {how}", want=">= 2.5", value=won, unit="points")
    name = f"lower end of the seeds' interval of the accuracy won {how}"
    lower = _end(won, None if half is None else -half)
    yield document.target(name, want=">= 0", value=lower, unit="points")


def _prediction_targets(table: Table, network: str, batches: Sequence[int]) -> Iterator[document.Target]:
    aware = [each for each in table.trained.values() if each.network == network and each.variant in AWARE]
    for batch in batches:
        found = [table.time(each, batch) for each in aware]
        errors = [abs(each.predicted_s / each.latency_s - 1.0) for each in found]
        for what, value in (("median", np.median(errors) if errors else None), ("worst", max(errors, default=None))):
            name = f"{what} error of the predicted latency of networks cut at edges, {network}, batch {batch}"
            yield document.target(name, want="<= 0.05", value=value, unit="1")


def _repeated_targets(repeated: Repeated) -> Iterator[document.Target]:
    found = repeated.again
    name = "accuracy of the repeated cell off the logged one"
    off = 100.0 * abs(found.test_accuracy - repeated.logged.test_accuracy)
    yield document.target(name, want="<= 0.5", value=off, unit="points")
    name = "accuracy of the ONNX file off torch"
    off = 100.0 * abs(found.test_accuracy - found.onnx_test_accuracy)
    yield document.target(name, want="<= 0.05", value=off, unit="points")


def full_size_targets(found: Iterable[FullSize]) -> Iterator[document.Target]:
    """Filling the stairs must save time although no group has fewer channels than the blind pruner left it.

    The same of a plan that loses no more importance in all.
    """
    times_s = {(each.network, each.variant): each.latency_s for each in found}
    ways = {
        "filled up to blocks of 16": "filling the stairs of the blind pruner's widths",
        "moved to blocks, importance of the blind": "moving the blind pruner's widths to blocks, importance kept",
    }
    for network in dict.fromkeys(name for name, _ in times_s):
        for variant, how in ways.items():
            known = times_s.get((network, variant))
            saved = None if known is None else 1.0 - known / times_s[network, "blind"]
            name = f"latency saved by {how}, {network} at full size, batch 1"
            yield document.target(name, want=">= 0.11", value=saved, unit="1")


def _ratio(table: Table, pairs: Sequence[tuple[Trained, Trained]], batch: int) -> float | None:
    """Mean over seeds of the time of the first over that of the second."""
    ratios = [table.time(one, batch).latency_s / table.time(other, batch).latency_s for one, other in pairs]
    return float(np.mean(ratios)) if ratios else None


def _saved(table: Table, pairs: Sequence[tuple[Trained, Trained]], batch: int) -> float | None:
    ratio = _ratio(table, pairs, batch)
    return None if ratio is None else 1.0 - ratio


def _end(value: float | None, half: float | None) -> float | None:
    return None if value is None or half is None else value + half


def _won(pairs: Sequence[tuple[Trained, Trained]]) -> tuple[float | None, float | None]:
    """Mean over seeds of the first's accuracy less the second's, and half of its 95 % interval [points]."""
    won = [100.0 * (one.test_accuracy - other.test_accuracy) for one, other in pairs]
    if not won:
        return None, None
    if len(won) < 2:
        return won[0], None
    return float(np.mean(won)), float(students.ppf(0.975, len(won) - 1) * np.std(won, ddof=1) / len(won) ** 0.5)
