"""A network and what is said of it → the shapes that it is tried and measured in, and what its inputs are fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.runtimes.onnx.reading import as_written
from amble.runtimes.onnx.shapes import network_inputs
from amble.runtimes.values import numpy_type
from amble.services.serve.models.settings import Settings
from amble.stages.measure.accuracy import read_arrays

__all__ = ["Axes", "Samples", "input_names", "open_axes", "shapes"]

Array = npt.NDArray[Any]
Axes = Mapping[str, tuple[int | str, ...]]
"""Inputs by name: each axis its size, or the symbol of an open one (perhaps empty)."""


def open_axes(path: Path) -> Axes:
    """Read the axes of a network's inputs, without its weights; an input of unknown rank is left out."""
    found: dict[str, tuple[int | str, ...]] = {}
    for each in _inputs(path):
        kind = each.type.tensor_type
        if kind.HasField("shape"):
            found[each.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in kind.shape.dim
            )
    return found


def input_names(path: Path) -> frozenset[str]:
    """Read the names of a network's inputs, those of unknown rank too."""
    return frozenset(each.name for each in _inputs(path))


def _inputs(path: Path) -> list[onnx.ValueInfoProto]:
    """Read the inputs; what is no file (a pipe would never end), or no network, is refused by who reads all of it."""
    try:
        model = onnx.load(str(path), load_external_data=False) if path.is_file() else as_written(path)[0]
    except (DecodeError, OSError):
        model, _ = as_written(path)
    return network_inputs(model.graph)


@dataclass(frozen=True, slots=True)
class Samples:
    """Given examples of a network's inputs, each [example, …]; ``said`` names them in messages."""

    inputs: Mapping[str, Array]
    said: str

    @classmethod
    def read(cls, path: Path, said: str, axes: Axes) -> Samples:
        """Read an ``.npz`` file. Refused where it lacks an input."""
        said = f"{said}: examples={path.name}"
        try:
            found = read_arrays(path)
        except Refused as error:
            raise Refused(f"{said}: {error}") from error
        if missing := [name for name in axes if name not in found.inputs]:
            raise Refused(f"{said} lacks the array {missing[0]!r}; it has {', '.join(sorted(found.inputs))}")
        return cls({name: found.inputs[name] for name in axes}, said)

    def shape(self, name: str, axes: tuple[int | str, ...]) -> tuple[int, ...] | None:
        """Return the shape of one example of an input, where its open axes are those of the examples."""
        found = self.inputs[name].shape[1:]
        return (1, *found) if len(axes) == len(found) + 1 else found if len(axes) == len(found) else None

    def draw(self, inputs: tuple[Port, ...], seed: int, *, rows: int = 1) -> dict[str, Array]:
        """Return examples from ``seed`` on, cut to the inputs' lengths: so many, where their first axis is a row.

        Refused where they do not fit.
        """
        return {port.name: self._drawn(port, seed, rows) for port in inputs}

    def _drawn(self, port: Port, seed: int, count: int) -> Array:
        values = self.inputs[port.name]
        wanted = np.dtype(object) if port.dtype == "string" else numpy_type(port.dtype)
        rows = values.ndim == len(port.shape)
        shape = port.shape[1:] if rows else port.shape
        fits = len(shape) == values.ndim - 1 and all(a <= b for a, b in zip(shape, values.shape[1:], strict=True))
        if not fits or not np.can_cast(values.dtype, wanted, "same_kind"):
            raise Refused(
                f"{self.said}: an example of {port.name!r} is {values.dtype} {list(values.shape[1:])}, "
                f"the network takes {wanted} {list(shape)}"
            )
        cut = values[(slice(None), *(slice(size) for size in shape))].astype(wanted)
        if not rows:
            return np.asarray(cut[seed % len(cut)])
        return cut[np.arange(seed, seed + port.shape[0] * count) % len(cut)]


def shapes(axes: Axes, settings: Settings, samples: Samples | None) -> dict[str, tuple[int, ...]]:
    """Bind what is said to the axes of a network → the shape of every input that has all its sizes.

    The batch is 1. Refused for what is said of an axis or an input that the network has not.
    """
    symbols = {each for named in axes.values() for each in named if isinstance(each, str) and each}
    for name, sizes in settings.sizes.items():
        if name in axes:
            _refuse_unlike(settings, name, axes[name])
        elif name not in symbols or len(sizes) != 1:
            known = ", ".join(sorted(symbols)) or "none"
            raise Refused(
                f"{settings.said}: {name}={','.join(map(str, sizes))}: the network has no input and no open axis of "
                f"that name; its inputs are {', '.join(axes)}, its open axes {known}"
            )
    found = {name: _shape(name, named, settings, samples) for name, named in axes.items()}
    return {name: shape for name, shape in found.items() if shape is not None}


def _refuse_unlike(settings: Settings, name: str, axes: tuple[int | str, ...]) -> None:
    sizes = settings.sizes[name]
    agrees = len(sizes) == len(axes) and all(
        size == axis or isinstance(axis, str) for size, axis in zip(sizes, axes, strict=True)
    )
    if not agrees:
        raise Refused(f"{settings.said}: {name}={','.join(map(str, sizes))}: the network takes {list(axes)}")


def _shape(
    name: str, axes: tuple[int | str, ...], settings: Settings, samples: Samples | None
) -> tuple[int, ...] | None:
    if name in settings.sizes:
        return settings.sizes[name]
    if not any(isinstance(axis, str) for axis in axes[1:]) and not {*axes[:1]} & {*settings.sizes}:
        return None  # nothing but the batch is open
    example = None if samples is None else samples.shape(name, axes)
    sizes = []
    for index, axis in enumerate(axes):
        if isinstance(axis, int):
            sizes.append(axis)
        elif axis in settings.sizes:
            sizes.append(settings.sizes[axis][0])
        elif example is not None:
            sizes.append(example[index])
        elif index == 0:
            sizes.append(1)
        else:
            return None
    return tuple(sizes)
