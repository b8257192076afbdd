"""A network and labelled examples → the same network retrained to bear bit errors, as a file: `amble dram --retrain`.

What it learns from are examples that neither find rates nor verify a mapping. Needs the extra `torch`, which is loaded
at the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amble.core.errors import Refused, how_to_install
from amble.core.examples import Examples
from amble.inputs.examples import to_relearn
from amble.runtimes.onnx.reading import plainly

__all__ = ["Lesson", "lesson", "retrained"]

_BER = 2e-3  # that a network is retrained for: an order of magnitude above what FP32 networks bear untrained
_BATCH = 64
_HELD_OUT = 0.1  # of what is there to learn from
_LEAST = 500  # examples


@dataclass(frozen=True, slots=True)
class Lesson:
    """Examples to learn from, and others by which epochs are chosen."""

    learning: Examples
    choosing: Examples


def lesson(data: str | Path, name: str, used: int, read: Callable[[], Examples]) -> Lesson:
    """Return what may be learned from: of a file the first half but for the first ``used``, which find rates.

    Refused where that is too little.
    """
    every = to_relearn(data, name, used, read)
    if every.labels is None or len(every) < _LEAST:
        raise Refused(
            f"{data} leaves {len(every)} labelled examples to retrain with, and {_LEAST} are needed: "
            f"give at least {2 * (_LEAST + used)}, half of which verify"
        )
    cut = len(every) - round(_HELD_OUT * len(every))
    return Lesson(every.rows(0, cut), every.rows(cut, len(every)))


def retrained(
    model: Path,
    given: Lesson,
    output: Path,
    *,
    epochs: int,
    seed: int,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Path:
    """Write the network retrained for so many epochs; Refused without torch, for networks it cannot express, and
    for labels that are none of the network's classes.
    """
    try:
        from amble.levers.memory.learning.hardening import as_tensors, harden, top_rate
        from amble.runtimes.torch.exporting import to_onnx
        from amble.runtimes.torch.importing import to_torch
        from amble.runtimes.torch.training import Recipe, classes_known
    except ImportError as error:
        raise Refused(f"retraining needs {error.name}: {how_to_install('torch')}") from error

    if len(given.learning.inputs) != 1:
        raise Refused(f"{model.name} has {len(given.learning.inputs)} inputs; only networks with one can be retrained")
    (name,) = given.learning.inputs
    assert given.learning.labels is not None
    assert given.choosing.labels is not None
    with plainly(model) as file:
        network = to_torch(file)
    learning = as_tensors(given.learning.inputs[name], given.learning.labels)
    classes_known(network, learning)
    hardened = harden(
        network,
        learning,
        Recipe(epochs, top_rate=top_rate(epochs * (len(learning) // _BATCH)), batch=_BATCH, seed=seed),
        ber=_BER,
        held_out=as_tensors(given.choosing.inputs[name], given.choosing.labels),
        on_epoch=lambda epoch: on_progress("epochs", epoch.number, epochs),
    )
    to_onnx(hardened, output, learning.inputs[:2], inputs=name)
    return output
