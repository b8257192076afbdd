"""What a wrong prediction costs: clocks chosen with predicted times and powers, priced with the measured ones.

Every recorded sweep with both times and powers. Each model is given the few points of `prediction`, and chooses for
each workload the setting of least predicted gross energy (time x power of the run; recorded tables have no idle power
between requests) that is predicted to keep a deadline: 1.1 to 2 times the fastest measured time, 1.1 being "at most
10 % slower". Measured points are known exactly. Extra energy is that of the choice over the measured optimum under
the same deadline; a missed deadline counts as missed and its extra energy is not counted. The default model knows how
sure it is: it pays PRICE of the energy for the probability of a miss (`choose_by_risk`), with 0.4 of the deviation that
its interval states; both numbers were chosen on the files that the model was designed on, which are marked, as in
`prediction`. The baselines, and `amble, middle`, believe their prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.core.table import Table, read_table
from amble.stages.fit.models import DEFAULT
from amble.stages.fit.sweep import points_needed, sweep_of
from amble.stages.fit.tables import fit_table, predict_table
from amble.stages.plan.single_clock import choose_by_risk
from bench.kit import document
from bench.prediction.study import DESIGNED_ON, FILES, Record, Split, sampled_rows

Floats = NDArray[np.floating[Any]]

DEADLINES = (1.1, 1.25, 1.5, 1.75, 2.0)
PRICE = 0.07
HALF_INTERVAL = 1.645
RULES = (  # label, model, how much of the stated deviation is believed
    ("amble", DEFAULT, 0.4),
    ("amble, middle", DEFAULT, 0.0),
    ("cpu-dvfs", "cpu-dvfs", 0.0),
    ("han", "han", 0.0),
    ("roofline", "roofline", 0.0),
    ("p-norm", "p-norm", 0.0),
    ("interpolate", "interpolate", 0.0),
)


@dataclass(frozen=True, slots=True)
class Belief:
    """What a model says of every setting of every workload [w, p], and what was measured."""

    latency_s: Floats
    deviation: Floats  # of the logarithm of the time, 0 where measured or not said
    energy_j: Floats
    true_latency_s: Floats
    true_energy_j: Floats


def belief(table: Table, model: str, *, share: float) -> Belief:
    """Fit the sampled rows and predict the others; sampled settings are as measured, share of the deviation stays."""
    sweep = sweep_of(table)
    given = sampled_rows(table, points_needed(sweep.knobs))
    split = Split(table.rows(given), table.rows(~given))
    found = predict_table(fit_table(split.given, model=model, hold_out=0), split.scored)[0]
    latency, power, high = table.latency_s.copy(), table.power_w.copy(), table.latency_s.copy()
    latency[~given], power[~given] = found.latency_s, found.power_w
    high[~given] = np.where(np.isnan(found.latency_hi_s), found.latency_s, found.latency_hi_s)
    believed = sweep_of(table.with_values(latency_s=latency, power_w=power))
    highest = sweep_of(table.with_values(latency_s=high, power_w=power))
    return Belief(
        believed.latency_s,
        share * np.log(highest.latency_s / believed.latency_s) / HALF_INTERVAL,
        believed.latency_s * believed.power_w,
        sweep.latency_s,
        sweep.latency_s * sweep.power_w,
    )


def outcomes(known: Belief, ratio: float) -> tuple[Floats, int, int]:
    """Extra energies [of choices in time], number of deadlines missed, and number of deadlines, over all workloads."""
    extra, missed, total = [], 0, 0
    for row in range(len(known.latency_s)):
        true_latency, true_energy = known.true_latency_s[row], known.true_energy_j[row]
        usable = np.flatnonzero(~np.isnan(true_latency * true_energy * known.latency_s[row] * known.energy_j[row]))
        if not len(usable):
            continue
        deadline = ratio * float(np.nanmin(true_latency))
        believed = (known.latency_s[row, usable], known.deviation[row, usable], known.energy_j[row, usable])
        choice = usable[choose_by_risk(*believed, deadline, price=PRICE)]
        total += 1
        if true_latency[choice] > deadline:
            missed += 1
            continue
        best = float(np.min(true_energy[usable][true_latency[usable] <= deadline]))
        extra.append(true_energy[choice] / best - 1)
    return np.array(extra), missed, total


def scored(name: str, table: Table) -> Iterator[Record]:
    """Score every rule at every deadline."""
    for label, model, share in RULES:
        known = belief(table, model, share=share)
        for ratio in DEADLINES:
            extra, missed, total = outcomes(known, ratio)
            yield {
                "file": name,
                "designed_on": name in DESIGNED_ON,
                "model": label,
                "deadline_ratio": ratio,
                "choices": total,
                "missed": missed,
                "extra_energy_mean": float(np.mean(extra)) if len(extra) else None,
                "extra_energy_p95": float(np.percentile(extra, 95)) if len(extra) else None,
                "extra_energies": [round(float(value), 5) for value in extra],
            }


def pooled(records: list[Record], label: str, ratios: tuple[float, ...]) -> tuple[float, float, float] | None:
    """Mean and 95th percentile of the extra energy, and share of deadlines missed, over all workloads."""
    mine = [record for record in records if record["model"] == label and record["deadline_ratio"] in ratios]
    extras = [value for record in mine for value in _list(record["extra_energies"])]
    total = sum(_int(record["choices"]) for record in mine)
    if not extras or not total:
        return None
    missed = sum(_int(record["missed"]) for record in mine)
    return float(np.mean(extras)), float(np.percentile(extras, 95)), missed / total


def _list(value: object) -> list[float]:
    assert isinstance(value, list)
    return value


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def targets_of(name: str, records: list[Record]) -> list[document.Target]:
    """Targets of the default model on one file or on all."""
    found = []
    for text, ratios in (("at most 10 % slower", (1.1,)), ("deadlines 1.1-2 x fastest", DEADLINES)):
        values = pooled(records, "amble", ratios) or (None, None, None)
        for what, want, value in zip(
            ("extra energy, mean", "extra energy, p95", "deadlines missed"),
            ("<= 0.01", "<= 0.04", "<= 0.01"),
            values,
            strict=True,
        ):
            found.append(document.target(f"{name}, {text}: {what}", want=want, value=value, unit="1"))
    return found


def main() -> None:
    """Run the bench."""
    options = document.options("regret", __doc__)
    results: list[Record] = []
    targets: list[document.Target] = []
    skipped = False
    for name in FILES:
        path = options.data / "recorded" / f"{name}.csv.gz"
        if not path.exists():
            skipped = True
            continue
        table = read_table(path)
        both = ~np.isnan(table.latency_s) & ~np.isnan(table.power_w)
        if not both.any() or len(sweep_of(table.rows(both)).points) < 2:
            continue
        records = list(scored(name, table.rows(both)))
        results += records
        targets += targets_of(name, records)
    targets = targets_of("all files", [] if skipped else results) + targets
    for record in results:
        del record["extra_energies"]
    document.finish(options, results, targets)
