"""Our server beside a real Triton: answers a second over HTTP and gRPC, closed loop, both servers on one core.

Triton is the binary of the wheel nvidia-pytriton, with its Python back end over the same ONNX Runtime, one thread,
batches of up to 8 as ours; `AMBLE_TRITON` names the script that starts it, `AMBLE_TRITON_VENV` where it is.
Servers and their helpers run on one core, the load on another: wrk over HTTP, frames made beforehand over gRPC
(`load_grpc.py`). Rounds are interleaved: each takes every case of both servers one by one, once both have come to rest,
and a ratio is that of one round, of which the median is kept. `processor_s` is what an answer took of the servers'
core: a busy machine lengthens it less than the time on the clock. Refused requests count as sent: only answers are
counted. What a request costs beside the bare network, and goodput within an objective: `limits.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.kit import document
from bench.kit.document import Record, Target
from bench.kit.places import BUILD
from bench.serve_triton import limits
from bench.serve_triton.servers import (
    BODIES,
    TIMES_S,
    Case,
    offered,
    ours,
    prepared,
    processor_s,
    rested,
    triton,
    tritons,
)

CONNECTIONS = (1, 4, 16, 64)
DOORS = ("http", "grpc")
WANTED = {("http", "4 kB"): 0.8, ("http", "600 kB"): 1.0, ("grpc", "4 kB"): 0.6, ("grpc", "600 kB"): 0.9}
ROUNDS = 3
MEASURED = ("amble.services.serve.serving",)  # what the command that is served with runs: the age of a result counts it


def cases(*, quick: bool) -> list[Case]:
    """Return what is measured."""
    every = [Case(*each) for each in _product(DOORS, BODIES, TIMES_S, CONNECTIONS)]
    if quick:
        return [each for each in every if each.time == "0.2 ms" and each.connections in (1, 16)]
    return [each for each in every if each.time != "50 ms" or each.connections in (1, 16)]


def _product(
    doors: Sequence[str], bodies: Sequence[str] | dict[str, int], times: dict[str, float], users: Sequence[int]
) -> Iterator[tuple[str, str, str, int]]:
    for time_ in times:
        for body in bodies:
            for door in doors:
                for each in users:
                    yield door, body, time_, each


def measured(*, quick: bool) -> list[Record]:
    """Measure both servers, interleaved."""
    wanted, folder = cases(quick=quick), BUILD / "serve_triton"
    paths, bare_s = prepared(wanted, folder)
    rates: dict[tuple[Case, str], list[dict[str, float]]] = {}
    with ExitStack() as stack:
        servers = {"amble": stack.enter_context(ours(paths))}
        if Path(triton()[1]).exists():
            servers["triton"] = stack.enter_context(tritons(paths))
        for case in wanted[:: len(CONNECTIONS)]:
            for ports in servers.values():
                offered(case, ports, folder)
        for turn in range(1 if quick else ROUNDS):
            for case in wanted:
                for name in list(servers)[:: 1 if turn % 2 == 0 else -1]:
                    rested([ports["pid"] for ports in servers.values()])
                    rates.setdefault((case, name), []).append(_timed(case, servers[name], folder))
        if limits.ECHO.exists():
            beside = limits.overheads(servers["amble"], bare_s, folder, 1 if quick else ROUNDS)
        else:
            beside = []
    records = [
        {
            "server": name, "door": case.door, "body": case.body, "model": case.time, "connections": case.connections,
            "bare_s": bare_s[case.model], "rate_hz": [each["answered"] / each["seconds"] for each in found],
            "processor_s": [each["processor_s"] for each in found],
            "failed": sum(each["failed"] for each in found),
            "p50_s": median(each["p50_s"] for each in found), "p99_s": median(each["p99_s"] for each in found),
        }
        for (case, name), found in rates.items()
    ]  # fmt: skip
    return [*records, *beside, *_within(paths, bare_s, quick=quick)]


def _timed(case: Case, ports: dict[str, int], folder: Path) -> dict[str, float]:
    """Offer one load, and add what an answer took of the servers' processor."""
    before_s = sum(processor_s(ports["pid"]).values())
    found = offered(case, ports, folder)
    took_s = sum(processor_s(ports["pid"]).values()) - before_s
    return {**found, "processor_s": took_s / max(1.0, found["answered"])}


