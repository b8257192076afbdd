"""`amble govern` in virtual time, beside maximum clocks, the best fixed clock, and three governors rebuilt from papers.

Every policy meets identical arrivals, and looks four times a second. Servers: an engine of continuous batching on the
recorded card with both phases of a language model (power limits), and a batching server on simulated chips (clocks).
The governor starts with the card's recorded table, and on the chips with nothing but the ratio of the clocks. A policy
keeps the objective in a cell when its late answers are at most 0.1 points above those at maximum clocks. The control
periods of the proof are off in the cells, and tried by themselves: 200 runs (quick: 4) whose true saving is known.
`hindsight` is a path found by dynamic programming over the same periods, which knows what comes (see that module).

Energies of the chips are simulated, the card's idle power is assumed (see `plants`): the ratios say how policies
compare on these plants. No energy is claimed for real servers.

The governor was tuned on the seeds `TUNED` and is reported on `SEEDS`, which it had not seen: other arrivals, other
faults, other control periods, other stretches of the recordings. The result says both. It was tuned on the first two
minutes of the recorded conversations, where few talk yet. `azure` is the stretch, of those that no result was taken on
before, whose tokens a second are nearest to those; `azure at its busiest` is the one that has the most, three times as
many, so that a load's name means three times the work. `twitter` is the least even ten minutes of a day without an
empty one, tuned on the first day's and reported on the second's. Load 1 is what the fastest setting serves in full
batches, and for a language model a fifth of the pace of the recording; where maximum clocks miss an objective a cell is
not judged, and the result lists it. An earlier result on the same stretches, with other seeds, showed that crowds at
high loads were seen too late; that they are seen now, and whether such a crowd has room, was tuned on the seeds of the
tuning, and on stretches (from 700, 900, 2300 and 2700 s, and two of the tweets') that are reported nowhere.

It runs in pieces, kept in `build/bench/govern` until the code changes, the most important first; `--slice I/N` does
every Nth of them only, and `--kept` judges what is there and names what is not; `--judge FILE` judges a result anew.
"""

from __future__ import annotations

from bench.kit import document

document.on_one_core()

import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator, Mapping, Sequence  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from functools import partial  # noqa: E402
from itertools import pairwise  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from amble.services.govern.hands import slowness  # noqa: E402
from amble.services.govern.objective import Objective  # noqa: E402
from amble.services.govern.page import read_page  # noqa: E402
from amble.services.govern.rehearsal import Batcher, Engine, Requests  # noqa: E402
from bench.govern import trials  # noqa: E402
from bench.govern.baselines import Bandit, Ladder, Utilisation  # noqa: E402
from bench.govern.hindsight import best_path  # noqa: E402
from bench.govern.judged import targets  # noqa: E402
from bench.govern.plants import Case, Outcome, chip_plant, engine_plant, governed, held  # noqa: E402
from bench.govern.traffic import AZURE, BUSIEST, MADE, Stretch, azure, conversations, made  # noqa: E402
from bench.kit import cells, code, places  # noqa: E402
from bench.kit.reach import PROJECT  # noqa: E402


@dataclass(frozen=True)
class Seeds:
    """Of arrivals (``cells``, ``cold``, ``idle``), the first of each run of ``proofs`` and ``faults``, and where in the
    recordings stretches begin [s]: conversations, also those ``at its busiest``, and tweets."""

    cells: int
    cold: int
    idle: int
    proofs: int
    faults: int
    recorded_s: float
    busiest_s: float | None
    tweets_s: int


TUNED = Seeds(1, 5, 7, 0, 0, recorded_s=0.0, busiest_s=None, tweets_s=56400)
SEEDS = Seeds(301, 305, 307, 3000, 3000, recorded_s=3380.0, busiest_s=1600.0, tweets_s=140400)
LOADS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
EXTRA = 0.001
PERIOD_S = 0.25
Record = dict[str, Any]
Work = Mapping[str, Callable[[], list[Record]]]


def main() -> None:
    given, rest = cells.slices("I/N")
    options = document.options("govern", __doc__, rest, judges=True)
    if options.judge:
        records = document.stored(options.judge)
        document.judged(options, records, list(targets(records)))
        return
    work = pieces(options.data, quick=options.quick)
    stores = [_store(options.quick, hindsight=each) for each in (False, True)]
    part, _, of = (given.slice or "0/1").partition("/")
    for last, store in enumerate(stores):
        mine = {name: each for name, each in work.items() if name.endswith("-hindsight") == bool(last)}
        mine = {name: mine[name] for at, name in enumerate(mine) if at % int(of) == int(part)}
        store.run(mine, within_s=0.0 if given.kept else float("inf"))
    if given.slice is not None:
        sys.exit(0)
    found = {name: stores[name.endswith("-hindsight")].records(name) for name in work}
    records = [each for kept in found.values() for each in kept or []]
    records.insert(0, _about([name for name, kept in found.items() if kept is None], records))
    document.finish(options, records, list(targets(records)))


