"""Two hosts on this machine, a link that is made bad, and a split that runs: is it in time, and is no request lost?

First the relay's own error. Then one network, planned for a link of 2 Mbit/s: over that link as planned; with the
server killed and started again; with the link cut for 5 s. Then 30 % of all packets are lost, and a server is used
whenever it proves itself, however bad the link is believed to be: what was tried together counts, answered so or not.
Last, where the recorded 5G traces are there, a moving cut against the fixed ones (`moving`): in virtual time over many
parts of traces, and for real over parts of three traces in turns, beside the fixed cut that is the best on each in
hindsight. Energies are those of a simulated phone, held to its pace in this machine's time, and of a radio whose power
is stated: predicted. Latencies and misses are measured.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amble.core import files
from amble.levers.split.results import FORMAT
from bench.hosts.hosts import hosts, missing
from bench.hosts.pipe import Shape, Trace
from bench.kit import document
from bench.split_run import moving, traces
from bench.split_run.link import own_error
from bench.split_run.necks import necks
from bench.split_run.running import Ran, Server, after, can_run, made, network, run
from bench.split_run.told import whole_j

__all__ = ["main", "targets"]

Record = dict[str, Any]

RATE_BIT_S, ROUND_TRIP_S, DEADLINE_S = 2e6, 0.005, 0.4
_TRIP = ("--round-trip", "5ms")
_PLAN = ("2Mbit/s", "400ms@p50", *_TRIP)
_STEADY = Shape.steady(RATE_BIT_S, delay_s=ROUND_TRIP_S / 2)
_CUT_S = 5.0
_LOSS = 0.3
ENOUGH = 10  # requests tried together, for a trial to say anything of failures
_TRACE_S = 40
BACK = 20  # of them after the server was killed, for it to have been used again


def faults(folder: Path, *, quick: bool) -> Iterator[Record]:
    """Run as planned, and while server and link fail."""
    plan = made(folder / "moving", network(folder / "deep.onnx"), *_PLAN, "--moving")
    predicted_s = files.load(plan, FORMAT).best.choice.latency_s
    count = 30 if quick else 80
    with hosts(_STEADY) as pair:
        server = Server(pair, plan)
        server.start()
        restored = after((2.0, server.kill), (2.0, server.start))
        cut = after((3.0, pair.cut), (_CUT_S, lambda: pair.shape(_STEADY)))
        trials: list[tuple[str, Callable[[], object]]] = [
            ("steady", lambda: None),
            ("link cut for 5 s", cut),
            ("server killed and started again", restored),
        ]
        for name, meanwhile in trials:
            pair.shape(_STEADY)
            found = run(pair, plan, f"periodic:{1e3 * DEADLINE_S:g}ms:{count}", folder, meanwhile)
            yield _record(name, found, count) | {"predicted_s": predicted_s}


def lossy(folder: Path, *, quick: bool) -> Iterator[Record]:
    """Lose 30 % of all packets, and try together whatever is proved."""
    plan = made(folder / "lossy", necks(folder / "necks.onnx"), "300kbit/s", "400ms@p50", *_TRIP, radio="0.001W")
    count = 30 if quick else 100
    with hosts(_STEADY) as pair:
        server = Server(pair, plan)
        server.start()
        bad = Shape.steady(RATE_BIT_S, delay_s=ROUND_TRIP_S / 2, loss=_LOSS, seed=3)
        load = f"periodic:{1e3 * DEADLINE_S:g}ms:{count}"
        found = run(pair, plan, load, folder, lambda: pair.shape(bad), how="eager")
        yield _record("30 % loss", found, count)


def over_traces(folder: Path, data: Path, *, quick: bool) -> Iterator[Record]:
    """Move the cut over recorded rates, and keep it fixed: in virtual time, and for real."""
    model = necks(folder / "necks.onnx")
    deadline = f"{1e3 * moving.DEADLINE_S:g}ms@p50"
    plan = made(folder / "trace", model, moving.LINK, deadline, *_TRIP, "--moving", radio=moving.RADIO)
    split = files.load(plan, FORMAT)
    yield from moving.in_virtual_time(split, data / traces.FILE, each=1 if quick else 8)
    if missing():
        return
    with hosts(_STEADY) as pair:
        server = Server(pair, plan)
        server.start()
        parts = moving.parts(data / traces.FILE, each=1)
        for name, start_s, part in itertools.islice(parts, 1 if quick else 3):
            some = part[:20] if quick else part[:_TRACE_S]
            told = moving.judged(split, some)
            shape = Shape(Trace((1.0,) * len(some), tuple(some)), delay_s=moving.ROUND_TRIP_S / 2, queue_s=5.0)
            count = round(len(some) / moving.DEADLINE_S)
            for way, which in (("moving", plan), ("fixed", moving.fixed(plan, told["best"]))):
                pair.shape(Shape.steady(2e7, delay_s=moving.ROUND_TRIP_S / 2))
                load = f"periodic:{1e3 * moving.DEADLINE_S:g}ms:{count}"
                found = run(pair, which, load, folder, lambda: pair.shape(shape), how="plain")  # noqa: B023
                virtual = told["moving: above_j" if way == "moving" else "best fixed: above_j"]
                more = {"trace": name, "start_s": start_s, "best": told["best"], "wait_j": told["wait_j"]}
                yield _record(f"5G trace, {way} cut", found, count) | more | {"virtual_above_j": virtual}


def _record(name: str, found: Ran, asked: int) -> Record:
    told = found.told
    return {
        "what": "run",
        "trial": name,
        "asked": asked,
        "answered": told["num_requests"],
        "different": told["num_different"],
        "compared": told["num_compared"],
        "late": sum(found.late),
        "fallen_back": told["num_fallen_back"],
        "retries": told["num_retries"],
        "moves": told["num_moves"],
        "together": sum(each["num_requests"] for each in told["shares"] if each["name"]),
        "median_s": document.percentile(found.latencies_s, 50),
        "p95_s": document.percentile(found.latencies_s, 95),
        "energy_j": told["energy_j"],
        "radio_j": told["radio_j"],
        "load": os.getloadavg()[0],
    }


def targets(records: list[Record]) -> Iterator[document.Target]:
    """Compare what was measured with what was promised."""
    trips = [each for each in records if each["what"] == "round trip"]
    over_s = max((each["over_p95_s"] for each in trips), default=None)
    yield document.target("relay: round trip over what was asked, p95, worst", want="<= 1e-3", value=over_s, unit="s")
    off = max((abs(each["off"]) for each in records if each["what"] == "rate"), default=None)
    yield document.target("relay: rate off what was asked, worst", want="<= 0.03", value=off, unit="1")
    runs = {each["trial"]: each for each in records if each["what"] == "run"}
    steady = runs.get("steady")
    if steady is not None and steady["together"] < steady["asked"] / 2:
        steady = None  # what was answered here says nothing of what was predicted for both
    value = None if steady is None else abs(steady["median_s"] / steady["predicted_s"] - 1)
    yield document.target(
        "steady link: median latency off the predicted", want="<= 0.1", value=value, unit="1", cause=_LOADED
    )
    value = None if steady is None else steady["p95_s"] / DEADLINE_S
    yield document.target("steady link: p95 of the deadline", want="<= 1", value=value, unit="1", cause=_LOADED)
    for name in ("steady", "link cut for 5 s", "30 % loss", "server killed and started again"):
        each = runs.get(name)
        if each is not None and each["together"] + each["fallen_back"] < ENOUGH:
            each = None  # hardly anything was sent: what failed was not in use
        lost = None if each is None else each["asked"] - each["answered"] + each["asked"] - each["compared"]
        yield document.target(f"{name}: requests lost", want="<= 0", value=lost, unit="1")
        wrong = None if each is None else each["different"]
        yield document.target(f"{name}: answers not the whole network's", want="<= 0", value=wrong, unit="1")
    again = runs.get("server killed and started again")
    value = None if again is None else again["together"]
    yield document.target(
        "server killed and started again: answered together, before and after", want=f">= {BACK}", value=value, unit="1"
    )
    yield from _moved(records)


def _moved(records: list[Record]) -> Iterator[document.Target]:
    """Compare the moving cut with the best fixed one of hindsight, in virtual time and for real."""
    parts = [each for each in records if each["what"] == "virtual"]
    ratios = [whole_j(each, "moving") / whole_j(each, "best fixed") for each in parts]
    more = sum(each["moving: late"] - each["best fixed: late"] for each in parts) if parts else None
    value = float(np.mean(np.array(ratios) <= 1.0)) if parts else None
    yield document.target(
        "5G traces, virtual time: parts where the moving cut takes no more than the best fixed one",
        want=">= 0.5", value=value, unit="1", cause=_HINDSIGHT,
    )  # fmt: skip
    value = float(np.mean(ratios)) if parts else None
    yield document.target(
        "5G traces, virtual time: energy of the moving cut over the best fixed one's, mean",
        want="<= 1", value=value, unit="1", cause=_HINDSIGHT,
    )  # fmt: skip
    yield document.target(
        "5G traces, virtual time: more late than the best fixed cut",
        want="<= 0",
        value=more,
        unit="1",
        cause=_HINDSIGHT,
    )
    moved, fixed = (
        [each for each in records if each["what"] == "run" and each["trial"] == f"5G trace, {way} cut"]
        for way in ("moving", "fixed")
    )
    ratio = sum(map(_joules, moved)) / sum(map(_joules, fixed)) if moved and fixed else None
    yield document.target(
        "5G trace: energy of the moving cut over the best fixed one's", want="<= 1", value=ratio, unit="1", cause=_TRACE
    )
    more = sum(each["late"] for each in moved) - sum(each["late"] for each in fixed) if moved and fixed else None
    yield document.target(
        "5G trace: more late than the best fixed cut", want="<= 0", value=more, unit="1", cause=_TRACE
    )


def _joules(of: Record) -> float:
    return float(of["energy_j"] + of["radio_j"])


_LOADED = (
    "the machine had more to do than its cores can (load in the records): answering, serving and the relay wait for "
    "one another. Tried: the relay runs before all else"
)
_HINDSIGHT = (
    "the best fixed cut is chosen after the trace was seen, and steered home by the same rules where the link fails it"
)
_TRACE = "runs of 40 s in turns: this machine's own delays make requests late in either"


def main() -> None:
    """Run all parts; `--quick` shorter."""
    options = document.options("split_run", __doc__, judges=True)
    if options.judge:
        kept = document.stored(options.judge)
        document.judged(options, kept, targets(kept))
        return
    records: list[Record] = []
    if why := missing():
        print(f"no two hosts here: {why}")
    else:
        records += own_error(quick=options.quick)
        if can_run():
            with tempfile.TemporaryDirectory() as folder:
                records += faults(Path(folder), quick=options.quick)
                records += lossy(Path(folder), quick=options.quick)
    if (options.data / traces.FILE).exists():
        with tempfile.TemporaryDirectory() as folder:
            records += over_traces(Path(folder), options.data, quick=options.quick)
    document.finish(options, records, list(targets(records)))
