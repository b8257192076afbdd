"""What may go wrong when a batch runs, and what its sender is told of it."""

from __future__ import annotations

from amble.core.errors import AmbleError, Refused
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Tensors
from amble.stages.control.batcher import Refusal

__all__ = ["FAILURES", "Unfit", "failure", "run"]

FAILURES = (AmbleError, ValueError, RuntimeError, OSError)


class Unfit(AmbleError):
    """The runtime does not run a network on these inputs: an index out of range, sizes that do not go together."""


def run(device: Device, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
    """Run a segment; Unfit where the runtime refuses what it was given."""
    try:
        return device.runner.run(graph, point, inputs)
    except Refused as error:
        raise Unfit(str(error)) from error


def failure(error: BaseException) -> Refusal:
    """Say what became of a request that could not be run: what the runtime refuses is in its inputs."""
    if isinstance(error, Unfit):
        return Refusal("inputs", str(error))
    return Refusal("failed", f"{type(error).__name__}: {error}")
