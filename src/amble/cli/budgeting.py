"""The verb ``budget``: governors beside servers of any kind → a power cap for each, within one budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import amble
from amble.cli.options import verb
from amble.cli.terminal import Terminal
from amble.cli.verbs import main
from amble.core.errors import Refused
from amble.core.quantity import parse_time_s

if TYPE_CHECKING:
    from amble.services.cluster.sidecars import Told
    from amble.stages.check.cells import Table

__all__ = ["budget"]


@verb(main)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option("--watts", type=click.FloatRange(min=0, min_open=True), required=True, help="For all devices together.")
@click.option(
    "--gone",
    type=click.Choice(["top", "nothing"]),
    default="top",
    show_default=True,
    help="What a device draws whose governor does not answer: the most it can, or nothing (both are on one node).",
)
@click.option("--period", default="2s", show_default=True, metavar="TIME", help="From one division to the next.")
@click.option("--for", "for_time", metavar="TIME", help="End after this (default: until interrupted).")
@click.option(
    "--cap-token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the token that the governors' caps take.",
)
def budget(
    terminal: Terminal,
    *,
    urls: tuple[str, ...],
    watts: float,
    gone: str,
    period: str,
    for_time: str | None,
    cap_token_file: Path | None,
) -> None:
    """Divide a power budget over the governors at URL...: servers of any kind, each with amble govern beside it.

    URL is that of a governor's metrics page, http://HOST:PORT; it takes caps when it was started with --capacity. Every
    period watts go where they serve most requests, and a governor that is gone is taken out. Caps stay in force at the
    end.
    """
    if terminal.dry_run:
        terminal.would(f"divide {watts:g} W over {', '.join(urls)}")
        return
    last: list[Told] = []

    def told(each: Told) -> None:
        if not last or each.cap_w != last[-1].cap_w:
            terminal.note(f"amble: {_caps(each)}")
        last[:] = [each]

    try:
        amble.budget(
            urls,
            budget_w=watts,
            gone="top" if gone == "top" else "nothing",
            period_s=parse_time_s(period),
            for_s=None if for_time is None else parse_time_s(for_time),
            token=_token(cap_token_file),
            on_period=told,
        )
    except KeyboardInterrupt:
        terminal.note("amble: stopped; the last caps stay in force")
    if last:
        terminal.result(last[0], lambda: [_table(urls, last[0], watts)])


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Refused(f"cannot read --cap-token-file {path}: {error.strerror}") from error


def _caps(told: Told) -> str:
    caps = ", ".join("gone" if each is None else f"{each:.0f} W" for each in told.cap_w)
    return f"{caps}; at most {told.possible_w:.0f} W in all, {told.demand_hz:.1f} requests/s"


def _table(urls: tuple[str, ...], told: Told, watts: float) -> Table:
    from amble.stages.check.cells import Table

    rows = tuple((url, "gone" if cap is None else f"{cap:.0f} W") for url, cap in zip(urls, told.cap_w, strict=True))
    return Table(f"{watts:g} W divided", ("governor", "cap"), rows, (f"at most {told.possible_w:.0f} W in all",))
