"""The verb ``split``: a network, a device, a server, a link → where to cut it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import amble
from amble.cli.options import FOLDER, PLACE, Network, devices_option, network_options, verb
from amble.cli.terminal import Terminal
from amble.cli.verbs import main
from amble.core.quantity import parse_time_s

if TYPE_CHECKING:
    from amble.jobs.splitting import Wanted
    from amble.levers.split.link import Link
    from amble.levers.split.traces import Trace

__all__ = ["split"]


@verb(main)
@network_options
@devices_option
@click.option("--server", required=True, metavar="URI|8x|FILE.csv", help="The server's device, speed or times.")
@click.option(
    "--link",
    required=True,
    metavar="RATE|TRACE.csv",
    help="Both ways: 20Mbit/s, 20±5Mbit/s (mean and deviation), or rates over time.",
)
@click.option("--deadline", required=True, metavar="TIME[@pNN]", help="100ms or 100ms@p99.9; p99 unless given.")
@click.option("--period", metavar="TIME", help="Time from one request to the next (default: the deadline).")
@click.option("--round-trip", default="10ms", show_default=True, metavar="TIME", help="Of the link.")
@click.option("--radio", default="wifi", show_default=True, metavar="NAME|POWER", help="wifi, lte, 3g or as 0.8W.")
@click.option(
    "--crossing",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    default=("fp32",),
    show_default=True,
    help="What may cross; as often as needed.",
)
@click.option(
    "--max-error",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    help="Of answers after fp16 or int8, as a share of the largest.",
)
@click.option("--exact", is_flag=True, help="Close the gap to the lower bound, however long it takes.")
@click.option("--moving", is_flag=True, help="Make halves for other link rates too: amble run then moves the cut.")
@click.option("--output", "-o", type=FOLDER, help="Write both halves and split.json to this folder.")
@click.option("--html", type=PLACE, help="Also write a page with plots.")
def split(
    terminal: Terminal,
    *,
    network: Network,
    device: tuple[str, ...],
    output: Path | None,
    html: Path | None,
    **said: Any,
) -> None:
    """Cut MODEL between a device and a server, for the least energy of the device.

    Every cut is listed with its latency and energy, the best one marked, and the link rates at which another would be
    best. With -o both halves are written as ONNX files that answer together as MODEL does. Times and energies are
    predicted; the radio's are of published coefficients. Exit code 1 where no cut meets the deadline.

    Several devices (-d A -d B, or -d 4xA) share the link and the server: you are told the cut, the clocks and the share
    of the link of each for the least energy of all.
    """
    from amble.jobs import sharing

    devices = sharing.counted(device)
    if len(devices) > 1:
        _refuse_for_several(moving=said["moving"], output=output, html=html)
    wanted = _wanted(network, devices[0], **said)
    if terminal.dry_run:
        terminal.would(f"cut {network.model} between {', '.join(device)} and {said['server']} over {said['link']}")
    elif len(devices) > 1:
        _share(terminal, wanted, devices)
    else:
        _split(terminal, wanted, output, html)


def _wanted(
    network: Network,
    device: str,
    *,
    link: str,
    deadline: str,
    period: str | None,
    round_trip: str,
    radio: str,
    moving: bool,
    **others: Any,
) -> Wanted:
    from amble.jobs import splitting

    way, trace = _link(link, round_trip, radio)
    return splitting.Wanted(
        network.model,
        device,
        link=way,
        deadline=amble.Deadline.parse(deadline),
        period_s=None if period is None else parse_time_s(period),
        moving=moving or trace is not None,
        trace=trace,
        batch=network.batch,
        shapes=network.shapes,
        **others,
    )


def _link(text: str, round_trip: str, radio: str) -> tuple[Link, Trace | None]:
    """Read a rate, or rates over time, of which the typical one counts."""
    from amble.levers.split.link import Link, parse_radio, parse_uncertain
    from amble.levers.split.traces import is_trace, read_trace

    trace = read_trace(text) if is_trace(text) else None
    rate_bit_s, spread = parse_uncertain(text) if trace is None else (trace.typical_bit_s, 0.0)
    return Link(rate_bit_s, parse_time_s(round_trip), parse_radio(radio), spread), trace


def _split(terminal: Terminal, wanted: Wanted, output: Path | None, html: Path | None) -> None:
    from amble.jobs import splitting

    with terminal.progress(f"splitting {wanted.model}", kept=lambda: "nothing is kept") as on_progress:
        found, making = splitting.split(wanted, lambda what, done, total: on_progress(done, total, what))
    if output is not None:
        found = splitting.write(found, making, output)
        terminal.note(f"wrote {output}")
    amble.export_files(found, html=html)
    terminal.result(found, lambda: amble.show(found))


def _share(terminal: Terminal, wanted: Wanted, devices: tuple[str, ...]) -> None:
    from amble.jobs import sharing
    from amble.levers.split.page import shared_table

    with terminal.progress(f"sharing {wanted.link}", kept=lambda: "nothing is kept") as on_progress:
        found = sharing.together(wanted, devices, lambda what, done, total: on_progress(done, total, what))
    terminal.result(found, lambda: [shared_table(found)])


def _refuse_for_several(*, moving: bool, output: Path | None, html: Path | None) -> None:
    """Refuse what is there for a single device only."""
    asked = {"--moving": moving, "--output": output is not None, "--html": html is not None}
    if given := [name for name, was in asked.items() if was]:
        raise amble.Refused(
            f"{given[0]} is for one device: which halves to make depends on its share of the link. Leave it out, then "
            f"split for each device alone, with its share as --link"
        )
