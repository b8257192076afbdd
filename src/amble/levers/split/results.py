"""What a split is, as an artefact: every cut with its costs, the best one and its clocks, and both halves' hashes."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.files import Format
from amble.core.point import Clocks
from amble.core.schedule import Deadline, Step
from amble.core.subject import Subject, Where
from amble.levers.split.link import Link
from amble.levers.split.pairs import HalfFile, Pair
from amble.levers.split.planning import Choice, Regime

__all__ = ["FORMAT", "HalfFile", "Listed", "Sharer", "Split", "Together", "named"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A cut as it is told: after which operator, how many run here, what crosses, and its best choice."""

    after: str
    num_local: int
    crossing: tuple[str, ...]
    choice: Choice


def named(listed: Listed, num_operators: int) -> str:
    """Say what a cut does."""
    if listed.num_local == 0:
        return "nothing (all remote)"
    return "everything (all local)" if listed.num_local == num_operators else f"up to {listed.after}"


@dataclass(frozen=True, slots=True)
class Split:
    """Where to cut a network between a device and a server, and why.

    ``cuts`` are all, sent in the precision of the best. ``best`` is the one chosen, ``steps`` and ``wait`` its clocks.
    ``sent`` names what goes between the halves; ``forwarded`` those of it that are inputs of the network. ``deviation``
    is how far joined answers were from the whole network's on made-up inputs. ``pairs`` are what `amble run` chooses
    among, all of the network on the device first; ``whole`` is the file of that, once halves are written.
    """

    subject: Subject
    where: Where
    server: str
    server_s: float
    link: Link
    deadline: Deadline
    period_s: float
    num_operators: int
    cuts: tuple[Listed, ...]
    best: Listed
    regimes: tuple[Regime, ...]
    steps: tuple[Step, ...]
    wait: Clocks
    sent: tuple[str, ...]
    forwarded: tuple[str, ...]
    deviation: float
    identical: bool
    halves: tuple[HalfFile, ...] = ()
    notes: tuple[str, ...] = ()
    whole: HalfFile | None = None
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Sharer:
    """One of several devices: what it does on its share of the link, and what it would do on an equal one.

    ``busy`` is the share of time in which the server works for it. ``equal`` is None where an equal share of link and
    server leaves some device without a cut in time.
    """

    device: str
    share: float
    rate_bit_s: float
    busy: float
    does: Listed
    equal: Listed | None


@dataclass(frozen=True, slots=True)
class Together:
    """Several devices that run one network, each cut on its own, over one link and one server.

    Energies [J] are sums over devices of one period; no cuts, clocks and shares of ``num_units`` parts take less than
    ``bound_j``.
    """

    network: str
    server: str
    link: Link
    deadline: Deadline
    period_s: float
    num_operators: int
    num_units: int
    devices: tuple[Sharer, ...]
    energy_j: float
    bound_j: float
    equal_j: float | None
    notes: tuple[str, ...] = ()


FORMAT = Format("split", 1, Split)
