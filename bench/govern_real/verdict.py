"""Records of real servers → what was promised of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.kit.document import Target, target

__all__ = ["targets"]

Record = dict[str, Any]
FROM_NOTHING = (
    "starts from nothing at the highest quota, two CPUs, and takes half a minute down; a clump of late answers, of "
    "other work on the same cores as well, asks for the highest for two seconds and may close a quota for a minute. "
    "Tried: quotas apart by one ratio, a change timed without the lease's watchdog, clumps told from danger, evidence "
    "that fades"
)


def targets(records: Sequence[Record]) -> Iterator[Target]:
    """Yield what was promised of the costs, of each server, and of faults."""
    for each in (each for each in records if each["part"] == "cost"):
        want = "<= 0.01" if each["period_s"] == 1.0 else "<= 0.03"
        yield target(f"own cost, period {each['period_s']:g} s", want=want, value=each["cores"], unit="cores")
    for kind in ("amble", "mlserver", "triton", "llama.cpp"):
        yield from _of(kind, [each for each in records if each.get("server") == kind])
    faults = [each for each in records if each["part"] == "faults"]
    found = sum(each["as_found"] for each in faults) / len(faults) if faults else None
    yield target("real faults: quota as found in time", want="== 1", value=found, unit="1")
    yield target(
        "real faults: false savings",
        want="== 0",
        value=sum(each["false_saving"] for each in faults) if faults else None,
        unit="1",
    )


def _disturbed(mine: Sequence[Record]) -> str:
    """Say what was late without any quota: that is the machine's doing, whose cores others use too."""
    shares = [each["late"] for each in mine if each.get("policy") == "as found"]
    return f"{100 * shares[0]:.1f} % were late at the quota as found, on the same arrivals" if shares else ""


def _of(kind: str, mine: Sequence[Record]) -> Iterator[Target]:
    run = next((each for each in mine if each.get("policy") == "amble"), None)
    kept = [each["share"] for each in mine if each.get("policy") == "static" and each["late"] <= 0.01]
    least = min(kept) if kept else None
    over = ratio = whole = periods = None
    cause = next((f"not measured: {each['left_out']}" for each in mine if "left_out" in each), "")
    if run is not None:
        over = max(0.0, run["whole"]["late"] - run["whole"]["allowed"])
        periods = run["periods_to_highest"] if run["periods_to_highest"] is not None else 99
        if least:
            ratio, whole = run["share"] / least, run["share_whole"] / least
    cause = cause or "; ".join(filter(None, (FROM_NOTHING, _disturbed(mine))))
    yield target(f"{kind}: late over the share and its interval", want="<= 0", value=over, unit="1", cause=cause)
    yield target(f"{kind}: mean quota over least static", want="<= 1.15", value=ratio, unit="1", cause=cause)
    yield target(f"{kind}: the same, learning included", want="<= 1.15", value=whole, unit="1", cause=cause)
    yield target(f"{kind}: periods to the highest, burst", want="<= 2", value=periods, unit="1", cause=cause)
