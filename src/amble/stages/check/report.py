"""Logs and what was promised → Report: was the deadline met, at what energy, how wrong was the prediction?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.cost import Cost
from amble.core.errors import Refused
from amble.core.log import Log
from amble.core.point import DOMAINS, Clocks, Domain
from amble.core.ports import FloatArray
from amble.core.quantity import format_time
from amble.core.report import Percentile, PolicyReport, Prediction, Report, Saving, Share, Verdict
from amble.core.schedule import Deadline, Schedule
from amble.core.timekeeping import caution
from amble.stages.check.energy import ACCOUNTINGS, energy_per_inference, same_arrivals, saving
from amble.stages.check.intervals import clopper_pearson, quantile, requests_needed, wilson

__all__ = ["PERCENTILES", "assess", "clocks_of"]

PERCENTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What every policy is judged by."""

    deadline: Deadline
    schedule: Schedule | None
    policy: str
    idle_w: float | None
    confidence: float


def assess(
    logs: Sequence[Log],
    against: Schedule | Deadline,
    *,
    policy: str | None = None,
    idle_w: float | None = None,
    confidence: float = 0.95,
) -> Report:
    """Judge ``policy`` (the first log's, unless named) against a deadline, beside the other policies that ran.

    Logs of one policy are runs of it and are pooled. ``idle_w`` is the power [W] of the device when it waits with
    nothing to do; without it energy above idle is unknown. ``confidence`` is the level of every interval.

    Refused when the logs are not of one graph, device and load, or when the policy is not among them.
    """
    if not 0.5 < confidence < 1:
        raise ValueError(f"a level of confidence lies between 0.5 and 1, not at {confidence}")
    _refuse_mixtures(logs)
    schedule = against if isinstance(against, Schedule) else None
    deadline = against.deadline if isinstance(against, Schedule) else against
    terms = _Terms(deadline, schedule, policy or logs[0].policy, idle_w, confidence)
    runs: dict[str, list[Log]] = {}
    for log in logs:
        runs.setdefault(log.policy, []).append(log)
    if terms.policy not in runs:
        raise Refused(f"no log of policy {terms.policy!r}; there are {', '.join(runs)}")
    first = logs[0]
    return Report(
        first.subject,
        first.where,
        load=first.load,
        loop="closed" if first.load.startswith("closed") else "open",
        deadline=deadline,
        confidence=confidence,
        policy=terms.policy,
        policies=tuple(_policy(each, terms) for each in runs.values()),
        savings=_savings(runs, terms),
        gap=schedule.gap if schedule else None,
        notes=_notes(runs, terms),
    )


def clocks_of(logs: Sequence[Log]) -> str:
    """Write the clocks that work ran at: one setting, or each domain's range; ``unknown clocks`` without a trace.

    Settings that held for less than 2 % of the time are left out: they were passed through.
    """
    held_s = _held_s(logs)
    return _written({clocks for clocks, time_s in held_s.items() if time_s >= 0.02 * sum(held_s.values())})


def _held_s(logs: Sequence[Log]) -> dict[Clocks, float]:
    held_s: dict[Clocks, float] = {}
    for piece in (piece for log in logs for piece in log.slices):
        held_s[piece.ran_at] = held_s.get(piece.ran_at, 0.0) + piece.finish_s - piece.start_s
    return held_s


def _written(settings: set[Clocks]) -> str:
    if len(settings) == 1:
        return str(next(iter(settings)))
    words = [_range(settings, domain) for domain in DOMAINS]
    return ", ".join(word for word in words if word) or "unknown clocks"


def _range(ran_at: set[Clocks], domain: Domain) -> str:
    mhz = sorted({hz / 1e6 for clocks in ran_at if (hz := clocks.of(domain)) is not None})
    if not mhz:
        return ""
    return f"{domain} {mhz[0]:g} MHz" if len(mhz) == 1 else f"{domain} {mhz[0]:g}–{mhz[-1]:g} MHz"


def _refuse_mixtures(logs: Sequence[Log]) -> None:
    if not logs or not all(log.served for log in logs):
        raise Refused("nothing was served, so there is nothing to check; run it under a longer load")
    for what, every in (
        ("graphs", {log.subject.network for log in logs}),
        ("devices", {log.where.device for log in logs}),
        ("loads", {log.load for log in logs}),
    ):
        if len(every) > 1:
            raise Refused(f"logs of different {what} cannot be compared: {', '.join(sorted(every))}")


