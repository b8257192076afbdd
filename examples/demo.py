"""The main job on two networks and a simulated Jetson TX2: measure, fit, plan, run, check, show.

The first network is a trained one that answers real test images, so that its accuracy is measured; the second is a
ResNet-50 (random weights: time and energy do not depend on them). Pages and traces are written to build/demo.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import resnet50
from rich.console import Console
from rich.table import Table as Grid

import amble
from amble.core import files
from amble.stages.check.compare import comparison, comparison_table
from amble.stages.check.tables import Table

DEVICE = "sim:jetson-tx2"
OUT = Path("build/demo")
FACTOR = 1.5  # the deadline, in units of the fastest time at its percentile
console = Console(width=None if sys.stdout.isatty() else 160)


def main() -> None:
    """Run the job for both networks and print what was found."""
    began_s = time.perf_counter()
    model = OUT / "resnet50.onnx"
    if not model.exists():
        files.write_bytes(model, resnet50.resnet50().SerializeToString())
    for name, data in (("fashion-resnet", "bundled"), (str(model), None)):
        job(name, data)
    console.print(f"done in {time.perf_counter() - began_s:.0f} s; {DEVICE} is simulated, its answers are real")


def job(model: str, data: str | None) -> None:
    """Measure, fit, plan and check one network."""
    console.rule(Path(model).stem)
    device, graph = amble.open(DEVICE), amble.load(model)
    console.print(f"{device.name}: {device.calibration}", style="dim")
    profile = amble.measure(graph, device)
    costs = amble.fit(profile)
    fastest_s = float(costs.arrays().latency_s.sum(axis=0).min()) * costs.margin(0.99)
    schedule = amble.plan(graph, costs, deadline=amble.Deadline(FACTOR * fastest_s))
    evidence = amble.check(schedule, DEVICE, data=data)
    show(comparison_table(comparison(evidence.report)))
    base = OUT / graph.name
    amble.export_files(evidence, html=base.with_suffix(".html"), trace=base.with_suffix(".trace.json"))
    console.print(f"page with plots: {base.with_suffix('.html')}   trace (ui.perfetto.dev): {base}.trace.json\n")


def show(table: Table) -> None:
    """Print one table."""
    grid = Grid(*table.columns, title=table.title, title_justify="left")
    for row in table.rows:
        grid.add_row(*row)
    console.print(grid)
    for note in table.notes:
        console.print(f"  {note}", style="dim")


if __name__ == "__main__":
    main()
