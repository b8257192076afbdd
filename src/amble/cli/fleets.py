"""The verb ``fleet``: what many devices under one power budget would draw and miss, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import amble
from amble.cli.options import ray_option, spreading, verb
from amble.cli.terminal import Terminal
from amble.cli.verbs import main
from amble.core.quantity import format_energy, format_time, parse_time_s

if TYPE_CHECKING:
    from amble.services.cluster.forecast import Forecast
    from amble.stages.check.cells import Table

__all__ = ["fleet"]


@verb(main)
@click.argument("devices", nargs=-1, required=True, metavar="COUNTxDEVICE...")
@click.option("--load", required=True, metavar="LOAD", help="poisson:100000/s:10s, or as of amble check.")
@click.option("--deadline", default="100ms", show_default=True, metavar="TIME", help="From arrival to answer.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="WATTS", help="For all devices (default: none).")
@click.option("--model", default="fashion-resnet", show_default=True, help="Network that all serve.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the arrivals.")
@ray_option
def fleet(
    terminal: Terminal,
    *,
    devices: tuple[str, ...],
    load: str,
    deadline: str,
    budget: float | None,
    model: str,
    seed: int,
    ray: bool,
) -> None:
    """Simulate many devices under one power budget: 200xsim:v100 100xsim:a100.

    Nothing is served and no clock is set. The cluster governor divides the budget by what the next watt is worth;
    beside it the same arrivals with an equal share for every device, and at top clocks without a budget.
    """
    deadline_s = parse_time_s(deadline)
    if terminal.dry_run:
        terminal.would(f"simulate {', '.join(devices)} under {load}")
        return
    with spreading(ray) as spread:
        found = amble.fleet(
            devices, load=load, deadline_s=deadline_s, budget_w=budget, model=model, seed=seed, spread=spread
        )
    terminal.result(found, lambda: [_table(found)])


def _table(found: Forecast) -> Table:
    from amble.stages.check.cells import Table, percent

    rows = [
        (
            each.policy,
            format_energy(each.energy_j),
            f"{each.mean_w:.0f} W",
            f"{each.most_w:.0f} W",
            percent(each.missed, 2),
        )
        for each in found.rows
    ]
    title = f"{found.devices} simulated devices, {found.model} within {format_time(found.deadline_s)}, {found.load}"
    notes = (
        f"budget {found.budget_w:.0f} W; parked the fleet draws {found.parked_w:.0f} W, at its top {found.top_w:.0f} W",
        f"nobody serves all of it in time for less than {format_energy(found.least_j)}",
    )
    return Table(title, ("policy", "energy", "mean power", "most that rungs may draw", "missed"), tuple(rows), notes)
