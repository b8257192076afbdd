"""Records and targets of a bench -> the one JSON document (or the table) that every bench prints.

    options = document.options("search", __doc__)
    results = [{"operators": 1000, "time_s": 0.12}]
    targets = [document.target("faster than HiGHS, 1000 x 150", want=">= 50", value=80, unit="1")]
    document.finish(options, results, targets)

Where targets are a function of the records they can be judged anew without measuring (`--judge FILE`):

    options = document.options("serve", __doc__, judges=True)
    if options.judge:
        records = document.stored(options.judge)
        document.judged(options, records, targets(records))

Imports no numpy, so that a bench may call `on_one_core` before it does.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import operator
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, SupportsFloat, cast, runtime_checkable

from bench.kit import ages, places

__all__ = [
    "Options",
    "Target",
    "document",
    "durations_s",
    "finish",
    "judged",
    "on_one_core",
    "options",
    "percentile",
    "stored",
    "target",
]

Record = Mapping[str, object]  # values: text, numbers (numpy's too), truth, None, and lists of these

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


@runtime_checkable
class _Numpy(Protocol):
    """A scalar or an array of numpy, which is not imported here."""

    def tolist(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line of a bench asked for."""

    name: str
    quick: bool
    json: bool
    out: Path | None
    data: Path  # folder of the recorded data
    judge: Path | None = None  # a document whose targets are judged anew


@dataclass(frozen=True, slots=True)
class Target:
    """One promised number beside what was found; `met` is None where it was not measured, which counts as missed.

    `cause`: why it was missed and what was tried, where that is known; empty where it was met.
    """

    target: str
    unit: str
    want: str
    value: float | None
    met: bool | None
    cause: str = ""


def options(name: str, description: str | None, argv: Sequence[str] | None = None, *, judges: bool = False) -> Options:
    """Parse `--json --quick --out FILE`, and `--judge FILE` of a bench that judges stored records.

    The data folder is `AMBLE_DATA`, else `../shared/data` beside the project.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout, nothing else there")
    parser.add_argument("--quick", action="store_true", help="a smaller run of the same, in under a minute")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON document to FILE")
    parser.set_defaults(judge=None)
    if judges:
        told = "measure nothing: judge the records of FILE, and rewrite it"
        parser.add_argument("--judge", type=Path, metavar="FILE", help=told)
    given = parser.parse_args(argv)
    data = places.data()
    return Options(name=name, quick=given.quick, json=given.json, out=given.out, data=data, judge=given.judge)


def target(name: str, *, want: str, value: SupportsFloat | None, unit: str, cause: str = "") -> Target:
    """Compare `value` with a `want` such as "<= 0.001"; a value of None or not finite was not measured.

    `cause` is told where the target is missed. Raises ValueError for a `want` that is not a comparison and a number.
    """
    sign, _, bound = want.partition(" ")
    if sign not in _COMPARE or not bound:
        raise ValueError(f"want must read like '<= 0.001', not {want!r}")
    number = None if value is None else float(value)
    if number is None or not math.isfinite(number):
        return Target(target=name, unit=unit, want=want, value=None, met=None)
    met = _COMPARE[sign](number, float(bound))
    return Target(target=name, unit=unit, want=want, value=number, met=met, cause="" if met else cause)


def document(options: Options, results: Iterable[Record], targets: Iterable[Target]) -> dict[str, object]:
    """Return the document: name, version, machine, results, targets; numbers are plain, and null where not finite."""
    found = {
        "name": options.name,
        "amble": _version(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "instructions": _instructions(), "gpu": _gpu()},
        "quick": options.quick,
        "results": [dict(record) for record in results],
        "targets": [_told(one) for one in targets],
        "code": {"of": "this run", "files": ages.digests(options.name)},
    }
    return cast("dict[str, object]", _plain(found))


def _told(one: Target) -> Record:
    """Return a target as a record, without a cause where there is none."""
    return {name: value for name, value in asdict(one).items() if name != "cause" or value}


def finish(options: Options, results: Iterable[Record], targets: Iterable[Target]) -> None:
    """Print the document (`--json`) or a table for people, and write it where `--out` says."""
    made = document(options, results, targets)
    text = json.dumps(made, indent=1, allow_nan=False)
    if options.out is not None:
        _write(options.out, text + "\n")
    print(text if options.json else _table(made))


def stored(path: Path) -> list[dict[str, Any]]:
    """Return the records of a document that was written before."""
    records: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["results"]
    return records


def judged(options: Options, results: Iterable[Record], targets: Iterable[Target]) -> None:
    """Put targets and records into the document of `--judge`, whose machine and code stay what they were."""
    assert options.judge is not None
    kept = json.loads(options.judge.read_text(encoding="utf-8"))
    new = document(options, results, targets)
    made = kept | {name: new[name] for name in ("results", "targets")}
    text = json.dumps(made, indent=1, allow_nan=False)
    _write(options.judge, text + "\n")
    print(text if options.json else _table(made))


def run(
    name: str,
    description: str | None,
    measured: Callable[[Options], Sequence[Any]],
    targets: Callable[[Any], Iterable[Target]],
) -> None:
    """Do what the command line asks for: measure and judge, or judge stored records."""
    given = options(name, description, judges=True)
    if given.judge:
        records: Sequence[Any] = stored(given.judge)
        judged(given, records, list(targets(records)))
        return
    records = measured(given)
    finish(given, records, list(targets(records)))


def durations_s(
    call: Callable[[], object], *, repeats: int, warmups: int = 1, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Time of each of `repeats` calls [s], after `warmups` that are not counted.

    `time.process_time` as `clock` counts the time on the processor: for one thread what a free core would take, also
    where the machine is shared.
    """
    for _ in range(warmups):
        call()
    found = []
    for _ in range(repeats):
        start = clock()
        call()
        found.append(clock() - start)
    return found


