"""What labels prove holds also when many of them had to be put aside."""

from __future__ import annotations

import math

import numpy as np
import pytest

from amble.stages.plan.dual import End, Primal, climb
from amble.stages.plan.exact import Limits, close
from amble.stages.plan.sweep import Lattice
from amble.stages.plan.through import look
from amble.stages.plan.trellis import Trellis
from tests.stages.plan.trellises import best_by_trying


@pytest.mark.parametrize("max_labels", [1, 2, 3])
def test_the_bound_stays_below_the_optimum_when_few_labels_are_kept(max_labels: int) -> None:
    short = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        trellis = Trellis(rng.uniform(0.1, 1.0, (6, 4)), rng.uniform(0.1, 1.0, (6, 4)))
        lattice, budget_s = Lattice(trellis), rng.uniform(1.5, 3.0)
        free = End(*np.zeros((3, lattice.num_cells)))
        primal = Primal(lattice, budget_s, math.inf, free, free)
        dual = climb(primal)
        best_j = best_by_trying(trellis, budget_s)
        start = dual.found.some(slice(0, 0))
        if not math.isfinite(best_j) or dual.bound_j >= best_j * (1 - 1e-9):
            continue
        found, bound_j = close(look(primal, dual), dual, start, Limits(0.0, max_labels))
        assert bound_j <= best_j * (1 + 1e-9)
        short += not len(found.cost_j) or float(found.cost_j[0]) > best_j * (1 + 1e-9)
    assert short >= 3, "with all labels kept nothing is put aside"