def _about(left_out: Sequence[str], records: Sequence[Record]) -> Record:
    """Return which seeds the governor was tuned on and is reported on, the pieces that were not run, and the cells that
    are not judged, as maximum clocks miss an objective there."""
    seeds = {f"{name} tuned": value for name, value in asdict(TUNED).items()} | asdict(SEEDS)
    missed = [each for each in records if each.get("policy") == "maximum" and not each["maximum_keeps"]]
    not_judged = [f"{each['plant']} {each['trace']} at {each['load']:g}" for each in missed]
    return {"part": "about", **seeds, "left_out": list(left_out), "not_judged": not_judged}


def _store(quick: bool, *, hindsight: bool) -> cells.Cells:
    """Keep pieces under a digest of what they depend on: judging changes nothing measured, hindsight only its own."""
    here = Path(__file__).parent
    apart = ("judged.py", "told.py") if hindsight else ("judged.py", "told.py", "hindsight.py")
    sources = [each for each in here.glob("*.py") if each.name not in apart]
    sources += (places.ROOT / "src/amble/services/govern").glob("*.py")
    alone = sorted(code.digest(PROJECT, each).partition(".")[0] for each in sources)  # without where names are at home
    return cells.Cells(places.BUILD / "bench" / "govern", cells.digest((), (quick, SEEDS, alone)))


def pieces(data: Path, *, quick: bool) -> Work:
    """Return the pieces of the bench by name, the most important first."""
    duration_s = 120.0 if quick else 600.0
    found: dict[str, Callable[[], list[Record]]] = {}
    with_hindsight: dict[str, Callable[[], list[Record]]] = {}
    for name, make in _cells(data, (0.3, 0.7) if quick else LOADS, duration_s, quick=quick):
        title = f"{name['plant']}-{name['trace']}-{name['load']:g}"
        found[title] = partial(_cell, name, make)
        if name["trace"] != BUSIEST:
            with_hindsight[f"{title}-hindsight"] = partial(_hindsight, name, make, 2 if quick else 16)
    for load in (0.3,) if quick else (0.1, 0.3, 0.5):
        found[f"idle-{load:g}"] = partial(trials.loaded_idle, load, duration_s, SEEDS.idle)
    for load in (0.3,) if quick else (0.3, 0.5, 0.7):
        found[f"cold-{load:g}"] = partial(trials.cold, load, 900.0 if quick else 1800.0, SEEDS.cold)
    found["cost"] = _cost
    for begin in range(0, 4 if quick else 200, 4 if quick else 10):
        first = SEEDS.proofs + begin
        found[f"proof-{begin}"] = partial(trials.proofs, range(first, first + (4 if quick else 10)))
    for begin in range(0, 2 if quick else 80, 2 if quick else 8):
        first = SEEDS.faults + begin
        found[f"faults-{begin}"] = partial(trials.faults, range(first, first + (2 if quick else 8)))
    light_first = sorted(with_hindsight, key=lambda each: float(each.removesuffix("-hindsight").rpartition("-")[2]))
    return found | {name: with_hindsight[name] for name in light_first}


def _cells(
    data: Path, loads: Sequence[float], duration_s: float, *, quick: bool
) -> Iterator[tuple[Record, Callable[[], Case]]]:
    """Return the name and the case of each cell; without recorded data there are those that need none."""
    recorded = data.is_dir()
    for chip in ("v100",) if quick else ("v100", "jetson-orin-nano"):
        for trace in ("poisson",) if quick else MADE if recorded else MADE[:-1]:
            for load in loads:
                name = {"server": "batching", "plant": chip, "trace": trace, "load": load}
                yield name, partial(chip_case, data, chip, trace, load, duration_s)
    for trace in () if not recorded else (AZURE,) if quick else (AZURE, BUSIEST, *MADE):
        for load in loads:
            name = {"server": "engine", "plant": "rtx3090", "trace": trace, "load": load}
            yield name, partial(engine_case, data, trace, load, duration_s)


def stretch(data: Path, seeds: Seeds = SEEDS) -> Stretch:
    """Return where arrivals begin, and their seed."""
    return Stretch(data, seeds.cells, seeds.recorded_s, seeds.busiest_s, seeds.tweets_s)


def chip_case(data: Path, chip: str, trace: str, load: float, duration_s: float, seeds: Seeds = SEEDS) -> Case:
    """Return a batching server on a simulated chip; the objective is an edge of its histogram."""
    plant = chip_plant(chip)
    limit_s = 0.001 * 1.25 ** float(np.ceil(np.log(6.0 * plant.latency_s[0, -1] / 0.001) / np.log(1.25)))
    wanted = (Objective.parse(f"latency p99 < {1e3 * limit_s:.3f}ms"),)
    capacity_hz = plant.latency_s.shape[1] / float(plant.latency_s[0, -1])
    requests = Requests.plain(made(trace, load * capacity_hz, duration_s, stretch(data, seeds)))
    known = slowness(plant.settings, len(wanted))
    return Case(lambda: Batcher(plant, requests, wanted), wanted, duration_s, known, PERIOD_S)


