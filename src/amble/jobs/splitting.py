"""A network, a device, a server, a link, a deadline → where to cut, and both halves as files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx

from amble import bundled
from amble import inputs as opening
from amble.core import files
from amble.core.address import Address
from amble.core.delimited import is_delimited
from amble.core.errors import Refused
from amble.core.files import written
from amble.core.graph import Graph
from amble.core.ports import CostModel
from amble.core.schedule import Deadline
from amble.jobs.costing import costs_for
from amble.levers.split.cuts import PRECISIONS, Cut, Cuts, cuts
from amble.levers.split.halves import PORTABLE, Halves, Tried, halves, tried
from amble.levers.split.link import Link
from amble.levers.split.pairs import HalfFile, Pair, crossing_bytes, model_name, paces
from amble.levers.split.pairs import wanted as wanted_pairs
from amble.levers.split.planning import Choice, Question, Regime, Server, best, choice, every, regimes, steps
from amble.levers.split.results import FORMAT, Listed, Split
from amble.levers.split.servers import read_times, times_faster
from amble.levers.split.traces import Trace
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.refusals import door

__all__ = ["INDEX", "Making", "Wanted", "listed", "opened", "question_of", "split", "write"]

INDEX = "split.json"
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be split, where and how.

    ``server`` is a device's URI, ``8x`` (so many times as fast as the device at its quickest clocks) or a CSV file of
    times by operator. ``crossing`` are the precisions that may cross; below FP32 only where joined answers are within
    ``max_error`` of the whole network's, as a share of its largest answer. ``moving``: halves for other link rates are
    made, too. ``trace`` is what ``link`` was recorded as, if it was.
    """

    model: str
    device: str
    server: str
    link: Link
    deadline: Deadline
    period_s: float | None = None
    crossing: tuple[str, ...] = ("fp32",)
    max_error: float = 0.01
    exact: bool = False
    batch: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    moving: bool = False
    trace: Trace | None = None

    def __post_init__(self) -> None:
        """Refuse an error that no answer could be compared with."""
        if not 0 <= self.max_error < float("inf"):
            raise ValueError(f"--max-error {self.max_error} is no share of the largest answer; write 0.01 for 1 %")


@dataclass(frozen=True, slots=True)
class Making:
    """Makes the halves of any cut that was found, one pair at a time: each holds its own copy of the weights."""

    network: Network
    cuts: tuple[Cut, ...]

    def halves(self, index: int, precision: str) -> Halves:
        """Cut the network."""
        return halves(self.network, self.cuts[index], precision)


@door
def split(wanted: Wanted, on_progress: OnProgress = lambda what, done, total: None) -> tuple[Split, Making]:
    """Choose the cut, the clocks and the crossing precision of least energy → it, and what makes the halves.

    Infeasible, with the fastest, where no cut is in time; Refused for a network that cannot be cut.
    """
    if unknown := [each for each in wanted.crossing if each not in PRECISIONS]:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(PRECISIONS)}")
    network = opened(wanted)
    found = cuts(network.model.graph, network.tensors, network.graph.outputs)
    question = question_of(wanted, network, found, on_progress)

    answers = cache(partial(tried, network))

    def admissible(cut: Cut, precision: str) -> bool:
        return answers(cut, precision).deviation <= wanted.max_error

    chosen = best(question, wanted.link, admissible)
    by_rate = regimes(question, wanted.link, admissible, lambda done, total: on_progress("link rates", done, total))
    cut = found.cuts[chosen.index]
    making = Making(network, tuple(found.cuts))
    made, shown = making.halves(chosen.index, chosen.precision), answers(cut, chosen.precision)
    plan_steps, wait = steps(question, wanted.link, chosen)
    told = Split(
        network.graph.subject,
        question.costs.where,
        server=question.server.name,
        server_s=float(np.sum(question.server.latency_s)) * question.server.margin,
        link=wanted.link,
        deadline=wanted.deadline,
        period_s=question.period_s,
        num_operators=len(network.graph.operators),
        cuts=_every(network, question, wanted.link, chosen),
        best=listed(network, cut, chosen),
        regimes=by_rate,
        steps=plan_steps,
        wait=wait,
        sent=made.sent,
        forwarded=made.forwarded,
        deviation=shown.deviation,
        identical=shown.identical,
        notes=(*_notes(found, shown), *_shares(wanted.trace, by_rate, found.cuts)),
        pairs=tuple(
            _pair(question, wanted.link, making, index, precision, answers(found.cuts[index], precision))
            for index, precision in wanted_pairs(question, chosen, by_rate, moving=wanted.moving)
        ),
    )
    return told, making


