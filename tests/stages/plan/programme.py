"""A trellis as a mixed integer programme for HiGHS: a flow of one unit from the first column to the last."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse

from amble.stages.plan.search import Trellis


def programme(trellis: Trellis, budget_s: float) -> dict[str, object]:
    """Arguments of `scipy.optimize.milp`; variables: nodes of the first column, then the steps between columns."""
    operators, nodes = trellis.latency_s.shape
    energy_j, latency_s = [trellis.energy_j[0]], [trellis.latency_s[0]]
    for operator in range(1, operators):
        step_s, step_j = trellis.into(operator)
        energy_j.append((step_j + trellis.energy_j[operator]).ravel())
        latency_s.append((step_s + trellis.latency_s[operator]).ravel())
    into, out_of = np.tile(np.eye(nodes), nodes), np.kron(np.eye(nodes), np.ones(nodes))
    before, rows = np.eye(nodes), []
    for column in range(operators - 1):
        row: list[object] = [None] * operators
        row[column], row[column + 1] = scipy.sparse.csr_array(before), scipy.sparse.csr_array(-out_of)
        rows.append(row)
        before = into
    start = [scipy.sparse.csr_array(np.ones((1, nodes))), *[None] * (operators - 1)]
    flow = scipy.sparse.block_array([start, *rows], format="csr")
    if operators > 1:
        flow = scipy.sparse.csr_array(flow)
    right = np.append(1.0, np.zeros(flow.shape[0] - 1))
    cost, time = np.concatenate(energy_j), np.concatenate(latency_s)
    return {
        "c": cost / cost.mean(),
        "integrality": np.ones(len(cost)),
        "bounds": scipy.optimize.Bounds(0, 1),
        "constraints": [
            scipy.optimize.LinearConstraint(flow, right, right),
            scipy.optimize.LinearConstraint(time[None] / budget_s, -np.inf, 1.0),
        ],
        "options": {"mip_rel_gap": 0.0},
    }


def solve_as_programme(trellis: Trellis, budget_s: float) -> float:
    """Energy of the optimum [J]."""
    made = programme(trellis, budget_s)
    found = scipy.optimize.milp(**made)
    assert found.success, found.message
    steps = np.flatnonzero(found.x > 0.5)
    scale_j = np.concatenate(
        [
            trellis.energy_j[0],
            *((trellis.into(i)[1] + trellis.energy_j[i]).ravel() for i in range(1, len(trellis.energy_j))),
        ]
    ).mean()
    return float(np.asarray(made["c"])[steps].sum() * scale_j)
