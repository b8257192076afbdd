"""Two hosts on this machine, a link that is made bad, and a split that runs: is it in time, and is no request lost?

First the relay's own error. Then one network, planned for a link of 2 Mbit/s: over that link as planned; with the
server killed and started again; with the link cut for 5 s; with 30 % of all packets lost. Last, where the recorded 5G
traces are there, a moving cut against the cut that is best at the trace's median rate, and against everything local.
Energies are those of a simulated phone, held to its pace in this machine's time, and of a radio whose power is stated:
predicted. Latencies and misses are measured.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amble.core import files
from amble.levers.split.results import FORMAT
from bench.hosts.hosts import hosts, missing
from bench.hosts.pipe import Shape
from bench.kit import document
from bench.split_run import traces
from bench.split_run.link import own_error
from bench.split_run.running import Ran, Server, after, can_run, made, run

__all__ = ["main", "targets"]

Record = dict[str, Any]

RATE_BIT_S, ROUND_TRIP_S, DEADLINE_S = 2e6, 0.005, 0.4
_PLAN = ("2Mbit/s", "400ms@p50", "--round-trip", "5ms")
_STEADY = Shape.steady(RATE_BIT_S, delay_s=ROUND_TRIP_S / 2)
_CUT_S = 5.0
_LOSS = 0.3
ENOUGH = 10  # requests answered by both, for a trial to say anything of failures


def faults(folder: Path, *, quick: bool) -> Iterator[Record]:
    """Run as planned, and while server and link fail."""
    plan = made(folder / "moving", *_PLAN, "--moving")
    predicted_s = files.load(plan, FORMAT).best.choice.latency_s
    count = 30 if quick else 80
    with hosts(_STEADY) as pair:
        server = Server(pair, plan)
        server.start()
        lossy = Shape.steady(RATE_BIT_S, delay_s=ROUND_TRIP_S / 2, loss=_LOSS, seed=3)
        restored = after((2.0, server.kill), (2.0, server.start))
        cut = after((3.0, pair.cut), (_CUT_S, lambda: pair.shape(_STEADY)))
        trials: list[tuple[str, Callable[[], object]]] = [
            ("steady", lambda: None),
            ("link cut for 5 s", cut),
            ("30 % loss", lambda: pair.shape(lossy)),
            ("server killed and started again", restored),
        ]
        for name, meanwhile in trials:
            pair.shape(_STEADY)
            found = run(pair, plan, f"periodic:{1e3 * DEADLINE_S:g}ms:{count}", folder, meanwhile)
            yield _record(name, found, count) | {"predicted_s": predicted_s}


def moving(folder: Path, data: Path, seconds: int) -> Iterator[Record]:
    """Run over the parts of two recorded traces whose rates vary most, with a moving cut and with fixed ones."""
    known = traces.rates(data / traces.FILE)
    widest = sorted(known, key=lambda name: -float(np.std(np.log10(np.maximum(known[name], 1e4)))))
    count = round(seconds / DEADLINE_S)
    for name in widest[:1]:
        scale = RATE_BIT_S / max(float(np.median(known[name])), 1e5)
        rates = traces.trace(known[name], seconds, scale=scale)
        shape = Shape(rates, delay_s=ROUND_TRIP_S / 2, queue_s=5.0)
        for way, more in (("moving", ("--moving",)), ("fixed", ())):
            plan = made(folder / f"trace-{way}", *_PLAN, *more)
            with hosts(_STEADY) as pair:
                server = Server(pair, plan)
                server.start()
                load = f"periodic:{1e3 * DEADLINE_S:g}ms:{count}"
                found = run(pair, plan, load, folder, lambda: pair.shape(shape))  # noqa: B023
            yield _record(f"5G trace, {way} cut", found, count) | {
                "trace": name,
                "scale": scale,
                "rate_p10_bit_s": document.percentile(rates.rates_bit_s, 10),
                "rate_p90_bit_s": document.percentile(rates.rates_bit_s, 90),
            }


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
        if each is not None and each["together"] < ENOUGH:
            each = None  # hardly anything was sent: what failed was not in use
        lost = None if each is None else each["asked"] - each["answered"] + each["asked"] - each["compared"]
        yield document.target(f"{name}: requests lost", want="<= 0", value=lost, unit="1")
        wrong = None if each is None else each["different"]
        yield document.target(f"{name}: answers not the whole network's", want="<= 0", value=wrong, unit="1")
    moved, fixed = runs.get("5G trace, moving cut"), runs.get("5G trace, fixed cut")
    ratio = None if moved is None or fixed is None else _joules(moved) / _joules(fixed)
    yield document.target(
        "5G trace: energy of the moving cut over the fixed one's", want="<= 1", value=ratio, unit="1", cause=_TRACE
    )
    more = None if moved is None or fixed is None else moved["late"] - fixed["late"]
    yield document.target("5G trace: more late than the fixed cut", want="<= 0", value=more, unit="1", cause=_TRACE)


def _joules(of: Record) -> float:
    return float(of["energy_j"] + of["radio_j"])


_LOADED = (
    "the machine had more to do than its cores can (load in the records): answering, serving and the relay wait for "
    "one another. Tried: the relay runs before all else"
)
_TRACE = (
    "one run of a minute each: what the cut saves is a few percent of what the phone takes while it waits, and the "
    "fixed cut, too, answers alone where the link fails it"
)


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
                if (options.data / traces.FILE).exists():
                    records += moving(Path(folder), options.data, 30 if options.quick else 60)
    document.finish(options, records, list(targets(records)))
