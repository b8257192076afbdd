"""The verb ``prune``: a network → a narrower one whose widths fit the device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import amble
from amble.cli.options import FOLDER, PLACE, device_option, max_loss_option, ray_option, spreading, verb
from amble.cli.terminal import Terminal, kept_below
from amble.cli.verbs import main

if TYPE_CHECKING:
    from amble.levers.widths.budgets import Made
    from amble.levers.widths.network import Network
    from amble.levers.widths.pruning import Prune, Wanted
    from amble.levers.widths.staircase import StaircaseTable
    from amble.levers.widths.staircases import Given, Worth
    from amble.runtimes.onnx.layers import Precision

__all__ = ["prune"]


def _gathered(function: Callable[..., None]) -> Callable[..., None]:
    """Give a function the network and where it runs, as ``given``, and what is wanted within each budget, ``asked``."""

    @wraps(function)
    def run(
        terminal: Terminal,
        *,
        model: str,
        data: str,
        device: str,
        output: Path,
        batch: int,
        labels: str,
        importance: Worth,
        precision: Precision,
        latency: str | None,
        energy: str | None,
        max_loss: str,
        widths: tuple[str, ...],
        epochs: int,
        repeats: int,
        **options: Any,
    ) -> None:
        from amble.levers.widths.staircases import Given

        asked = _wanted(latency, energy, max_loss=max_loss, widths=widths, epochs=epochs, rounds=repeats)
        given = Given(model, data, device, output, batch, labels == "given", importance, precision)
        function(terminal, given=given, asked=asked, **options)

    return run


@verb(main)
@click.argument("model")
@device_option
@click.option("--data", required=True, metavar="FILE.npz", help="An array for the input, and labels; or 'bundled'.")
@click.option("--latency", metavar="0.7x|20ms,...", help="What it may take: a time, or a share of today's; or several.")
@click.option("--energy", metavar="0.7x,...", help="Instead: what energy it may take, as a share of today's.")
@click.option(
    "--least-energy",
    "may_lose",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Choose clocks too: the least energy within --latency that loses at most this share of importance.",
)
@max_loss_option("1pt")
@click.option("--labels", type=click.Choice(["given", "none"]), default="given", show_default=True, help="Use labels.")
@click.option("--width", "widths", multiple=True, metavar="GROUP:N", help="Give a group of channels this width.")
@click.option("--importance", type=click.Choice(["taylor", "l1", "bn"]), default="taylor", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="What it will run in: stairs, times and accuracy are those of INT8 then.",
)
@click.option("--epochs", type=click.IntRange(min=0), default=3, show_default=True, help="Of tuning after the cut.")
@click.option("--repeats", type=click.IntRange(min=3), default=5, show_default=True, help="Rounds of timing a width.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Batch size.")
@click.option("--design-space", type=PLACE, help="Also write the widths worth searching, for a search of networks.")
@click.option("--html", type=PLACE, help="Also write a page with a plot of every staircase.")
@ray_option
@click.option(
    "--output",
    "-o",
    type=FOLDER,
    required=True,
    help="Folder for pruned.onnx, pruning.json and staircases.json.",
)
@_gathered
def prune(
    terminal: Terminal,
    *,
    given: Given,
    asked: tuple[Wanted, ...],
    may_lose: float | None,
    design_space: Path | None,
    html: Path | None,
    ray: bool,
) -> None:
    """Make MODEL narrower, at widths that this device really runs faster.

    Latency over width is a staircase: a width inside a stair pays for channels that it does not have. The staircases
    of all layers are measured and shown first, widths are chosen on their edges, all at once, and the network cut to
    them is timed before it is tuned. What was measured and trained in the same folder is used again. The exit code is
    1 when the result is refused: not faster, or less accurate than allowed.

    Several budgets (--latency 0.5x,0.7x) make a network each, in a folder each (latency-0.5x); those for simulated
    devices may be spread over a cluster (--ray). The exit code is 1 when none is kept.
    """
    from amble.levers.widths.pruning import Prune

    _alone(may_lose, asked[0])
    several = len(asked) > 1 or ray
    if several:
        _one_of_each(may_lose, design_space, html)
    request = Prune(given, asked[0], may_lose, design_space)
    if terminal.dry_run:
        _rehearsed(terminal, request, asked)
    elif several:
        _each(terminal, given, asked, ray=ray)
    else:
        _one(terminal, request, html)


def _one(terminal: Terminal, request: Prune, html: Path | None) -> NoReturn:
    """Prune within one budget."""
    from amble.levers.widths.pruning import pruned

    output = request.given.output
    left = kept_below(output, "the stairs that were measured and the epochs that were trained")
    with terminal.progress(f"pruning {request.given.model}", kept=left) as on_progress:
        made = pruned(
            request,
            on_stairs=lambda table, network: _told(terminal, table, network),
            on_progress=lambda what, done, total: on_progress(done, total, what),
        )
    if html is not None:
        amble.export_files(made, html=html)
    terminal.note(f"wrote {output}")
    terminal.result(made, lambda: amble.show(made))
    sys.exit(0 if made.verdict == "kept" else 1)


def _one_of_each(*others: object) -> None:
    if any(each is not None for each in others):
        raise click.UsageError("several budgets, or --ray: leave --least-energy, --design-space and --html out")


def _each(terminal: Terminal, given: Given, asked: Sequence[Wanted], *, ray: bool) -> NoReturn:
    """Prune within each of several budgets."""
    from amble.levers.widths.budgets import places_of, prune_each

    left = kept_below(given.output, "the stairs that were measured and the networks that were made")
    with spreading(ray, given.device) as spread, terminal.progress(f"pruning {given.model}", kept=left) as on_progress:
        found = prune_each(
            given,
            asked,
            spread=spread,
            on_stairs=lambda table, network: _told(terminal, table, network),
            on_progress=lambda what, done, total: on_progress(done, total, what),
        )
    for budget, place in places_of(asked, given.output).items():
        terminal.note(f"{budget}: {_outcome(found[budget], place)}")
    made = {budget: each.pruning if each.pruning else {"why": each.why} for budget, each in found.items()}
    shown = [each.pruning for each in found.values() if each.pruning]
    terminal.result(made, lambda: [table for each in shown for table in amble.show(each)])
    sys.exit(0 if any(each.verdict == "kept" for each in shown) else 1)


def _outcome(made: Made, place: Path) -> str:
    """Say in one line what came of a budget."""
    if made.pruning is None:
        return made.why
    lost = f"{made.pruning.speedup:.2f} times as fast, {made.pruning.after.loss.value:.3g} points lost"
    return f"{lost}, {made.pruning.verdict}: {place}"


def _alone(may_lose: float | None, wanted: Wanted) -> None:
    if may_lose is not None and (wanted.resource == "energy" or wanted.widths):
        raise click.UsageError("--least-energy chooses widths within a --latency; leave --energy and --width out")


def _rehearsed(terminal: Terminal, request: Prune, asked: Sequence[Wanted]) -> None:
    """Tell what would be done, of several budgets for the first."""
    from amble.levers.widths.rehearsing import rehearse

    if len(asked) > 1:
        terminal.note(f"{', '.join(each.budget for each in asked)}: a network each; what follows is of the first")
    for line in rehearse(request).lines:
        terminal.note(line)


def _wanted(
    latency: str | None, energy: str | None, *, max_loss: str, widths: tuple[str, ...], epochs: int, rounds: int
) -> tuple[Wanted, ...]:
    from amble.levers.widths.pruning import Wanted

    if (latency is None) == (energy is None):
        raise click.UsageError("give one budget: --latency 0.7x, --latency 20ms or --energy 0.7x")
    first = Wanted(
        "1x", "latency" if latency else "energy", max_loss, dict(map(_width, widths)), epochs=epochs, rounds=rounds
    )
    return tuple(replace(first, budget=each.strip()) for each in (latency or energy or "").split(","))


def _width(text: str) -> tuple[str, int]:
    name, _, width = text.rpartition(":")
    if not name or not width.isdigit():
        raise click.UsageError(f"--width {text!r} is not like conv_3:48")
    return name, int(width)


def _told(terminal: Terminal, table: StaircaseTable, network: Network) -> None:
    """Show the staircases before anything is cut."""
    (shown,) = amble.show(table)
    terminal.note(f"{network.name}: {len(network.layers)} layers, {len(network.groups)} groups of channels")
    for row in shown.rows:
        terminal.note(f"  {row[0]}: {row[1]}; outputs: stairs {row[2]}; inputs: stairs {row[3]}; noise {row[4]}")
