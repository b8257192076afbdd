"""A split → its tables and its page: every cut, and at which link rates the answer is another."""

from __future__ import annotations

from collections.abc import Iterator

from amble.core.quantity import format_energy, format_time
from amble.levers.split.figures import cuts_figure, rates_figure
from amble.levers.split.link import format_rate
from amble.levers.split.results import Listed, Sharer, Split, Together, named
from amble.stages.check import tables
from amble.stages.check.cells import percent
from amble.stages.check.html import Plot, Section, Tile, document
from amble.stages.check.page import banner
from amble.stages.check.show import show_html
from amble.stages.check.tables import Table

__all__ = ["shared_table", "split_page", "split_tables"]

_PREDICTED = "Energy is the device's for one request and the wait until the next; all of it, radio too, is predicted."


@show_html.register
def split_page(split: Split) -> str:
    """Return a page for a split; Refused when plotly is not installed."""
    cuts, rates = split_tables(split)
    sections = [Section("Where to cut", plots=tuple(_plots(split))), Section("Numbers", (cuts, rates))]
    known = banner(split.where.calibration, split.where.device)
    return document(cuts.title, cuts.notes[0], tuple(_tiles(split)), sections, banner=known)


def _plots(split: Split) -> Iterator[Plot]:
    caption = (
        "From all remote on the left to all local on the right, sent in the precision of the best. Pale bars are late "
        "at any clocks; what the device would take then is not drawn where it is not known."
    )
    yield Plot("Latency and energy of every cut", caption, cuts_figure(split))
    if any(each.tried for each in split.regimes):  # a split of before has no energies over rates
        caption = "The best cut at each rate, each colour another one; where there is no line no cut is in time."
        yield Plot("Energy over the rate of the link", caption, rates_figure(split))


def _tiles(split: Split) -> Iterator[Tile]:
    best = split.best.choice
    assert best.energy_j is not None
    yield Tile("Energy, predicted", format_energy(best.energy_j), f"Of it {format_energy(best.radio_j)} by the radio.")
    yield Tile("Answer is in after", format_time(best.latency_s), f"Asked for: {split.deadline}.")
    for name, count in (("all local", split.num_operators), ("all remote", 0)):
        whole = next((each.choice for each in split.cuts if each.num_local == count), None)
        if count == split.best.num_local:
            continue
        if whole is None or whole.energy_j is None or not whole.fits:
            yield Tile(f"Beside {name}", "late", "" if whole is None else f"It takes {format_time(whole.latency_s)}.")
        else:
            less = 1.0 - best.energy_j / whole.energy_j
            yield Tile(f"Beside {name}", f"{percent(less)} less", f"It takes {format_energy(whole.energy_j)}.")


@tables.tables.register
def split_tables(split: Split) -> tuple[Table, ...]:
    """Return the cuts and the rates."""
    rows = tuple(_row(each, split) for each in split.cuts)
    columns = ("device runs", "operators", "sent as", "sent", "latency", "energy", "radio", "")
    title = (
        f"Cuts of {split.subject.network}: {split.where.device} and {split.server} over {split.link}, {split.deadline}"
    )
    return (Table(title, columns, rows, (_told(split), _PREDICTED, *split.notes)), _rates(split))


def _row(each: Listed, split: Split) -> tuple[str, ...]:
    of = each.choice
    alone = each.num_local == split.num_operators
    return (
        named(each, split.num_operators),
        str(each.num_local),
        "-" if alone else of.precision,
        "-" if alone else _size(of.num_bytes),
        format_time(of.latency_s),
        "-" if of.energy_j is None else format_energy(of.energy_j),
        "-" if alone else format_energy(of.radio_j),
        "best" if each == split.best else ("" if of.fits else "late"),
    )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.3g} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.3g} kB"


def _told(split: Split) -> str:
    """Say what wins, by how much over running whole on either side."""
    best = split.best.choice
    assert best.energy_j is not None
    words = [f"Best: {named(split.best, split.num_operators)}, {format_energy(best.energy_j)}"]
    for name, count in (("all local", split.num_operators), ("all remote", 0)):
        other = next((each.choice for each in split.cuts if each.num_local == count), None)
        if other is None or count == split.best.num_local:
            continue
        if not other.fits or other.energy_j is None:
            words.append(f"{name} is late ({format_time(other.latency_s)})")
        else:
            words.append(f"{name} takes {format_energy(other.energy_j)}")
    if best.bound_j is not None:
        words.append(f"no choice takes less than {format_energy(best.bound_j)}")
    return "; ".join(words) + "."


def _rates(split: Split) -> Table:
    by_index = {each.choice.index: each for each in split.cuts}
    rows = []
    for each in split.regimes:
        what = "no cut is in time" if each.index is None else named(by_index[each.index], split.num_operators)
        whole = each.index is None or by_index[each.index].num_local == split.num_operators
        rows.append(
            (format_rate(each.slowest_bit_s), format_rate(each.fastest_bit_s), what, "" if whole else each.precision)
        )
    return Table("The best cut by link rate", ("from", "to", "device runs", "sent as"), tuple(rows))


def shared_table(together: Together) -> Table:
    """Return what each of several devices does, on which share of the link, and what all take."""
    columns = (
        "device",
        "runs",
        "operators",
        "sent as",
        "share of link",
        "of server",
        "latency",
        "energy",
        "with an equal share",
    )
    rows = tuple(_sharer(each, together.num_operators) for each in together.devices)
    title = f"{together.network} on {len(rows)} devices that share {together.link}, and {together.server}"
    return Table(f"{title}, {together.deadline}", columns, rows, (*_sums(together), _PREDICTED, *together.notes))


def _sharer(each: Sharer, num_operators: int) -> tuple[str, ...]:
    of, alone = each.does.choice, each.does.num_local == num_operators
    equal = None if each.equal is None else each.equal.choice.energy_j
    return (
        each.device,
        named(each.does, num_operators),
        str(each.does.num_local),
        "-" if alone else of.precision,
        "-" if alone else f"{percent(each.share)} ({format_rate(each.rate_bit_s)})",
        "-" if alone else percent(each.busy),
        format_time(of.latency_s),
        "-" if of.energy_j is None else format_energy(of.energy_j),
        "-" if equal is None else format_energy(equal),
    )


def _sums(together: Together) -> Iterator[str]:
    if together.equal_j is None:
        beside = "with equal shares not all are in time"
    else:
        beside = f"with equal shares {format_energy(together.equal_j)}"
    yield (
        f"Together {format_energy(together.energy_j)}; no cuts, clocks and shares take less than "
        f"{format_energy(together.bound_j)}; {beside}."
    )
    link, server = (sum(each) for each in zip(*((of.share, of.busy) for of in together.devices), strict=True))
    yield f"The link is given away to {percent(link)}, and the server is busy {percent(server)} of the time."
    yield (
        f"Shares are of {together.num_units} parts. What requests wait for one another at the server is not counted: "
        "leave room in the deadline, or let the devices take turns."
    )
