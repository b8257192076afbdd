"""Requests of unlike length in one batch: padded where that was tried and changed no answer, else only equal ones.

A text, a sound or a series has a length, an open axis beside the batch. Where the network has a mask of that length,
shorter requests can be padded to the longest of a batch, and the answers cut back: zeros everywhere, the mask's too.
Whether the network really leaves out what is masked, it is tried: padded answers, alone and in a batch of unlike
lengths, are compared with those of the request as it is. Longer than what was tried, and where any of it fails, only
requests of equal shape share a batch.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from amble.core.errors import Refused
from amble.core.ports import Tensors
from amble.runtimes.remote.datatypes import Array
from amble.services.serve.models.joining import Compared, Draw, Run, Unlike, difference
from amble.services.serve.models.samples import Axes
from amble.stages.control.batcher import Queue, Request
from amble.stages.control.tensors import join, split

__all__ = ["Lengths", "QueueByLength", "lengths_of", "tried"]

_MASK = re.compile(r"mask", re.IGNORECASE)
_FIRST_BUCKET = 16
_LOOK = 256  # requests that are looked through for some that go with the first
_SEEDS = 4
_EQUAL = "requests of equal shape share a batch, others do not"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Which requests of a model may share a batch, and ``reason``, one line for people.

    ``inputs``, ``outputs``: the axes that are the length, by name. ``buckets``: requests up to a bucket's length share
    a batch, longer ones than the last only with their equals; none: nobody is padded.
    """

    reason: str
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    buckets: tuple[int, ...] = ()

    def of(self, inputs: Mapping[str, Array]) -> int | None:
        """Return a request's length; None where it has none that could be padded."""
        found = {inputs[name].shape[axis] for name, axes in self.inputs.items() for axis in axes}
        length = found.pop() if len(found) == 1 else None
        return length if length is not None and self.buckets and length <= self.buckets[-1] else None

    def kind(self, inputs: Tensors) -> tuple[object, ...]:
        """Return what requests that may share a batch have in common."""
        length = self.of(inputs)
        if length is None:
            return tuple(value.shape[1:] for value in inputs.values())
        return (self.buckets[bisect_left(self.buckets, length)],)

    def padded(self, inputs: Tensors, length: int) -> Tensors:
        """Return a request's inputs filled with zeros (texts: empty ones) up to a length."""
        return {name: _filled(value, self.inputs.get(name, ()), length) for name, value in inputs.items()}

    def cut(self, outputs: Tensors, inputs: Mapping[str, Array]) -> Tensors:
        """Return the outputs of a request as they would be without padding."""
        length = self.of(inputs)
        if length is None:
            return outputs
        return {name: _cut(value, self.outputs.get(name, ()), length) for name, value in outputs.items()}


class QueueByLength(Queue):
    """A queue from which only such requests are taken at once as may share a batch: those that go with the first."""

    __slots__ = ("_lengths",)

    def __init__(self, limit: int, lengths: Lengths) -> None:
        super().__init__(limit)
        self._lengths = lengths

    def take(self, rows: int) -> list[Request]:
        """Remove the first request and those after it that go with it, padded to the longest of them."""
        places, used = [0], self._requests[0].rows
        kind = self._kind(self._requests[0])
        for place, each in enumerate(self._requests[1:_LOOK], start=1):
            if used + each.rows > rows:
                break
            if self._kind(each) == kind:
                places.append(place)
                used += each.rows
        taken = [self._requests[place] for place in places]
        for place in reversed(places):
            del self._requests[place], self._keys[place]
        self._rows -= used
        return self._alike(taken)

    def _kind(self, request: Request) -> tuple[object, ...]:
        return () if request.inputs is None else self._lengths.kind(request.inputs)

    def _alike(self, taken: list[Request]) -> list[Request]:
        lengths = [None if each.inputs is None else self._lengths.of(each.inputs) for each in taken]
        longest = max((each for each in lengths if each is not None), default=None)
        return [
            each
            if length in (None, longest) or longest is None or each.inputs is None
            else each._replace(inputs=self._lengths.padded(each.inputs, longest))
            for each, length in zip(taken, lengths, strict=True)
        ]


def lengths_of(axes: Axes) -> tuple[Mapping[str, tuple[int, ...]], str]:
    """Find the axes of inputs that are one length, beside the batch → them, or why there is no such."""
    open_ones = {
        name: tuple(index for index, axis in enumerate(sizes) if index and isinstance(axis, str))
        for name, sizes in axes.items()
    }
    symbols = {axes[name][index] for name, places in open_ones.items() for index in places}
    if len(symbols) > 1 or "" in symbols:
        told = ", ".join(repr(each) for each in sorted(map(str, symbols)))
        return {}, f"its open axes ({told}) are not one length"
    if not any(_MASK.search(name) for name, places in open_ones.items() if places):
        return {}, "it has no mask"
    return {name: places for name, places in open_ones.items() if places}, ""


