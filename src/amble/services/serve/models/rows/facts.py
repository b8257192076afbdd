"""What is known of a tensor while the rows are followed, and one operator's view of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, NoReturn

import onnx

__all__ = [
    "FIXED",
    "Call",
    "Cell",
    "Fact",
    "Mixed",
    "Rule",
    "Times",
    "broadcast",
    "known",
    "merged",
    "product",
    "widest",
]


class Mixed(Exception):
    """The rows could not be shown to stay apart; the text says where and why."""


class Times(NamedTuple):
    """A size that is so many times the number of rows.

    Along such an axis lie ``outer`` stretches, each with a block of every row in turn: ``outer`` × rows × the rest.
    """

    each: int
    outer: int = 1


Cell = int | Times | None
"""A size or a whole number: known, a multiple of the number of rows, or unknown but the same for all rows."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One tensor: its sizes (None: not even their number), the axis of the rows, its elements where they are sizes.

    ``axis`` None is a tensor that is the same whatever the rows are, unless ``sized``: then it depends on their number.
    """

    shape: tuple[Cell, ...] | None = None
    axis: int | None = None
    values: tuple[Cell, ...] | None = None
    sized: bool = False

    @property
    def fixed(self) -> bool:
        """Tell that it is the same whatever the rows are, and however many."""
        return self.axis is None and not self.sized


FIXED = Fact()
"""A tensor that does not depend on the rows, of unknown shape."""


@dataclass(frozen=True, slots=True)
class Call:
    """One node and what is known of its inputs (None where an optional one is left out)."""

    node: onnx.NodeProto
    inputs: Sequence[Fact | None]

    def fail(self, why: str) -> NoReturn:
        """End the proof here."""
        kind = f"{self.node.domain}.{self.node.op_type}" if self.node.domain else self.node.op_type
        name = self.node.name or (self.node.output[0] if self.node.output else "")
        raise Mixed(f"operator {kind} (node {name!r}) {why}")

    def given(self, index: int) -> Fact:
        """Return an input that must be there."""
        found = self.optional(index)
        if found is None:
            self.fail(f"lacks its input {index}")
        return found

    def optional(self, index: int) -> Fact | None:
        """Return an input that may be left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def shape(self, index: int) -> tuple[Cell, ...]:
        """Return an input's sizes, of which the number must be known."""
        found = self.given(index).shape
        if found is None:
            self.fail(f"has an input {index} of unknown rank")
        return found

    def rows(self, index: int) -> int:
        """Return the axis of an input that holds rows."""
        axis = self.given(index).axis
        if axis is None:
            self.fail(f"takes the rows elsewhere than as its input {index}")
        return axis

    def all_fixed(self, first: int, *more: int) -> None:
        """Demand that these inputs, where given, do not depend on the rows."""
        for index in (first, *more):
            found = self.optional(index)
            if found is not None and not found.fixed:
                self.fail(f"takes input {index} from the rows or from their number")

    def others_fixed(self, *kept: int) -> None:
        """Demand that all inputs but these do not depend on the rows."""
        for index in range(len(self.inputs)):
            if index not in kept:
                self.all_fixed(index)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value."""
        for each in self.node.attribute:
            if each.name == name:
                return onnx.helper.get_attribute_value(each)
        return default

    def numbers(self, index: int) -> tuple[int, ...]:
        """Return the elements of an input that must be known whole numbers."""
        values = self.given(index).values
        if values is None or not all(isinstance(each, int) for each in values):
            self.fail(f"takes its input {index} from a tensor whose elements are not known before it runs")
        return tuple(each for each in values if isinstance(each, int))

    def axes(self, index: int) -> tuple[int, ...] | None:
        """Return ``axes``, as an attribute or as an input; None where they are left out."""
        given = self.attribute("axes")
        if given is not None:
            return tuple(given)
        return self.numbers(index) if self.optional(index) is not None else None

    def place(self, axis: int, rank: int) -> int:
        """Return an axis counted from the front."""
        found = axis + rank if axis < 0 else axis
        if not 0 <= found < rank:
            self.fail(f"names axis {axis} of {rank}")
        return found


Rule = Callable[[Call], list[Fact]]


def product(cells: Sequence[Cell]) -> Cell:
    """Return the product of sizes; None where one is unknown or two hold the rows."""
    if any(each is None for each in cells):
        return None
    times = [each for each in cells if isinstance(each, Times)]
    plain = prod(each for each in cells if isinstance(each, int))
    if len(times) > 1:
        return None
    return Times(times[0].each * plain, times[0].outer) if times else plain


def known(cells: Sequence[Cell]) -> bool:
    """Tell that every one is a number or a multiple of the number of rows."""
    return all(each is not None for each in cells)


def merged(fact: Fact, inferred: tuple[Cell, ...] | None) -> Fact:
    """Fill in what a rule left open with what shape inference knows."""
    if inferred is None:
        return fact
    if fact.shape is None:
        shape = inferred
    elif len(fact.shape) != len(inferred):
        return fact
    else:
        shape = tuple(b if a is None else a for a, b in zip(fact.shape, inferred, strict=True))
    return Fact(shape, fact.axis, fact.values, fact.sized)


def broadcast(call: Call, given: Sequence[tuple[tuple[Cell, ...], int | None]]) -> Fact:
    """Put shapes over one another from the right; whatever has no rows must have one element where the rows are."""
    rank = max(len(shape) for shape, _ in given)
    places = {axis + rank - len(shape) for shape, axis in given if axis is not None}
    blocks = {shape[axis] for shape, axis in given if axis is not None}
    if len(places) != 1 or len(blocks) != 1:
        call.fail("joins rows of one operand with all rows of another")
    place = places.pop()
    padded = [(1,) * (rank - len(shape)) + shape for shape, _ in given]
    if any(axis is None and wide[place] != 1 for (_, axis), wide in zip(given, padded, strict=True)):
        call.fail("treats each row differently, by its place in the batch")
    made = [widest([wide[each] for wide in padded]) for each in range(rank)]
    made[place] = blocks.pop()
    return Fact(tuple(made), place)


def widest(cells: Sequence[Cell]) -> Cell:
    """Return the size that others are repeated to."""
    larger = {each for each in cells if each != 1}
    return larger.pop() if len(larger) == 1 else None if larger else 1
