"""A mapping to approximate memory → tables of text: its totals, its partitions, its tensors."""

from __future__ import annotations

from amble.levers.memory.partitions import DramPlan
from amble.stages.check.cells import Table
from amble.stages.check.tables import tables

__all__ = ["mapping"]


@tables.register
def mapping(plan: DramPlan) -> tuple[Table, ...]:
    """Return a mapping's tables; what it rests on stands under the totals."""
    totals = (
        ("memory energy an inference, predicted", f"{plan.energy_j * 1e3:.4g} mJ"),
        ("all at ratings", f"{plan.nominal_j * 1e3:.4g} mJ"),
        ("saved", f"{plan.saving:.1%}"),
        ("no mapping needs less than", f"{plan.lower_bound_j * 1e3:.4g} mJ"),
        ("waiting for rows saved", f"{plan.saved_s * 1e6:.3g} µs"),
        ("found by", plan.method),
        ("verified", plan.verified or "no"),
    )
    settings = tuple((name, str(point)) for name, point in plan.settings.items())
    placed = tuple((each.tensor, each.partition, f"{each.ber:.2g}") for each in plan.placed)
    return (
        Table("Mapping to approximate memory", ("what", ""), totals, plan.labels),
        Table("Partitions", ("partition", "setting"), settings),
        Table("Tensors", ("tensor", "partition", "bit error rate"), placed),
    )