def tried(axes: Axes, wanted: tuple[int, ...] | None, runs: Sequence[Run], draw: Draw, length: int) -> Lengths | None:
    """Say how requests of unlike length share a batch of a network that may be batched; None: it has no lengths.

    ``runs`` answer, one for each variant; ``draw`` gives single rows of ``length``; ``wanted`` are the buckets that are
    asked for. Refused where these go beyond what can be tried.
    """
    if not any(isinstance(axis, str) for sizes in axes.values() for axis in sizes[1:]):
        return None
    if wanted is not None and wanted and wanted[-1] > length:
        raise Refused(f"buckets={','.join(map(str, wanted))}: they go beyond the length {length} that it is tried with")
    inputs, why = lengths_of(axes)
    if wanted == () or not inputs:
        return Lengths(f"{_EQUAL}: {why or 'buckets are none'}")
    buckets = _doubled(length) if wanted is None else wanted
    told = []
    try:
        for run in runs:
            outputs = _following(run, inputs, draw, length)
            found = Lengths("", inputs, outputs, buckets)
            told.append(str(_compared(found, run, draw, length)))
    except (Unlike, Refused, ValueError) as reason:
        return Lengths(f"{_EQUAL}: padding was tried, and {reason}")
    symbol = next(axes[name][places[0]] for name, places in inputs.items())
    text = f"requests of unlike length ({symbol}) are padded to share a batch, up to {','.join(map(str, buckets))}"
    tried_on = f"tried on inputs of {_SEEDS} draws, not proved: {'; '.join(dict.fromkeys(told))}"
    return Lengths(f"{text}; {tried_on}", inputs, outputs, buckets)


def _doubled(length: int) -> tuple[int, ...]:
    found, size = [], _FIRST_BUCKET
    while size < length:
        found.append(size)
        size *= 2
    return (*found, length)


def _shorter(length: int) -> tuple[int, ...]:
    """Return lengths to try, the longest first."""
    return tuple(dict.fromkeys(max(1, each) for each in (length, length - 1, 3 * length // 4, length // 2, 1)))


def _short(inputs: Tensors, axes: Mapping[str, tuple[int, ...]], length: int) -> Tensors:
    return {name: _cut(value, axes.get(name, ()), length) for name, value in inputs.items()}


def _following(run: Run, inputs: Mapping[str, tuple[int, ...]], draw: Draw, length: int) -> dict[str, tuple[int, ...]]:
    """Find the axes of outputs that are as long as the inputs. Unlike where one depends on the length otherwise."""
    row = draw(0)
    lengths = _shorter(length)[:3]
    if len(lengths) < 2:
        raise Unlike(f"a length of {length} is too short to try it")
    shapes = [{name: value.shape for name, value in run(_short(row, inputs, each)).items()} for each in lengths]
    found: dict[str, tuple[int, ...]] = {}
    for name, first in shapes[0].items():
        sizes = [each[name] for each in shapes]
        if any(len(each) != len(first) for each in sizes):
            raise Unlike(f"output {name!r} has another number of axes for another length")
        follows = [index for index in range(len(first)) if tuple(each[index] for each in sizes) == lengths]
        others = [index for index in range(len(first)) if index not in follows and len({e[index] for e in sizes}) > 1]
        if others:
            raise Unlike(f"output {name!r} has a size on axis {others[0]} that follows the length in another way")
        found[name] = tuple(follows)
    return found


def _compared(lengths: Lengths, run: Run, draw: Draw, length: int) -> Compared:
    """Answer rows of several lengths as they are, padded, and padded in one batch, and compare."""
    worst, count = 0.0, 0
    for seed in range(_SEEDS):
        rows = [_short(draw(seed + place), lengths.inputs, each) for place, each in enumerate(_shorter(length))]
        alone = [run(each) for each in rows]
        filled = [lengths.padded(each, length) for each in rows]
        together = split(run(join(filled)), [1] * len(rows))
        for row, want, full, joined in zip(rows, alone, filled, together, strict=True):
            for got, how in ((run(full), "padded"), (joined, "padded in a batch")):
                cut = {
                    name: _cut(value, lengths.outputs[name], _size(row, lengths.inputs)) for name, value in got.items()
                }
                worst = max(worst, difference(want, cut, how))
                count += 1
    return Compared(count, worst, "padded")


def _size(row: Tensors, axes: Mapping[str, tuple[int, ...]]) -> int:
    name, places = next(iter(axes.items()))
    return int(row[name].shape[places[0]])


def _filled(value: Array, axes: tuple[int, ...], length: int) -> Array:
    if not axes:
        return value
    widths = [(0, length - size if axis in axes else 0) for axis, size in enumerate(value.shape)]
    if value.dtype == object:
        return np.pad(value, widths, constant_values="")
    return np.pad(value, widths)


def _cut(value: Array, axes: tuple[int, ...], length: int) -> Array:
    return value[tuple(slice(length) if axis in axes else slice(None) for axis in range(value.ndim))]