def _pair(question: Question, link: Link, making: Making, index: int, precision: str, shown: Tried) -> Pair:
    """Say what a cut is to `amble run`; its files are not written yet."""
    cut, made = question.cuts[index], making.halves(index, precision)
    sent, received = crossing_bytes(question, index, precision)
    after = listed(making.network, cut, choice(question, link, index, precision)).after
    return Pair(
        "",
        index,
        precision,
        len(cut.local),
        after,
        made.sent,
        made.forwarded,
        sent,
        received,
        question.server_s[index],
        shown.deviation,
        shown.identical,
        paces(question, link, index),
    )


def question_of(
    wanted: Wanted, network: Network, found: Cuts, on_progress: OnProgress, server: Server | None = None
) -> Question:
    """Learn what the device and the server take for every operator → what is to be answered."""
    graph = network.graph
    if server is None:
        _refuse_no_server(wanted.server, graph)
    costs = _costs(wanted, wanted.device, graph, on_progress)
    server = server or _server(wanted, graph, costs, on_progress)
    precisions = tuple(each for each in PRECISIONS if each in wanted.crossing)
    period_s = wanted.deadline.latency_s if wanted.period_s is None else wanted.period_s
    return Question(graph, costs, found.cuts, server, wanted.deadline, period_s, precisions, wanted.exact)


