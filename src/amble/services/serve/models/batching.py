"""A model, what its configuration claims, and a runtime → whether requests may share a batch, and why (not).

Only where it is proved: the operators keep rows apart, in every variant, and joined answers were compared with single
ones. Everything else runs one request at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors
from amble.services.serve.models.joining import Draw, Run, Unlike, compared
from amble.services.serve.models.rows import Verdict, proved_file
from amble.services.serve.pulse import Do

__all__ = ["Wish", "kept", "read", "runs", "tried"]

Compute = Callable[[Graph, OperatingPoint, Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class Wish:
    """The largest batch that is wanted; ``declared`` where the model's configuration claims it, not a default."""

    most: int
    declared: bool


def read(paths: Iterable[Path], shapes: Mapping[str, tuple[int, ...]], wish: Wish) -> Verdict:
    """Follow the rows through every variant's operators."""
    if wish.most < 1:
        return Verdict(False, "max_batch_size is 0 in its configuration")
    for name, shape in shapes.items():
        if shape and shape[0] != 1:
            return Verdict(
                False, f"--shape (or what is said of the model) gives the first axis of {name!r} the size {shape[0]}"
            )
    verdict = Verdict(False, "there is no network")
    for path in paths:
        verdict = proved_file(path)
        if not verdict.proved:
            break
    return verdict


def tried(verdict: Verdict, asking: Mapping[str, tuple[Run, Draw]], wish: Wish) -> Verdict:
    """Compare joined answers with single ones, in every variant: by its name, what answers, and what draws a row."""
    if not verdict.proved or wish.most < 2:
        return verdict
    told = []
    for variant, (run, draw) in asking.items():
        try:
            told.append(str(compared(run, draw, wish.most)))
        except (Unlike, Refused, ValueError) as reason:
            return Verdict(False, f"tried at {variant}: {reason}")
    return Verdict(True, "; ".join([verdict.reason, *dict.fromkeys(told)]))


def runs(graphs: Mapping[str, Graph], compute: Compute, do: Do) -> dict[str, Run]:
    """Return what answers a request in each variant, where ``do`` does it."""

    def run(graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        return do(partial(compute, graph, point, inputs))

    return {variant: partial(run, graph, OperatingPoint(precision=variant)) for variant, graph in graphs.items()}


def kept(verdict: Verdict, wish: Wish) -> Verdict:
    """Return the verdict; Refused where it refutes what the configuration claims."""
    if wish.declared and wish.most > 0 and not verdict.proved:
        raise Refused(f"max_batch_size {wish.most} cannot be kept: {verdict.reason}; set it to 0")
    return verdict