def engine_case(data: Path, trace: str, load: float, duration_s: float, seeds: Seeds = SEEDS) -> Case:
    """Return a language model's engine under the recorded conversations, its card's table at hand."""
    plant = engine_plant(data)
    wanted = (Objective.parse("ttft p99 < 2.5s"), Objective.parse("itl p99 < 300ms"))
    begin_s = {AZURE: seeds.recorded_s, BUSIEST: seeds.busiest_s}.get(trace)
    rate, there = 0.2 * load, stretch(data, seeds)
    requests = (
        conversations(trace, rate, duration_s, there) if begin_s is None else azure(data, rate, duration_s, begin_s)
    )
    pairs = zip(plant.prefill_s / plant.prefill_s[0], plant.decode_s / plant.decode_s[0], strict=True)
    known = tuple((max(1.0, float(first)), max(1.0, float(next_))) for first, next_ in pairs)
    draws = tuple(float(each) for each in plant.decode_w / plant.decode_w[0])
    return Case(lambda: Engine(plant, requests, wanted), wanted, duration_s, known, PERIOD_S, draws)


def _cell(name: Record, make: Callable[[], Case]) -> list[Record]:
    case = make()
    num = len(case.server().plant.settings)
    fixed = [held(case, setting) for setting in range(num)]
    most = fixed[0]
    best = min((each for each in fixed if _keeps(each, most)), key=lambda each: each.energy_j)
    speeds = np.array([1.0 / max(each) for each in case.slowness])
    found = {"maximum": most, "best fixed, known load": best, "amble": governed(case)}
    for kind in ("utilisation", "bandit", "ladder"):
        server = case.server()
        heads = {
            "utilisation": Utilisation(server, speeds, PERIOD_S),
            "bandit": Bandit(num, PERIOD_S),
            "ladder": Ladder(server, num, 16.0, PERIOD_S),
        }
        found[f"{kind} (reconstruction)"] = governed(case, server=server, head=partial(_instead, heads[kind]))
    return [_record(name, policy, each, most, case) for policy, each in found.items()]


def _instead(mind: Any, head: object) -> Any:
    return mind


def _hindsight(name: Record, make: Callable[[], Case], width: int) -> list[Record]:
    """Return the best path found; a late answer costs what makes a tenth of a per cent of them cost a quarter of it.

    Nothing where maximum clocks miss an objective: such a cell is not judged.
    """
    case = make()
    most = held(case)
    if not _keeps_objectives(most, case):
        return []
    late_j = [0.25 * most.energy_j / max(1.0, EXTRA * answers) for answers in most.answers]
    path = best_path(case, late_j=late_j, width=width, grain_s=0.05)
    changes = sum(one != other for one, other in pairwise(path.settings))
    return [
        {**_record(name, "hindsight", Outcome(path.energy_j, path.late, 0, changes), most, case), "exact": path.exact}
    ]


def _keeps(outcome: Outcome, most: Outcome) -> bool:
    return all(mine <= theirs + EXTRA for mine, theirs in zip(outcome.late, most.late, strict=True))


def _keeps_objectives(outcome: Outcome, case: Case) -> bool:
    return all(late <= each.allowed for late, each in zip(outcome.late, case.objectives, strict=True))


def _record(name: Record, policy: str, outcome: Outcome, most: Outcome, case: Case) -> Record:
    return {
        **name,
        "policy": policy,
        "energy_j": outcome.energy_j,
        "saving": 1.0 - outcome.energy_j / most.energy_j,
        "late_more": max(mine - theirs for mine, theirs in zip(outcome.late, most.late, strict=True)),
        "keeps": _keeps(outcome, most),
        "maximum_keeps": _keeps_objectives(most, case),
        "finished": outcome.finished,
        "changes": outcome.changes,
    }


def _cost() -> list[Record]:
    """Return the processor time of one look at a page of 600 lines with the decision that follows."""
    edges = tuple(0.001 * 1.25**step for step in range(40))
    lines = [f'other_{index % 40}{{model="m",le="{index}"}} {index}' for index in range(556)]
    mine = [f'amble_request_duration_seconds_bucket{{le="{edge}"}} 7' for edge in (*edges, "+Inf")]
    text = "\n".join([*lines, *mine, "amble_requests_total 7", "nv_inference_pending_request_count 0", "amble_up 1"])
    wanted = {"amble_request_duration_seconds_bucket", "amble_requests_total", "nv_inference_pending_request_count"}
    start_s = time.process_time()
    for _ in range(200):
        read_page(text, wanted)
    page_s = (time.process_time() - start_s) / 200
    case = chip_case(Path(), "v100", "poisson", 0.1, 150.0)
    start_s = time.process_time()
    governed(case)
    whole_s = (time.process_time() - start_s) / (150.0 / PERIOD_S)
    start_s = time.process_time()
    held(case)
    served_s = (time.process_time() - start_s) / (150.0 / PERIOD_S)
    return [{"part": "cost", "page_s": page_s, "look_s": page_s + max(0.0, whole_s - served_s)}]
