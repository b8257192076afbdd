"""Examples, perhaps with labels, and how they are dealt out to what they are for.

Files often are sorted: by label, by camera, by day. Whoever takes the first examples of such a file to calibrate with
and the last to judge by compares one class with another. So the order of a file counts for nothing here: every example
gets its place from what it holds, and the classes are spread evenly over the places, so that any stretch of them has
each class in its share. Two files of the same examples are dealt out alike, whatever their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from amble.core.errors import Refused

__all__ = ["Examples", "Part", "dealt"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

_HALF_TURN = 0.6180339887498949  # of a circle: offsets of classes, as unlike one another as can be (golden ratio)


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples, perhaps with labels. ``inputs``: for each input of the network [example, …]; ``labels``: [example]."""

    inputs: dict[str, Array]
    labels: Ints | None = None

    def __len__(self) -> int:
        """Count the examples."""
        return len(next(iter(self.inputs.values())))

    def request(self, index: int) -> dict[str, Array]:
        """Return one example as a batch of one; indices wrap around."""
        return self.batch(index, 1)

    def batch(self, first: int, size: int) -> dict[str, Array]:
        """Return ``size`` examples from ``first`` on; indices wrap around."""
        at = np.arange(first, first + size) % len(self)
        return {name: values[at] for name, values in self.inputs.items()}

    def rows(self, start: int, stop: int) -> Examples:
        """Return examples ``start`` to ``stop - 1`` as examples of their own."""
        inputs = {name: values[start:stop] for name, values in self.inputs.items()}
        return Examples(inputs, None if self.labels is None else self.labels[start:stop])

    def shuffled(self) -> Examples:
        """Return the examples in the order in which they are dealt out, whatever the order they are in."""
        order = self._order()
        inputs = {name: values[order] for name, values in self.inputs.items()}
        return Examples(inputs, None if self.labels is None else self.labels[order])

    def judge(self, index: int, outputs: Mapping[str, Array]) -> bool | None:
        """Tell whether the highest score of the first output is the label's; None without an answer or a label.

        An answer that holds NaN has no highest score.
        """
        scores = next(iter(outputs.values()), None)
        if scores is None or self.labels is None:
            return None
        flat = scores.reshape(-1)
        if flat.dtype.kind == "f" and np.isnan(flat).any():
            return False
        return bool(flat.argmax() == self.labels[index % len(self)])

    def _order(self) -> Ints:
        """Return the examples by their places: [place] → example."""
        at_random = np.argsort(self._digests(), kind="stable")
        if self.labels is None:
            return at_random
        labels = self.labels[at_random]
        places = np.empty(len(self))
        for turn, label in enumerate(np.unique(labels)):
            (own,) = np.nonzero(labels == label)
            places[own] = (np.arange(len(own)) + (0.5 + _HALF_TURN * turn) % 1.0) / len(own)
        return np.asarray(at_random[np.argsort(places, kind="stable")], dtype=np.int64)

    def _digests(self) -> npt.NDArray[np.uint64]:
        """Return a number for each example that its bytes alone decide: [example]."""
        arrays = [np.ascontiguousarray(self.inputs[name]) for name in sorted(self.inputs)]
        if self.labels is not None:
            arrays.append(self.labels)
        found = np.empty(len(self), dtype=np.uint64)
        for at in range(len(self)):
            digest = hashlib.blake2b(digest_size=8)
            for values in arrays:
                digest.update(repr(values[at].tolist()).encode() if values.dtype.hasobject else values[at].tobytes())
            found[at] = int.from_bytes(digest.digest(), "little")
        return found


@dataclass(frozen=True, slots=True)
class Part:
    """What examples are for, as words after "to": at most a ``share`` of all and ``most``, at ``least`` so many."""

    purpose: str
    share: float
    most: int | None = None
    least: int = 1


def dealt(examples: Examples, parts: Sequence[Part], name: str) -> dict[str, Examples]:
    """Deal examples out → for each purpose its own; none gets what another has.

    A share may be 1.0 for the last part: whatever is left. Refused, naming the file, where a part would have too few.
    """
    whole, first = examples.shuffled(), 0
    found: dict[str, Examples] = {}
    for each in parts:
        num = min(int(each.share * len(whole)), len(whole) - first, each.most or len(whole))
        found[each.purpose] = whole.rows(first, first + num)
        first += num
    if any(len(found[each.purpose]) < each.least for each in parts):
        shares = " and ".join(f"{len(found[each.purpose])} to {each.purpose}" for each in parts)
        raise Refused(f"{name} has {_counted(len(whole))}: {shares}, never the same; give at least {_needed(parts)}")
    return found


def _counted(num: int) -> str:
    return f"{num} example{'' if num == 1 else 's'}"


def _needed(parts: Sequence[Part]) -> int:
    """Return how many examples are enough for all parts."""
    needed, taken = 0, 0
    for each in parts:
        share = each.share if each.share < 1.0 else 1.0
        needed = max(needed, int(np.ceil(each.least / share)), taken + each.least)
        taken += each.least
    while not _is_enough(parts, needed):
        needed += 1
    return needed


def _is_enough(parts: Sequence[Part], num: int) -> bool:
    left = num
    for each in parts:
        taken = min(int(each.share * num), left, each.most or num)
        if taken < each.least:
            return False
        left -= taken
    return True
