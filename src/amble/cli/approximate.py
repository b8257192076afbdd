"""The verb ``dram``: a network → where its tensors may live in approximate memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import amble
from amble.cli.options import PLACE, max_loss_option, output_option, ray_option, spreading, verb
from amble.cli.terminal import Terminal, kept_in
from amble.cli.verbs import main

__all__ = ["dram"]


@verb(main)
@click.argument("model")
@click.option("--data", required=True, metavar="FILE.npz", help="An array for each input, and labels; or 'bundled'.")
@click.option("--dram", "chips", default="ddr4-2400", show_default=True, metavar="CHIP", help="Whose currents count.")
@click.option("--module", default="vendorB", show_default=True, metavar="NAME", help="Whose bit errors count.")
@click.option("--system", default="cpu", show_default=True, help="cpu, gpu, eyeriss or tpu: what is around it.")
@max_loss_option("1pt")
@click.option(
    "--factor",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    help="Bit errors at low voltage over the lower bound that is known: 1, 10 or 100.",
)
@click.option(
    "--spreads",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Map for a module so many standard deviations worse than the vendor's typical one.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=50),
    default=200,
    show_default=True,
    help="Most that find rates; three times as many verify.",
)
@click.option("--fine", is_flag=True, help="Find a rate for each tensor; takes long.")
@click.option(
    "--retrain",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="EPOCHS",
    help="First teach the network to bear errors (extra torch); needs --hardened.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the errors.")
@click.option("--hardened", type=PLACE, help="Also write the network that checks its feature maps itself (.onnx).")
@output_option
@ray_option
def dram(
    terminal: Terminal,
    *,
    model: str,
    chips: str,
    module: str,
    output: Path | None,
    ray: bool,
    **wishes: Any,
) -> None:
    """Find which tensors of MODEL may live in approximate DRAM, and what energy that would save.

    Bit errors are injected for real, and the mapping is shown to keep its accuracy on examples and modules it was not
    made with, or refused. Energy and time are predicted: nothing changes this machine's memory. The rates that an
    interrupted search has found are used again when it is called with the same -o.
    """
    from amble.levers.memory.approximating import Dram, mapped

    keep = output.with_name(f"{output.name}.part") if output else None
    wanted = Dram(model, dram=chips, module=module, keep=keep, **wishes)
    if terminal.dry_run:
        terminal.would(f"inject errors into {model} and map it to {chips} with errors of {module}")
        return
    with spreading(ray) as spread, terminal.progress(f"mapping {model}", kept=kept_in(keep)) as on_progress:
        plan = mapped(wanted, lambda what, done, total: on_progress(done, total, what), spread)
    if output is not None:
        amble.save(plan, output)
        terminal.note(f"wrote {output}")
    terminal.result(plan, lambda: amble.show(plan))
