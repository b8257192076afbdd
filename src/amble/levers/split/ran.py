"""What a run over two machines was, as artefacts: a summary with its table, and the journal that steering left."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.files import Format
from amble.core.quantity import format_energy, format_time
from amble.levers.split.link import Radio, format_rate
from amble.levers.split.steering import Decision, Option, Rules, Seen, Steering
from amble.stages.check import tables
from amble.stages.check.tables import Table

__all__ = ["FORMAT", "JOURNAL", "Journal", "Ran", "Share", "place_of"]


@dataclass(frozen=True, slots=True)
class Share:
    """How many requests were answered by one pair of halves; ``name`` is empty for the whole network here."""

    name: str
    after: str
    precision: str
    num_requests: int


@dataclass(frozen=True, slots=True)
class Ran:
    """How requests went. Every one of them was answered.

    ``num_late`` came after their deadline. ``num_fallen_back`` were answered here because the server did not in time,
    ``num_retries`` are questions that were asked once more. Of ``num_compared`` answers ``num_identical`` were the
    whole network's to the bit, and ``num_different`` not within what the crossing precision allows. ``energy_j`` is the
    meter's, waiting included, ``radio_j`` predicted, probes included. ``rate_bit_s`` is what was believed of the link
    at the end.
    """

    network: str
    device: str
    server: str
    num_requests: int
    num_late: int
    num_fallen_back: int
    num_retries: int
    num_moves: int
    shares: tuple[Share, ...]
    median_s: float
    p95_s: float
    p99_s: float
    deadline_s: float
    energy_j: float | None
    radio_j: float
    rate_bit_s: float
    num_packed: int = 0
    num_compared: int = 0
    num_identical: int = 0
    num_different: int = 0
    max_deviation: float = 0.0
    interrupted: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Journal:
    """All that steering saw and decided: replayed, it decides the same."""

    options: tuple[Option, ...]
    planned: tuple[float, float]
    radio: Radio
    rules: Rules
    start_s: float
    seen: tuple[Seen, ...]
    decisions: tuple[Decision, ...]

    @property
    def steering(self) -> Steering:
        """Return what decided."""
        return Steering(self.options, self.planned, self.radio, self.rules)


FORMAT = Format("ran", 1, Ran)
JOURNAL = Format("steering", 1, Journal)


@tables.tables.register
def ran_tables(ran: Ran) -> tuple[Table, ...]:
    """Return who answered how many requests."""
    rows = tuple((place_of(each.name, each.after), each.name or "-", str(each.num_requests)) for each in ran.shares)
    title = f"{ran.network} on {ran.device} and {ran.server}: {ran.num_requests} requests, {ran.num_late} late"
    return (Table(title, ("device runs", "server runs", "requests"), rows, (*_told(ran), *ran.notes)),)


def place_of(name: str, after: str) -> str:
    """Say what the device runs of a pair; ``name`` is the server's half, empty where there is none."""
    if not name:
        return "everything (all local)"
    return f"up to {after}" if after else "nothing (all remote)"


def _told(ran: Ran) -> tuple[str, ...]:
    energy = "energy unknown" if ran.energy_j is None else f"{format_energy(ran.energy_j)} in all"
    said = [
        f"{format_time(ran.median_s)} (median), {format_time(ran.p95_s)} (p95), {format_time(ran.p99_s)} (p99); "
        f"to be kept {format_time(ran.deadline_s)}",
        f"device {energy}; radio {format_energy(ran.radio_j)}, predicted",
        f"{ran.num_moves} moves of the cut; {ran.num_fallen_back} requests answered here after the server failed them, "
        f"{ran.num_retries} asked again, {ran.num_packed} sent packed; link at the end {format_rate(ran.rate_bit_s)}",
    ]
    if ran.num_compared:
        said.append(
            f"{ran.num_different} of {ran.num_compared} answers were not the whole network's, {ran.num_identical} were "
            f"its to the bit; the largest deviation is "
            f"{ran.max_deviation:.2g}, as a share of the largest answer"
        )
    return tuple(said)
