"""A network, a device, a server, a link, a deadline → where to cut, and both halves as files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

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
from amble.levers.split.halves import PORTABLE, Halves, halves, tried
from amble.levers.split.link import Link
from amble.levers.split.planning import Choice, Question, Server, best, every, regimes, steps
from amble.levers.split.results import FORMAT, HalfFile, Listed, Split
from amble.levers.split.servers import read_times, times_faster
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.refusals import door

__all__ = ["INDEX", "Wanted", "split", "write"]

INDEX = "split.json"
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be split, where and how.

    ``server`` is a device's URI, ``8x`` (so many times as fast as the device at its quickest clocks) or a CSV file of
    times by operator. ``crossing`` are the precisions that may cross; below FP32 only where joined answers are within
    ``max_error`` of the whole network's, as a share of its largest answer.
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


@door
def split(wanted: Wanted, on_progress: OnProgress = lambda what, done, total: None) -> tuple[Split, Halves]:
    """Choose the cut, the clocks and the crossing precision of least energy, and make both halves.

    Infeasible, with the fastest, where no cut is in time; Refused for a network that cannot be cut.
    """
    network = _network(wanted)
    graph = network.graph
    found = cuts(network.model.graph, network.tensors, graph.outputs)
    costs = _costs(wanted, wanted.device, graph, on_progress)
    server = _server(wanted, graph, costs, on_progress)
    unknown = [each for each in wanted.crossing if each not in PRECISIONS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(PRECISIONS)}")
    precisions = tuple(each for each in PRECISIONS if each in wanted.crossing)
    period_s = wanted.period_s or wanted.deadline.latency_s
    question = Question(graph, costs, found.cuts, server, wanted.deadline, period_s, precisions, wanted.exact)

    @cache
    def admissible(cut: Cut, precision: str) -> bool:
        return tried(network, cut, precision).deviation <= wanted.max_error

    chosen = best(question, wanted.link, admissible)
    by_rate = regimes(question, wanted.link, admissible, lambda done, total: on_progress("link rates", done, total))
    cut = found.cuts[chosen.index]
    priced = every(question, wanted.link, chosen.precision)
    top = _listed(network, cut, chosen)
    listed = [top if each.index == chosen.index else _listed(network, found.cuts[each.index], each) for each in priced]
    shown, made = tried(network, cut, chosen.precision), halves(network, cut, chosen.precision)
    plan_steps, wait = steps(question, wanted.link, chosen)
    return (
        Split(
            graph.subject,
            costs.where,
            server=server.name,
            server_s=float(np.sum(server.latency_s)) * server.margin,
            link=wanted.link,
            deadline=wanted.deadline,
            period_s=period_s,
            num_operators=len(graph.operators),
            cuts=tuple(listed),
            best=top,
            regimes=by_rate,
            steps=plan_steps,
            wait=wait,
            sent=made.sent,
            forwarded=made.forwarded,
            deviation=shown.deviation,
            identical=shown.identical,
            notes=_notes(wanted, found, shown.identical, shown.deviation, shown.num_inputs),
        ),
        made,
    )


@door
def write(made: Split, both: Halves, folder: Path) -> Split:
    """Write ``device.onnx``, ``server.onnx`` and ``split.json``, which holds their hashes → the split with these."""
    contents: dict[Path | str, bytes] = {}
    told = []
    for place, model in (("device", both.device), ("server", both.server)):
        if model is not None:
            content = model.SerializeToString(deterministic=True)
            contents[folder / f"{place}.onnx"] = content
            told.append(HalfFile(place, f"{place}.onnx", hashlib.sha256(content).hexdigest()))
    whole = replace(made, halves=tuple(told))
    folder.mkdir(parents=True, exist_ok=True)
    files.write_together({**contents, folder / INDEX: written(whole, FORMAT).encode()})
    for place in {"device", "server"} - {each.place for each in told}:
        (folder / f"{place}.onnx").unlink(missing_ok=True)  # of an earlier split
    return whole


def _network(wanted: Wanted) -> Network:
    if wanted.model.endswith(".json") or is_delimited(wanted.model) or wanted.model.startswith("synthetic:"):
        raise Refused(f"{wanted.model} holds no weights that could be cut in two; give the ONNX file itself")
    path = bundled.model_path() if wanted.model == opening.BUNDLED else Path(wanted.model).absolute()
    return Network.open(path, wanted.batch, dict(wanted.shapes), PORTABLE)


def _costs(wanted: Wanted, device: str, graph: Graph, on_progress: OnProgress) -> CostModel:
    kind = opening.back_end(device)
    if not kind.simulated:
        raise Refused(
            f"{device} cannot be split for yet: halves are cut between operators of the standard, and on real hardware "
            f"only those that ONNX Runtime fused are timed; use a simulated device (sim:…), or --server 8x or a table"
        )

    def told(done: int, total: int) -> None:
        on_progress(f"costs on {Address.parse(device)}", done, total)

    return costs_for(wanted.model, device, graph=lambda: graph, deadline=None, on_progress=told)[1]


def _server(wanted: Wanted, graph: Graph, costs: CostModel, on_progress: OnProgress) -> Server:
    text = wanted.server
    if text.startswith(("http://", "https://")):
        raise Refused(
            f"--server {text}: a running server is not asked for its times yet; name its device, 8x or a table"
        )
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


def _listed(network: Network, cut: Cut, of: Choice) -> Listed:
    """Name a cut by the operators whose results cross; by the last one where only inputs do."""
    sent = {port.name for port in cut.crossing}
    makers = [index for index in cut.local if sent & set(network.model.graph.node[index].output)]
    names = [network.graph.operators[index].name for index in makers or cut.local[-1:]]
    return Listed(" + ".join(names), len(cut.local), tuple(sorted(sent)), of)


def _notes(wanted: Wanted, found: Cuts, identical: bool, deviation: float, num_inputs: int) -> tuple[str, ...]:
    said = []
    if not found.complete:
        said.append("The network has too many cuts to try all: those that follow its order of execution were.")
    if identical:
        said.append(f"Joined answers were the whole network's, bit for bit, on {num_inputs} made-up inputs.")
    else:
        said.append(
            f"Joined answers were within {deviation:.2g} of the largest of the whole network, on {num_inputs} made-up "
            f"inputs."
        )
    return tuple(said)
