"""`amble govern` beside real servers under a CPU quota, with an open-loop client; what it costs; and what faults do.

    python -m bench.govern_real --only triton-static --only triton-governed      the other parts stay as they are stored
    python -m bench.govern_real --quick --only amble-static --only amble-governed --only cost

*static*: the least static quota of a server, by halving a ladder of twentieths of a CPU: the smallest whose late
answers stay within the objective's share, and the clocks as found beside it. *governed*: `amble govern` from nothing.
It meets other arrivals for ninety seconds, then exactly those of the static runs, then five times as many. Misses are
counted over the whole of both, quotas over both and over the second alone. No energy is claimed: a quota is a duty
cycle. *cost*: the processor time of the process that governs, beside a page of 600 lines, once it has settled.
*faults*: see `faults.py`.

The objective is the 99th percentile, at five times what one request takes; the load is 0.3 of what one user alone gets
answered. The governor may spend half of what the objective allows to be late (`--extra 0.5`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

from amble.core import files
from amble.core.log import FORMAT, Log
from amble.core.point import Clocks
from amble.devices.quota import QuotaActuator
from amble.services.govern.maps import recognise
from amble.services.govern.page import names_of, read_page
from bench.govern_real import cost, faults
from bench.govern_real.servers import AMBLE, KINDS, Server, group, left_out, serving
from bench.govern_real.verdict import targets
from bench.kit import document, places
from bench.kit.processes import free_port
from bench.serve.load import Client

LOAD = 0.3  # of what one user alone gets answered
LIMIT = 5.0  # times what one request takes
LADDER = tuple(step / 20 for step in (*range(4, 21), 24, 28, 34, 40))
Record = dict[str, Any]


def main() -> None:
    """Measure the parts that are asked for, and judge them with those that are stored."""
    words = argparse.ArgumentParser(add_help=False)
    words.add_argument("--only", action="append", default=[])
    given, rest = words.parse_known_args()
    sys.argv[1:] = rest
    options = document.options("govern_real", __doc__)
    parts = _parts(options.quick)
    if unknown := set(given.only) - set(parts):
        raise SystemExit(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    kept = {} if options.quick or not given.only else _stored()
    for name in given.only or parts:
        kept[name] = [{"part": name, **each} for each in parts[name](kept)]
    records = [record for name in parts for record in kept.get(name, [])]
    document.finish(options, records, list(targets(records)))


def _stored() -> dict[str, list[Record]]:
    path = places.result("govern_real@host")
    kept: dict[str, list[Record]] = {}
    for record in document.stored(path) if path.exists() else []:
        kept.setdefault(str(record.get("part")), []).append(dict(record))
    return kept


Part = Callable[[dict[str, list[Record]]], Sequence[Record]]


def _parts(quick: bool) -> dict[str, Part]:
    """Return what can be measured, by name."""
    seconds = 10.0 if quick else 30.0
    found: dict[str, Part] = {
        "cost": lambda kept: [cost.measured(each, 5.0 if quick else 15.0) for each in (1.0, 0.25)]
    }
    for kind in KINDS:
        found[f"{kind}-static"] = lambda kept, kind=kind: static(kind, seconds)  # type: ignore[misc]
        found[f"{kind}-governed"] = lambda kept, kind=kind: governed(kind, kept, seconds)  # type: ignore[misc]
    found["faults"] = lambda kept: faults.tried(10 if quick else 100)
    return found


def static(kind: str, lasts_s: float) -> list[Record]:
    """Return a record of every static quota that was tried, and one of the quota as found."""
    if why := left_out(kind):
        return [{"server": kind, "left_out": why}]
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as name, group("static") as folder, serving(kind, Path(name), folder) as server:
        alone = Client(server.port, server.message)
        alone.alone(4.0)
        service_s = float(np.median([row[1] for row in alone.rows]))
        limit_s = LIMIT * service_s
        if not server.by_proxy:
            limit_s = next(edge for edge in edges_s(server) if edge >= limit_s)
        about: Record = {"server": kind, "service_s": service_s, "limit_s": limit_s, "rate_hz": LOAD / service_s}
        actuator = QuotaActuator(folder, len(os.sched_getaffinity(0)))

        def late(share: float | None) -> float:
            actuator.apply(Clocks(cpu_share=share))
            rows = offered(server.port, server.message, about["rate_hz"], lasts_s)
            actuator.apply(Clocks())
            policy = "as found" if share is None else "static"
            records.append({**about, "policy": policy, "share": share, **told(rows, limit_s)})
            return float(records[-1]["late"])

        late(None)
        low, high = -1, len(LADDER) - 1  # low does not keep the objective, high is believed to
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if late(LADDER[middle]) <= 0.01 else (middle, high)
    return records


def governed(kind: str, kept: dict[str, list[Record]], lasts_s: float) -> list[Record]:
    """Return what came of a governed run on the arrivals of the static ones; nothing where those are missing."""
    if why := left_out(kind):
        return [{"server": kind, "left_out": why}]
    before = kept.get(f"{kind}-static") or []
    about = {key: before[0][key] for key in ("service_s", "limit_s", "rate_hz")} if before else {}
    if not about:
        raise SystemExit(f"{kind}-governed needs {kind}-static: take both")
    with (
        tempfile.TemporaryDirectory() as name,
        group("governed") as folder,
        serving(kind, Path(name), folder) as server,
    ):
        return [{"server": kind, **about, **_under(server, folder, Path(name), about, lasts_s)}]


def _under(server: Server, folder: Path, home: Path, about: Record, lasts_s: float) -> Record:
    rate_hz, limit_s, log, port = about["rate_hz"], about["limit_s"], home / "log.json", server.port
    words = [AMBLE, "govern", server.page, "--slo", f"latency p99 < {1e3 * limit_s:.6f}ms", "--extra", "0.5"]
    words += ["--device", f"quota:{folder.name}", "--period", "1s", "--control", "0", "-o", str(log), "--json"]
    words += ["--for", f"{4.0 * lasts_s + 25.0:g}s"]
    if server.by_proxy:
        port = free_port()
        words += ["--proxy", f":{port}=:{server.port}"]
    state = {**os.environ, "XDG_STATE_HOME": str(home)}
    with (home / "govern.log").open("w") as out:
        running = subprocess.Popen(words, stdout=out, stderr=out, env=state)
    try:
        time.sleep(4.0)
        start_s, before_s = time.perf_counter(), cost.cpu_s(running.pid)
        learning = offered(port, server.message, rate_hz, 3.0 * lasts_s, seed=1)
        paired_s = time.perf_counter()
        paired = offered(port, server.message, rate_hz, lasts_s)
        burst_s, after_s = time.perf_counter(), cost.cpu_s(running.pid)
        burst = offered(port, server.message, 5.0 * rate_hz, 8.0, seed=2)
        running.wait(60)
    finally:
        running.terminate()
        running.wait(30)
    if running.returncode:
        raise RuntimeError((home / "govern.log").read_text()[-2000:])
    history = files.load(log, FORMAT)
    return {
        "policy": "amble",
        "share": mean_share(history, paired_s, burst_s),
        "share_whole": mean_share(history, start_s, burst_s),
        **told(paired, limit_s),
        "whole": told([*learning, *paired], limit_s),
        "periods_to_highest": _periods_to_highest(history, burst_s),
        "late_in_burst": told(burst, limit_s)["late"],
        "cores": (after_s - before_s) / (burst_s - start_s),
        "shares": [None if each.asked.cpu_share is None else each.asked.cpu_share for each in history.periods],
        "changes": history.num_changes,
        "quota_as_found": (folder / "cpu.cfs_quota_us").read_text().strip() == "-1",
    }


def _periods_to_highest(log: Log, burst_s: float) -> int | None:
    after = [each.decided for each in log.periods if each.finish_s > burst_s][:4]
    return next((at for at, setting in enumerate(after) if setting in (0, -1)), None)


def mean_share(log: Log, start_s: float, finish_s: float) -> float:
    """Return the mean quota [CPUs]; all of them while it was as found."""
    most = float(len(os.sched_getaffinity(0)))
    rows = [each for each in log.periods if each.start_s >= start_s and each.finish_s <= finish_s]
    weighed = sum((each.asked.cpu_share or most) * each.span_s for each in rows)
    return weighed / sum(each.span_s for each in rows)


def offered(port: int, message: bytes, rate_hz: float, seconds: float, seed: int = 0) -> list[float]:
    """Offer requests at the moments of a Poisson process; return latencies [s], infinite for those not answered."""
    client = Client(port, message)
    asyncio.run(client.poisson(rate_hz, seconds, seed))
    return [row[1] if row[0] == 200 else float("inf") for row in client.rows]


def told(latencies_s: Sequence[float], limit_s: float) -> Record:
    """Return the share of late answers, with the half of its 95 % interval at the share that is allowed."""
    count = len(latencies_s)
    late = sum(each > limit_s for each in latencies_s)
    half = 1.96 * (0.01 * 0.99 / max(1, count)) ** 0.5
    tail_s = document.percentile([min(each, 1e3) for each in latencies_s], 99)
    return {"answers": count, "late": late / max(1, count), "allowed": 0.01 + half, "p99_s": tail_s}


def edges_s(server: Server) -> list[float]:
    """Return the edges [s] of a server's histogram of latencies."""
    with urlopen(server.page, timeout=5.0) as answer:  # noqa: S310
        text = answer.read().decode()
    source = recognise(names_of(text)).latencies["latency"]
    page = read_page(text, {f"{name}_bucket" for name in source.names})
    return sorted({float(dict(labels)["le"]) * source.unit_s for rows in page.values() for labels, _ in rows})