@door
def write(made: Split, making: Making, folder: Path) -> Split:
    """Write the halves, ``split.json`` with their hashes, and a repository for a server → the split with these.

    ``device.onnx`` and ``server.onnx`` are those of the best cut, ``whole.onnx`` is the network. ``device`` has the
    first half of every pair, ``repository`` the second ones as a server wants them. Of an earlier split in the same
    folder nothing stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _files_of(folder)
    best = making.halves(made.best.choice.index, made.best.choice.precision)
    told = [_written(folder, place, f"{place}.onnx", model) for place, model in _both(best)]
    whole = _written(folder, "whole", "whole.onnx", _whole(making))
    pairs = tuple(_pair_written(folder, each, making, made.subject.network) for each in made.pairs)
    done = replace(made, halves=tuple(told), whole=whole, pairs=pairs)
    files.write_together({folder / INDEX: written(done, FORMAT).encode()})
    for name in before - _named(done):
        (folder / name).unlink(missing_ok=True)
        for parent in list(Path(name).parents)[:-1]:
            with suppress(OSError):
                (folder / parent).rmdir()
    return done


def _pair_written(folder: Path, pair: Pair, making: Making, network: str) -> Pair:
    both = dict(_both(making.halves(pair.index, pair.precision)))
    if "server" not in both:
        return pair
    content = both["server"].SerializeToString(deterministic=True)
    name = model_name(network, pair.num_local, pair.precision, hashlib.sha256(content).hexdigest())
    server = _written(folder, "server", f"repository/{name}/1/model.onnx", both["server"])
    device = _written(folder, "device", f"device/{name}.onnx", both["device"]) if "device" in both else None
    return replace(pair, name=name, device=device, server=server)


def _both(made: Halves) -> Iterator[tuple[str, onnx.ModelProto]]:
    for place, model in (("device", made.device), ("server", made.server)):
        if model is not None:
            yield place, model


def _whole(making: Making) -> onnx.ModelProto:
    everything = next(
        index for index, cut in enumerate(making.cuts) if len(cut.local) == len(making.network.model.graph.node)
    )
    return making.halves(everything, "fp32").device


def _written(folder: Path, place: str, name: str, model: onnx.ModelProto) -> HalfFile:
    content = model.SerializeToString(deterministic=True)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(folder / name, content)
    return HalfFile(place, name, hashlib.sha256(content).hexdigest())


def _named(made: Split) -> set[str]:
    """Name the files of a split."""
    every = [*made.halves, made.whole, *(half for pair in made.pairs for half in (pair.device, pair.server))]
    return {each.file for each in every if each is not None}


def _files_of(folder: Path) -> set[str]:
    """Name what an earlier split left in a folder."""
    always = {"device.onnx", "server.onnx"}
    try:
        return always | _named(files.load(folder / INDEX, FORMAT))
    except Refused:
        return always


def opened(wanted: Wanted) -> Network:
    """Open the network; Refused for what cannot be cut in two."""
    if wanted.model.endswith(".json") or is_delimited(wanted.model) or wanted.model.startswith("synthetic:"):
        raise Refused(f"{wanted.model} holds no weights that could be cut in two; give the ONNX file itself")
    path = bundled.model_path() if wanted.model == opening.BUNDLED else Path(wanted.model).absolute()
    return Network.open(path, wanted.batch, dict(wanted.shapes), PORTABLE)


def _costs(wanted: Wanted, device: str, graph: Graph, on_progress: OnProgress) -> CostModel:
    _refuse_real(device)

    def told(done: int, total: int) -> None:
        on_progress(f"costs on {Address.parse(device)}", done, total)

    return costs_for(wanted.model, device, graph=lambda: graph, deadline=None, on_progress=told)[1]


def _refuse_real(device: str) -> None:
    if not opening.back_end(device).simulated:
        raise Refused(
            f"{device} cannot be split for yet: halves are cut between operators of the standard, and on real hardware "
            f"only those that ONNX Runtime fused are timed; use a simulated device (sim:…), or --server 8x or a table"
        )


def _refuse_no_server(text: str, graph: Graph) -> None:
    """Refuse a server whose times cannot be known, before the device is measured for long."""
    if text.startswith(("http://", "https://")):
        raise Refused(
            f"--server {text}: a running server is not asked for its times yet; name its device, 8x or a table"
        )
    if times_faster(text) is None and is_delimited(text):
        read_times(text, [each.name for each in graph.operators])
    elif times_faster(text) is None:
        _refuse_real(text)
        opening.open(text)


def _server(wanted: Wanted, graph: Graph, costs: CostModel, on_progress: OnProgress) -> Server:
    text = wanted.server
    if (factor := times_faster(text)) is not None:
        quickest_s = costs.table(graph).latency_s
        fastest_s = quickest_s[:, int(quickest_s.sum(axis=0).argmin())] / factor
        return Server(f"a server {factor:g} times as fast", tuple(fastest_s.tolist()))
    if is_delimited(text):
        return Server(text, read_times(text, [each.name for each in graph.operators]))
    theirs = _costs(wanted, text, graph, on_progress)
    latency_s = theirs.table(graph).latency_s
    fastest = latency_s[:, int(latency_s.sum(axis=0).argmin())]
    return Server(theirs.where.device, tuple(fastest.tolist()), theirs.margin(wanted.deadline.percentile))


def _every(network: Network, question: Question, link: Link, chosen: Choice) -> tuple[Listed, ...]:
    """Name every cut, each with its price in the precision that was chosen."""
    priced = every(question, link, chosen.precision)
    choices = [chosen if each.index == chosen.index else each for each in priced]
    return tuple(listed(network, question.cuts[each.index], each) for each in choices)


def listed(network: Network, cut: Cut, of: Choice) -> Listed:
    """Name a cut by the operators whose results cross; by the last one where only inputs do."""
    sent = {port.name for port in cut.crossing}
    makers = [index for index in cut.local if sent & set(network.model.graph.node[index].output)]
    names = [network.graph.operators[index].name for index in makers or cut.local[-1:]]
    return Listed(" + ".join(names), len(cut.local), tuple(sorted(sent)), of)


def _notes(found: Cuts, shown: Tried) -> tuple[str, ...]:
    said = []
    if not found.complete:
        said.append("The network has too many cuts to try all: those that follow its order of execution were.")
    if shown.identical:
        said.append(f"Joined answers were the whole network's, bit for bit, on {shown.num_inputs} made-up inputs.")
    else:
        said.append(
            f"Joined answers were within {shown.deviation:.2g} of the largest of the whole network, on "
            f"{shown.num_inputs} made-up inputs."
        )
    return tuple(said)


def _shares(trace: Trace | None, by_rate: Iterable[Regime], cuts: Sequence[Cut]) -> tuple[str, ...]:
    """Say of a recorded link in which share of the time which answer would be the best, and when none can be sent."""
    if trace is None:
        return ()
    told = []
    for each in by_rate:
        what = "no cut is in time" if each.index is None else f"{len(cuts[each.index].local)} operators here are best"
        if (share := trace.share(each.slowest_bit_s, each.fastest_bit_s)) > 0:
            told.append(f"in {share:.1%} of it {what}")
    silent = trace.share(0.0, 1.0)
    outage = f"; in {silent:.1%} nothing could be sent" if silent else ""
    return (
        f"The recorded link has {trace}: planned for the rate of half the time with any{outage}. {'; '.join(told)}.",
    )
