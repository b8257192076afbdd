"""A fitted sweep → notes on what it lacks: points to add, forms that had to be simpler, clocks that did not run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.stages.fit.ceiling import implied_limit
from amble.stages.fit.clocks import AskedToRan
from amble.stages.fit.models import DEFAULT, Measured, forms_used
from amble.stages.fit.sweep import Sweep, farthest_points, points_needed

__all__ = ["fit_notes"]

Floats = NDArray[np.floating[Any]]


def fit_notes(model: str, sweep: Sweep, points: Floats, clocks: AskedToRan) -> list[str]:
    """Say which workloads have fewer points than the model needs, and which to add."""
    notes = []
    needed = points_needed(sweep.knobs)
    count = (~np.isnan(sweep.latency_s) | ~np.isnan(sweep.power_w)).sum(axis=1)
    few = np.flatnonzero(count < needed)
    if sweep.knobs and len(few):
        name = " ".join(part for part in sweep.workloads[few[0]][1:] if part) or "the workload"
        notes.append(
            f"{len(few)} of {sweep.num_workloads} workloads have fewer than {needed} points (first: {name}, "
            f"{count[few[0]]}); add {_to_add(sweep, int(few[0]), needed)}"
        )
    measured = Measured(sweep.knobs, points, sweep.latency_s, sweep.power_w)
    simpler = forms_used(model, measured) - {model}
    fallen = sorted(
        form for form in simpler if form.endswith(("-b1", "-no-constant", "-2", "-0.7")) or form == "nearest"
    )
    if fallen:
        notes.append(f"too few points for the whole law; simpler forms were fitted: {', '.join(fallen)}")
    limit = implied_limit(sweep.knobs, points, np.log(sweep.latency_s), np.log(sweep.power_w))
    if model == DEFAULT and limit is not None:
        notes.append(f"powers end at {np.exp(limit):.3g} W, which is taken for a power limit that the device keeps")
    if not sweep.knobs:
        notes.append("no knob varies; every prediction is the measured value")
    lost = [asked for asked, ran in zip(clocks.asked_hz, clocks.ran_hz, strict=True) if ran < 0.995 * asked]
    if lost:
        notes.append(
            f"{len(lost)} requested core clocks did not run as asked; the lowest of them is {min(lost) / 1e6:g} MHz"
        )
    return notes


def _to_add(sweep: Sweep, row: int, needed: int) -> str:
    """Name the settings that would complete the usual choice for a workload."""
    known = ~np.isnan(sweep.latency_s[row]) | ~np.isnan(sweep.power_w[row])
    wanted = farthest_points(sweep.points, needed)
    missing = [point for point in wanted.tolist() if not known[point]][: needed - int(known.sum())]
    if not missing:
        return "clocks between those measured"
    scale = [1.0 if name == "power_limit_w" else 1e6 for name in sweep.knobs]
    unit = ["W" if name == "power_limit_w" else f"MHz {name[:-3]}" for name in sweep.knobs]
    words = [
        " / ".join(f"{value / by:g} {what}" for value, by, what in zip(sweep.points[point], scale, unit, strict=True))
        for point in missing
    ]
    return "; ".join(words)
