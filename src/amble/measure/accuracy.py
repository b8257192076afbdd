"""Labelled data → inputs and labels; outputs and labels → right or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import Tensors

__all__ = ["Labelled", "read_labelled"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Examples with labels. ``inputs``: for each input of the network [example, …]; ``labels``: [example] classes."""

    inputs: dict[str, npt.NDArray[Any]]
    labels: npt.NDArray[np.int64]

    def request(self, index: int) -> Tensors:
        """Return one example as a batch of one; indices wrap around."""
        at = index % len(self.labels)
        return {name: values[at : at + 1] for name, values in self.inputs.items()}

    def judge(self, index: int, outputs: Tensors) -> bool | None:
        """Tell whether the highest score of the first output is the label's; None when nothing was answered."""
        scores = next(iter(outputs.values()), None)
        if scores is None:
            return None
        return bool(scores.reshape(-1).argmax() == self.labels[index % len(self.labels)])


def read_labelled(path: Path, graph: Graph) -> Labelled:
    """Read an ``.npz`` file with one array for each input of the network and an array ``labels``."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError) as error:
        raise Refused(f"cannot read {path} as .npz data: {error}") from error
    missing = {"labels", *(port.name for port in graph.inputs)} - arrays.keys()
    if missing:
        raise Refused(f"{path} lacks the arrays {', '.join(sorted(missing))}; it has {', '.join(sorted(arrays))}")
    labels = arrays["labels"].astype(np.int64)
    inputs = {port.name: arrays[port.name] for port in graph.inputs}
    for name, values in inputs.items():
        if len(values) != len(labels):
            raise Refused(f"{path}: {len(values)} examples in {name} but {len(labels)} labels")
    return Labelled(inputs, labels)