def _policy(logs: list[Log], terms: _Terms) -> PolicyReport:
    latency_s = np.array([each.latency_s for log in logs for each in log.served])
    late = clopper_pearson(sum(each.late for log in logs for each in log.served), latency_s.size, terms.confidence)
    verdict, certain, reasons = _verdict(late, latency_s, terms)
    window_s = float(sum(log.finish_s - log.start_s for log in logs))
    energies = {
        each: energy_per_inference(logs, each, idle_w=terms.idle_w, confidence=terms.confidence) for each in ACCOUNTINGS
    }
    period_j, mean_s = energies["period"], float(latency_s.mean())
    return PolicyReport(
        policy=logs[0].policy,
        clocks=_named_clocks(logs, terms),
        runs=len(logs),
        requests=latency_s.size,
        window_s=window_s,
        mean_s=mean_s,
        latency=_percentiles(latency_s, terms),
        late=late,
        verdict=verdict,
        certain=certain,
        reasons=reasons,
        period_j=period_j,
        above_idle_j=energies["above_idle"],
        gross_j=energies["gross"],
        power_w=period_j.value * latency_s.size / window_s if period_j else None,
        edp_js=period_j.value * mean_s if period_j else None,
        accuracy=_accuracy(logs, terms.confidence),
        changes_per_inference=sum(log.num_changes for log in logs) / latency_s.size,
        predictions=_predictions(logs, terms, {each: value.value for each, value in energies.items() if value}),
    )


def _percentiles(latency_s: FloatArray, terms: _Terms) -> tuple[Percentile, ...]:
    wanted = sorted({*PERCENTILES, terms.deadline.percentile})
    return tuple(Percentile(each, quantile(latency_s, each, terms.confidence)) for each in wanted)


def _verdict(late: Share, latency_s: FloatArray, terms: _Terms) -> tuple[Verdict, bool, tuple[str, ...]]:
    """Decide by what was observed, once there are enough requests; say whether chance could have decided it.

    "At most" and "at least" are one-sided statements, so each takes one end of a wider two-sided interval.
    """
    allowed = 1 - terms.deadline.percentile
    bounds = clopper_pearson(late.count, late.out_of, 2 * terms.confidence - 1).ratio
    least, most = bounds.low or 0.0, 1.0 if bounds.high is None else bounds.high
    needed = requests_needed(terms.deadline.percentile, terms.confidence)
    reasons = [_late_words(late, most, terms), _tail_words(latency_s, terms)]
    if late.out_of < needed and least <= allowed:
        words = f"p{terms.deadline.percentile * 100:g} needs at least {needed} requests, none late, to be vouched for"
        return "INCONCLUSIVE", False, (f"only {late.out_of} requests: {words}", *reasons)
    kept = late.count <= allowed * late.out_of + 1e-9
    certain = most <= allowed or least > allowed
    if not certain:
        reasons.append(
            f"chance could have decided: {_percent(least)} to {_percent(most)} are late in the long run, "
            f"{_percent(allowed)} is allowed; more requests would tell"
        )
    if terms.schedule is not None and not kept:
        reasons.append("plan again with a shorter deadline, or measure more so that the margin is better known")
    return ("PASS" if kept else "FAIL"), certain, tuple(reasons)


def _late_words(late: Share, most: float, terms: _Terms) -> str:
    count = f"no answer of {late.out_of} was late" if not late.count else f"{late.count} of {late.out_of} were late"
    likely = f"at most {_percent(most)} with {_percent(terms.confidence)} confidence"
    return f"{count} ({_percent(late.ratio.value)}, {likely}), {_percent(1 - terms.deadline.percentile)} is allowed"


def _tail_words(latency_s: FloatArray, terms: _Terms) -> str:
    tail = quantile(latency_s, terms.deadline.percentile, terms.confidence)
    name = f"p{terms.deadline.percentile * 100:g}"
    reach = f"up to {format_time(tail.high)}" if tail.high is not None else "no upper bound from so few requests"
    limit = format_time(terms.deadline.latency_s)
    return f"{name} latency is {format_time(tail.value)} ({reach}), the deadline {limit}"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.3g} %"


