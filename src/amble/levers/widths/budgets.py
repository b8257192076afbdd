"""One network, several budgets → a pruning within each, kept as they are found.

The staircases are measured once, where the call is made. What comes after them needs nothing of the other budgets:
choosing, cutting, timing, training and judging are one piece for each, on a device that is opened for it, so that it
comes to the same wherever it is done, after whatever else. Training adds up in an order that its number of threads
decides: wherever it is done, it has as many as there are here.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from amble import inputs
from amble.core import files
from amble.core.draws import key_of
from amble.core.errors import Infeasible, Refused
from amble.core.files import Format
from amble.core.spreading import Spread, in_order
from amble.core.subject import Subject
from amble.inputs.examples import BUNDLED
from amble.levers.widths.pruning import (
    ASKED,
    FILE,
    NETWORK,
    NETWORK_INT8,
    OnStairs,
    Prune,
    Wanted,
    known,
    pruned,
    refuse_overwriting,
)
from amble.levers.widths.results import FORMAT, Pruning
from amble.levers.widths.staircases import TABLE, Given, OnProgress, Work, opened, table_of
from amble.runtimes.onnx.reading import plainly
from amble.runtimes.onnx.refusals import door
from amble.runtimes.parcels import Parcel

__all__ = ["Made", "Within", "places_of", "prune_each"]


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a budget: a pruning (kept or refused), or why there is none; and the content of its files."""

    pruning: Pruning | None
    why: str = ""
    content: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a folder's pruning was made of."""

    key: str


_KEPT = Format("pruning_asked", 1, _Asked)


@dataclass(frozen=True, slots=True)
class Within:
    """Prunes one network within a budget, on a device like the one that was named, wherever it is asked to.

    ``examples`` are the content of their file, None for the bundled ones; ``stairs`` that of the staircases' file.
    """

    given: Given
    subject: Subject
    network: Parcel
    examples: bytes | None
    stairs: bytes
    threads: int

    def __call__(self, wanted: Wanted, on_progress: OnProgress) -> Made:
        """Prune within a budget; that it cannot be done is an answer too."""
        with tempfile.TemporaryDirectory(prefix="amble-") as folder, _training_on(self.threads):
            place = Path(folder)
            given = replace(self.given, model=self.network.unpacked(place / "given"), output=place / "made")
            given.output.mkdir()
            (given.output / TABLE).write_bytes(self.stairs)
            if self.examples is not None:
                given = replace(given, data=place / "examples.npz")
                Path(given.data).write_bytes(self.examples)
            try:
                found = pruned(Prune(given, wanted), on_progress=on_progress)
            except (Infeasible, Refused) as reason:
                return Made(None, str(reason))
            made = [given.output / name for name in (NETWORK, NETWORK_INT8)]
            content = {each.name: each.read_bytes() for each in made if each.exists()}
            return Made(replace(found, subject=self.subject), content=content)

    def key(self, wanted: Wanted) -> str:
        """Return what tells one pruning from another."""
        digests = [hashlib.sha256(each).hexdigest() for each in (self.examples or b"", self.stairs)]
        given = replace(self.given, model="", data="", output=Path())
        return f"{key_of(self.subject.digest, self.threads, repr(given), repr(wanted), *digests):032x}"


@door
def prune_each(
    given: Given,
    wanted: Sequence[Wanted],
    *,
    spread: Spread = in_order,
    on_stairs: OnStairs = lambda table, network: None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> dict[str, Made]:
    """Prune a network within each of several budgets → what came of each, also in a folder each (`places_of`).

    ``spread`` does them. What was found is kept at once: an interrupted call goes on with the budgets that are left.
    Refused for a network that cannot be pruned, a budget named twice, and where a real device would time networks
    beside other work.
    """
    if spread is not in_order:
        _refuse_real(given.device)
    places = places_of(wanted, given.output)
    files.try_writing(given.output, folder=True)
    for place in places.values():
        refuse_overwriting(given.model, place)
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        work = opened(given, scratch=Path(folder), on_progress=on_progress)
        for each in wanted:
            known(work.network, each.widths)
        on_stairs(table_of(work, wanted[0].rounds), work.network)
        within = _within(work, given)
    found = {each.budget: before for each in wanted if (before := _before(places[each.budget], within.key(each)))}
    left = [each for each in wanted if each.budget not in found]
    with closing(spread(within, left, on_progress)) as all_made:
        for each, made in zip(left, all_made, strict=True):
            if made.pruning is not None:
                _keep(places[each.budget], made.pruning, made.content, within.key(each))
            found[each.budget] = made
    return {each.budget: found[each.budget] for each in wanted}


def places_of(wanted: Sequence[Wanted], output: Path) -> dict[str, Path]:
    """Return the folder of each budget: the ``output`` itself, below it where there are others.

    >>> [str(each) for each in places_of([Wanted("0.7x"), Wanted("20ms")], Path("narrow")).values()]
    ['narrow/latency-0.7x', 'narrow/latency-20ms']
    """
    if len(wanted) == 1:
        return {wanted[0].budget: output}
    names = {each.budget: re.sub(r"[^\w.]+", "-", f"{each.resource}-{each.budget}") for each in wanted}
    found = {budget: output / name for budget, name in names.items()}
    if len(set(found.values())) < len(wanted):
        raise Refused(f"one budget is named twice in {', '.join(each.budget for each in wanted)}; name each once")
    return found


def _within(work: Work, given: Given) -> Within:
    with plainly(Path(work.source.source)) as plain:
        parcel = Parcel.of(plain)
    examples = None if given.data == BUNDLED else Path(given.data).read_bytes()
    stairs = (given.output / TABLE).read_bytes()
    return Within(given, work.source.subject, parcel, examples, stairs, _torch().get_num_threads())


def _before(place: Path, key: str) -> Made | None:
    """Return what an earlier call made of the same; None where it made nothing, or something else."""
    if not (place / ASKED).exists() or not (place / FILE).exists() or files.load(place / ASKED, _KEPT).key != key:
        return None
    return Made(files.load(place / FILE, FORMAT))


def _keep(place: Path, made: Pruning, content: Mapping[str, bytes], key: str) -> None:
    kept = made.verdict == "kept"
    with files.renewed(place, index=FILE, others=(ASKED, *((NETWORK, NETWORK_INT8) if kept else ()))) as fresh:
        for name, each in content.items() if kept else ():
            (fresh / name).write_bytes(each)
        files.save(_Asked(key), fresh / ASKED, _KEPT)
        files.save(made, fresh / FILE, FORMAT)


def _refuse_real(uri: str) -> None:
    if not inputs.back_end(uri).simulated:
        raise Refused(
            f"{uri} times the narrower networks where it is, by itself, and not beside other work; leave --ray out, or "
            f"name sim:CHIP"
        )


@contextmanager
def _training_on(threads: int) -> Iterator[None]:
    torch = _torch()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _torch() -> Any:
    """Import it late: whoever opens a network to prune it says which extra is missing."""
    return import_module("torch")