def percentile(values: Iterable[SupportsFloat], percent: float) -> float:
    """The `percent`-th percentile (0..100), linear between neighbours; ValueError for no values."""
    ordered = sorted(float(value) for value in values)
    if not ordered:
        raise ValueError("a percentile needs at least one value")
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def on_one_core() -> None:
    """Keep this process on one core and its numeric libraries on one thread; call it before numpy is imported."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _version() -> str:
    try:
        return importlib.metadata.version("amble")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _instructions() -> list[str] | None:
    """Names of the instruction sets that numbers depend on; None where amble itself is not installed."""
    try:
        from amble.runtimes.instructions import instructions
    except ImportError:
        return None
    return list(instructions())


def _gpu() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    return answer.stdout.strip().splitlines()[0] if answer.returncode == 0 and answer.stdout.strip() else None


def _plain(value: object) -> object:
    """Numbers of numpy as numbers of Python, folders as text, infinity and NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, _Numpy):
        return _plain(value.tolist())
    if isinstance(value, SupportsFloat):
        return float(value) if math.isfinite(float(value)) else None
    return str(value)


def _write(path: Path, text: str) -> None:
    """Write beside the file and rename, so that a full disk leaves no half-written result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        written = Path(file.name)
        try:
            file.write(text)
            file.flush()
            written.chmod(0o644)
            written.replace(path)
        except OSError:
            written.unlink(missing_ok=True)
            raise


def _table(made: Record) -> str:
    results = cast(list[dict[str, object]], made["results"])
    targets = cast(list[dict[str, object]], made["targets"])
    machine = cast(dict[str, object], made["machine"])
    head = f"{made['name']}{' (quick)' if made['quick'] else ''} on {machine['cpu']}, {machine['cores']} cores"
    blocks = [_columns(group) for group in _same_columns(results)]
    marks = {True: "met", False: "MISSED", None: "not measured"}
    goals = [
        {name: value for name, value in one.items() if name != "cause"}
        | {"met": marks[cast("bool | None", one["met"])]}
        for one in targets
    ]
    causes = Counter(str(one["cause"]) for one in targets if "cause" in one)
    told = [f"{count} missed: {cause}" for cause, count in causes.items()]
    return "\n\n".join([head, *blocks, *([_columns(goals)] if goals else []), *told])


def _same_columns(records: Iterable[dict[str, object]]) -> list[list[dict[str, object]]]:
    groups: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for record in records:
        groups.setdefault(tuple(record), []).append(record)
    return list(groups.values())


def _columns(records: Sequence[Record]) -> str:
    names = list(records[0])
    rows = [names, *([_cell(record[name]) for name in names] for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