def _accuracy(logs: Sequence[Log], confidence: float) -> Share | None:
    answers = [each.correct for log in logs for each in log.served if each.correct is not None]
    return wilson(sum(answers), len(answers), confidence) if answers else None


def _named_clocks(logs: Sequence[Log], terms: _Terms) -> str:
    """Name a policy by the clocks it was to run at, if most of the traced work did run there; else by what ran.

    The first requests may run at the clocks that were found, until the asked ones have settled.
    """
    planned, held_s = _planned(logs[0].policy, terms), _held_s(logs)
    kept_s = sum(time_s for clocks, time_s in held_s.items() if clocks in planned)
    return _written(planned) if planned and kept_s >= 0.5 * sum(held_s.values()) else clocks_of(logs)


def _planned(policy: str, terms: _Terms) -> set[Clocks]:
    if terms.schedule is None:
        return set()
    if policy == terms.policy:
        return {step.point.clocks for step in terms.schedule.steps}
    return {each.point.clocks for each in terms.schedule.baselines if each.name == policy and each.point is not None}


def _predictions(logs: Sequence[Log], terms: _Terms, measured_j: dict[str, float]) -> tuple[Prediction, ...]:
    """Pair what the schedule predicts, of itself or of a baseline, with what these runs measured."""
    schedule, predicted = terms.schedule, _predicted(logs[0].policy, terms)
    if schedule is None or predicted is None:
        return ()
    service_s = float(np.median([each.service_s for log in logs for each in log.served]))
    found = [Prediction("latency, median from start to answer (s)", predicted.latency_s, service_s)]
    energy_j = _at_load(predicted, logs, terms)
    if energy_j is not None and measured_j.get(schedule.accounting):
        quantity = f"energy of an inference, {schedule.accounting} (J)"
        found.append(Prediction(quantity, energy_j, measured_j[schedule.accounting]))
    return tuple(found)


def _predicted(policy: str, terms: _Terms) -> Cost | None:
    if terms.schedule is None:
        return None
    if policy == terms.policy:
        return terms.schedule.predicted
    found = [each.predicted for each in terms.schedule.baselines if each.name == policy]
    return found[0] if found else None


def _at_load(predicted: Cost, logs: Sequence[Log], terms: _Terms) -> float | None:
    """Return the predicted energy at the period that the load really had; None where idle power would be needed."""
    schedule = terms.schedule
    if predicted.energy_j is None or schedule is None or schedule.accounting != "period":
        return predicted.energy_j
    period_s = sum(log.finish_s - log.start_s for log in logs) / sum(len(log.served) for log in logs)
    if abs(period_s / schedule.period_s - 1) < 1e-3:
        return predicted.energy_j
    idle_w = _idle_w(logs[0].policy, terms, schedule)
    return None if idle_w is None else predicted.energy_j + idle_w * (period_s - schedule.period_s)


def _idle_w(policy: str, terms: _Terms, schedule: Schedule) -> float | None:
    """Return what the device draws [W] where a policy waits: each baseline waits at clocks of its own."""
    if policy == terms.policy:
        return terms.idle_w
    return next((each.idle_power_w for each in schedule.baselines if each.name == policy), None)


def _savings(runs: dict[str, list[Log]], terms: _Terms) -> tuple[Saving, ...]:
    mine = runs[terms.policy]
    return tuple(
        saving(
            mine,
            theirs,
            accounting,
            clocks=_named_clocks(theirs, terms),
            idle_w=terms.idle_w,
            confidence=terms.confidence,
        )
        for name, theirs in runs.items()
        if name != terms.policy
        for accounting in ACCOUNTINGS
    )


def _notes(runs: dict[str, list[Log]], terms: _Terms) -> tuple[str, ...]:
    notes = []
    mine = runs[terms.policy]
    if any(log.energy_j is None for log in mine):
        notes.append("energy is unknown: this device has no meter that can be read")
    if unpaired := [name for name, theirs in runs.items() if not same_arrivals(mine, theirs)]:
        notes.append(f"other arrivals than {terms.policy}: {', '.join(unpaired)}; their savings have no interval")
    if len({log.where.calibration for logs in runs.values() for log in logs}) > 1:
        notes.append("the logs are of differently calibrated devices")
    return (*notes, *(caution(mine[0].where.device) if terms.schedule else ()))
