"""Requests' tensors ↔ one batch's tensors: put together along the first axis, and cut apart again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amble.core.ports import Tensors

__all__ = ["join", "split"]


def join(inputs: Sequence[Tensors | None]) -> Tensors:
    """Concatenate along the first axis; nothing where no request brought any. ValueError where their names differ."""
    given = [each for each in inputs if each is not None]
    if not given:
        return {}
    if len(given) != len(inputs) or any(each.keys() != given[0].keys() for each in given):
        raise ValueError("the requests of a batch must bring the same tensors")
    if len(given) == 1:
        return given[0]
    return {name: np.concatenate([each[name] for each in given]) for name in given[0]}


def split(outputs: Tensors, rows: Sequence[int]) -> list[Tensors]:
    """Cut a batch's outputs into one mapping for each request, of so many rows each.

    ValueError where a batch of several requests does not have as many rows in every output as went in.
    """
    if not outputs or len(rows) == 1:
        return [outputs] * len(rows)
    whole = sum(rows)
    for name, tensor in outputs.items():
        if not tensor.ndim or tensor.shape[0] != whole:
            raise ValueError(f"output {name!r} has the shape {list(tensor.shape)} for a batch of {whole} rows")
    ends = np.cumsum(rows)[:-1].tolist()
    parts = {name: np.split(tensor, ends) for name, tensor in outputs.items()}
    return [{name: pieces[index] for name, pieces in parts.items()} for index in range(len(rows))]
