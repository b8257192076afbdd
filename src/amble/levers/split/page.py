"""A split → its tables: every cut, and at which link rates the answer is another."""

from __future__ import annotations

from amble.core.quantity import format_energy, format_time
from amble.levers.split.link import format_rate
from amble.levers.split.results import Listed, Split
from amble.stages.check import tables
from amble.stages.check.tables import Table

__all__ = ["named", "split_tables"]

_PREDICTED = "Energy is the device's for one request and the wait until the next; all of it, radio too, is predicted."


@tables.tables.register
def split_tables(split: Split) -> tuple[Table, ...]:
    """Return the cuts and the rates."""
    rows = tuple(_row(each, split) for each in split.cuts)
    columns = ("device runs", "operators", "sent as", "sent", "latency", "energy", "radio", "")
    title = (
        f"Cuts of {split.subject.network}: {split.where.device} and {split.server} over {split.link}, {split.deadline}"
    )
    return (Table(title, columns, rows, (_told(split), _PREDICTED, *split.notes)), _rates(split))


def named(listed: Listed, num_operators: int) -> str:
    """Say what a cut does."""
    if listed.num_local == 0:
        return "nothing (all remote)"
    return "everything (all local)" if listed.num_local == num_operators else f"up to {listed.after}"


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
