"""The verb ``measure`` where it is of several devices, or spread over a cluster."""

from __future__ import annotations

from pathlib import Path

import amble
from amble.cli.options import Network, spreading
from amble.cli.terminal import Terminal

__all__ = ["survey"]


def survey(
    terminal: Terminal,
    network: Network,
    devices: tuple[str, ...],
    output: Path,
    repeats: tuple[int | None, int],
    ray: bool,
) -> None:
    """Measure a network on many devices; ``repeats``: how many settings, if that was said, and runs at each."""
    from amble.jobs.costing import Measure

    if terminal.dry_run:
        terminal.would(f"measure {network.model} on {', '.join(devices)}")
        return
    progress = terminal.progress(f"measuring {network.model}", kept=lambda: "what was found is kept beside -o")
    with spreading(ray) as spread, progress as on_progress:
        found = amble.survey(
            network.model,
            devices,
            output=output,
            asked=Measure(None, *repeats),
            spread=spread,
            on_progress=lambda what, done, total: on_progress(done, total, what),
            sizes=(network.batch, network.shapes),
        )
    terminal.note(f"wrote {', '.join(str(each) for each in amble.places_of(devices, output).values())}")
    terminal.result(found, lambda: [table for each in found.values() for table in amble.show(each)])
