"""A split, a server, a load → a run over two machines, in which no request is lost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import onnxruntime

from amble import inputs as opening
from amble.core import files
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.log import Log
from amble.core.ports import Tensors
from amble.levers.split.far import ROUNDING, Example, deviation
from amble.levers.split.halves import PORTABLE
from amble.levers.split.near import Near, Place, near
from amble.levers.split.pairs import HalfFile, Pair
from amble.levers.split.ran import Journal, Ran
from amble.levers.split.results import FORMAT, Split
from amble.levers.split.running import Requests, Running
from amble.levers.split.steering import Rules
from amble.runtimes import onnx
from amble.runtimes.onnx.preparing import options, session
from amble.runtimes.onnx.refusals import door
from amble.runtimes.remote.client import Remote
from amble.stages.check.arrivals import parse_load
from amble.stages.measure.accuracy import fitting, read_arrays

__all__ = ["Cooperation", "run"]

_SEED = 0  # of arrivals and of made-up inputs
_NUM_MADE_UP = 16
_TIMEOUT_S = 30.0
_ROOM = 2.0  # bytes of memory for each byte of a file with weights: the file's and the runtime's
OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Cooperation:
    """What is run: the file of a split, the server's URL (None: all here), the device (the plan's unless given).

    ``load`` are the arrivals, 100 requests of the plan's period unless given; ``data`` an ``.npz`` file with an array
    for each input, made-up inputs unless given. ``compare`` computes each answer by the whole network, too. ``rules``
    say how cautiously the cut is moved.
    """

    plan: Path
    server: str | None = None
    device: str | None = None
    load: str | None = None
    data: str | None = None
    compare: bool = False
    rules: Rules = Rules()  # noqa: RUF009


@dataclass(slots=True)
class _Compared:
    """Answers beside those of the whole network."""

    whole: onnxruntime.InferenceSession
    tolerances: tuple[float, ...]
    count: int = 0
    identical: int = 0
    different: int = 0
    worst: float = 0.0

    def take(self, index: int, inputs: Tensors, outputs: Tensors, option: int) -> None:
        """Compare one answer."""
        names = [each.name for each in self.whole.get_outputs()]
        expected = dict(zip(names, self.whole.run(names, dict(inputs)), strict=True))
        away = deviation(expected, outputs)
        self.count, self.worst = self.count + 1, max(self.worst, away)
        self.identical += away == 0.0
        self.different += away > self.tolerances[option]


@door
def run(
    asked: Cooperation, on_progress: OnProgress = lambda done, total, stage: None, memory_bytes: float | None = None
) -> tuple[Ran, Log, Journal]:
    """Answer a load by a device and a server → what is told of it, its log, and the journal of what was decided.

    Refused for halves that are not the plan's, here or on the server; for a server that has none of them; for halves
    that are larger than the memory that is free (``memory_bytes``; what the machine says unless given).
    """
    plan, folder = _read(asked.plan, memory_bytes)
    graph = onnx.load(folder / _whole(plan).file, execution=PORTABLE)
    inputs = _inputs(asked.data, graph)
    place = _place(asked.device or plan.where.device, plan)
    nears, known = _nears(plan, folder, place, graph, remote=asked.server is not None)
    remote = None if asked.server is None else _remote(asked.server)
    load = parse_load(asked.load or f"periodic:{1e3 * plan.period_s:.9g}ms:100")
    compared = _Compared(_session(folder / _whole(plan).file), tuple(_tolerance(each.pair) for each in nears))
    requests = Requests(load.times_s(_SEED), inputs, load.spec)
    with closing(Running(plan, place, nears, remote, known, asked.rules)) as running:
        running.begin(on_progress)
        on_answer = compared.take if asked.compare else _nothing
        ran, log, journal = running.run(requests, on_answer, on_progress)
    found = replace(
        ran,
        num_compared=compared.count,
        num_identical=compared.identical,
        num_different=compared.different,
        max_deviation=compared.worst,
        notes=(*ran.notes, *_notes(plan, place)),
    )
    return found, log, journal


def _nothing(index: int, inputs: Tensors, outputs: Tensors, option: int) -> None:
    return None


def _read(path: Path, memory_bytes: float | None) -> tuple[Split, Path]:
    """Read a plan and its folder. Refused unless its files are there, its own, and small enough."""
    plan, folder = files.load(path, FORMAT), path.parent
    if plan.whole is None or not plan.pairs:
        raise Refused(f"{path} holds a split without halves; make it anew: amble split … -o FOLDER")
    here = [plan.whole, *(pair.device for pair in plan.pairs if pair.device is not None)]
    for each in (*here, *(pair.server for pair in plan.pairs if pair.server is not None)):
        _check(folder, each)
    if not all(pair.paces for pair in plan.pairs):
        plan = replace(plan, pairs=tuple(pair for pair in plan.pairs if pair.paces))
    needed = _ROOM * sum((folder / each.file).stat().st_size for each in here)
    free = _free_bytes() if memory_bytes is None else memory_bytes
    if free is not None and needed > free:
        raise Refused(
            f"the halves that {path} has run here take about {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB of memory "
            f"are free; split without --moving, or run on a larger device"
        )
    return plan, folder


def _check(folder: Path, half: HalfFile) -> None:
    try:
        content = (folder / half.file).read_bytes()
    except OSError as error:
        raise Refused(f"{folder / half.file} cannot be read: {error.strerror or error}; split anew") from error
    if hashlib.sha256(content).hexdigest() != half.sha256:
        raise Refused(
            f"{folder / half.file} is not the half that the plan was made with (its hash differs); split anew"
        )


def _whole(plan: Split) -> HalfFile:
    assert plan.whole is not None
    return plan.whole


def _free_bytes() -> float | None:
    """Return how much memory is free; None where nothing tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * float(line.split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return None


def _place(uri: str, plan: Split) -> Place:
    """Open the device, in this machine's time; the plan's clocks are followed where it has them all."""
    device, _, _ = opening.open_for_serving(uri)
    clocks = {change.clocks for pair in plan.pairs for pace in pair.paces for change in pace.changes}
    clocks |= {pace.wait for pair in plan.pairs for pace in pair.paces}
    return Place(device, follows=clocks <= set(device.actuator.available()))


def _inputs(data: str | None, graph: Graph) -> Callable[[int], Tensors]:
    """Return what gives a request's tensors: from a file, or made up."""
    if data is not None:
        examples, rows = fitting(read_arrays(Path(data)), graph, data), graph.batch
        return lambda index: examples.batch(index * rows, rows)
    made = [onnx.example_inputs(graph, seed) for seed in range(_NUM_MADE_UP)]
    return lambda index: made[index % _NUM_MADE_UP]


def _nears(
    plan: Split, folder: Path, place: Place, graph: Graph, *, remote: bool
) -> tuple[tuple[Near, ...], tuple[Example, ...]]:
    """Load what the device runs, and compute here what the server must answer to an example."""
    inputs = onnx.example_inputs(graph, _SEED)
    nears, known = [], []
    for pair in plan.pairs[: None if remote else 1]:
        here = plan.whole if pair.server is None else pair.device
        made = near(place, pair, None if here is None else folder / here.file, inputs)
        crossing = {**inputs, **made.run(place, inputs, 0)}
        tensors = {name: crossing[name] for name in pair.sent}
        nears.append(made)
        known.append(Example(tensors, {} if pair.server is None else _answer(folder / pair.server.file, tensors)))
    return tuple(nears), tuple(known)


def _answer(path: Path, tensors: Tensors) -> Tensors:
    opened = _session(path)
    names = [each.name for each in opened.get_outputs()]
    return dict(zip(names, opened.run(names, dict(tensors)), strict=True))


def _session(path: Path) -> onnxruntime.InferenceSession:
    return session(path, options(1, optimised=False))


def _tolerance(pair: Pair) -> float:
    """Return how far an answer may be from the whole network's: as far as the plan found it to be in its precision."""
    return ROUNDING if pair.precision == "fp32" else max(2.0 * pair.deviation, ROUNDING)


def _remote(url: str) -> Remote:
    wrong = ValueError(f"--server {url!r} is not like http://127.0.0.1:8000")
    try:
        parts = urlsplit(url)
        is_known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise wrong from error
    if not is_known or "@" in parts.netloc or any(each.isspace() for each in url):
        raise wrong
    root = parts.path.rstrip("/").removesuffix("/v2")
    return Remote(url, parts.scheme == "https", parts.netloc, root, _TIMEOUT_S)


def _notes(plan: Split, place: Place) -> tuple[str, ...]:
    said = []
    if not place.follows:
        said.append(
            f"{place.device.name} has not the clocks of the plan for {plan.where.device}: they were left alone, "
            f"its own times were measured, and cuts were ranked by the energy planned there."
        )
    if len(plan.pairs) == 1:
        said.append("The plan has no half for a server: all runs here. amble split --moving makes more.")
    return tuple(said)
