"""The verb ``run``: a split, a server, a load → answers of both together."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import amble
from amble.cli.options import PLACE, verb
from amble.cli.terminal import Terminal
from amble.cli.verbs import main

__all__ = ["run"]

_FILE = click.Path(dir_okay=False, path_type=Path)
_INTERRUPTED = 130


@verb(main)
@click.option("--plan", type=_FILE, required=True, help="split.json of amble split -o.")
@click.option("--server", metavar="URL", help="Where the other halves are served (default: all runs here).")
@click.option("--device", "-d", envvar="AMBLE_DEVICE", metavar="URI", help="Default: the plan's.")
@click.option("--load", "arrivals", metavar="LOAD", help="Such as periodic:100ms:600 (default: 100 requests).")
@click.option("--data", metavar="FILE.npz", help="An array for each input (default: made-up inputs).")
@click.option("--compare", is_flag=True, help="Compute every answer by the whole network, too.")
@click.option("--log", type=PLACE, help="Keep every request here: amble check reads it.")
@click.option("--journal", type=PLACE, help="Keep what was seen of link and server here, and what was decided.")
@click.option("--output", "-o", type=PLACE, help="Write what is printed as a file, too.")
def run(
    terminal: Terminal,
    *,
    plan: Path,
    server: str | None,
    device: str | None,
    arrivals: str | None,
    data: str | None,
    compare: bool,
    log: Path | None,
    journal: Path | None,
    output: Path | None,
) -> None:
    """Answer requests by a device and a server together: the first half of a network here, the rest there.

    The link is measured by the transfers themselves. The cut moves when link or server change, as far as the plan has
    halves for it (amble split --moving). When the server fails, requests are answered here, all of them; once it proves
    to hold the plan's halves again, it is used again. What comes after its deadline is counted as late.
    """
    from amble.jobs import cooperating

    asked = cooperating.Cooperation(plan, server, device, arrivals, data, compare)
    if terminal.dry_run:
        terminal.would(f"answer {arrivals or '100 requests'} by {plan} and {server or 'no server'}")
        return
    with terminal.progress("answering", kept=lambda: "nothing is kept") as on_progress:
        found, log_found, journal_found = cooperating.run(asked, on_progress)
    for artefact, path in ((log_found, log), (journal_found, journal), (found, output)):
        if path is not None:
            amble.save(artefact, path)
            terminal.note(f"wrote {path}")
    terminal.result(found, lambda: amble.show(found))
    if found.interrupted:
        terminal.note("amble: interrupted; what was answered by then is told, clocks are as they were found")
        sys.exit(_INTERRUPTED)