def _within(paths: dict[str, Path], bare_s: dict[str, float], *, quick: bool) -> list[Record]:
    """Measure goodput within an objective, with servers that are told of it."""
    small = {Case("http", "4 kB", time, 1).model for time in TIMES_S} & set(paths)
    paths, waits_s = {name: paths[name] for name in small}, {name: _wait_s(bare_s[name]) for name in small}
    with ExitStack() as stack:
        servers = {"amble": stack.enter_context(ours(paths))}
        if Path(triton()[1]).exists():
            servers["triton"] = stack.enter_context(tritons(paths, waits_s))
        return limits.goodputs(servers, bare_s, quick=quick)


def _wait_s(bare_s: float) -> float:
    """Return how long a request may wait [s] that is to be answered within its objective."""
    return bare_s + limits.MARGIN_S - limits.WAY_S


def ratio(records: Sequence[Record], **which: object) -> float | None:
    """Return our rate over Triton's: the median over rounds."""
    mine = [each for each in records if all(each.get(name) == value for name, value in which.items())]
    sides = {str(each["server"]): each["rate_hz"] for each in mine}
    if set(sides) != {"amble", "triton"}:
        return None
    pairs = zip(_numbers(sides["amble"]), _numbers(sides["triton"]), strict=True)
    return median(first / second if second else float("inf") for first, second in pairs)


def _numbers(value: object) -> list[float]:
    assert isinstance(value, list)
    return [float(each) for each in value]


CAUSE = (
    "Triton's HTTP is compiled, and its Python works only once a batch; ours is Python for each request; tried: "
    "granian (decision 12), one write for an answer, parsing in place (kept); for gRPC an HTTP/2 of our own (kept, "
    "decision 13)"
)
COST = (
    "an echo is one thread that never waits; ours hands over to the thread that computes and back, with Python's lock, "
    "and its code and data have been driven from the caches by the network each time; tried: one process for each side "
    "(slower, decision 12), answers at once from the loop (kept)"
)


def targets(records: Sequence[Record]) -> list[Target]:
    """What is promised: at every body, door, model and number of connections a share of Triton's rate."""
    made = []
    rates = [each for each in records if "rate_hz" in each]
    seen = dict.fromkeys((each["door"], each["body"], each["model"], each["connections"]) for each in rates)
    for door, body, model, connections in seen:
        value = ratio(rates, door=door, body=body, model=model, connections=connections)
        way = "HTTP" if door == "http" else "gRPC"
        name = f"{way}, {body}, network of {model}, {connections} at once: rate over Triton's"
        want = f">= {WANTED[str(door), str(body)]:g}"
        made.append(document.target(name, want=want, value=value, unit="1", cause=CAUSE))
    for each in records:
        if "overhead" in each:
            name = f"HTTP, {each['overhead']}: overhead at p50 over that of a compiled echo and a copy"
            made.append(document.target(name, want="<= 1.5", value=float(str(each["ratio"])), unit="1", cause=COST))
    for model in dict.fromkeys(str(each["goodput"]) for each in records if "goodput" in each):
        name, want = f"network of {model}: highest goodput within an objective over Triton's", ">= 0.98"
        value = limits.best(records, model)
        made.append(document.target(name, want=want if model == "50 ms" else "> 1", value=value, unit="1", cause=CAUSE))
    return made


def main() -> None:
    """Measure and print."""
    document.run("serve_triton", __doc__, lambda given: measured(quick=given.quick), targets)
