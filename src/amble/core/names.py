"""A name nobody knows → the known one that was meant."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["distance", "nearest"]


def distance(one: str, other: str) -> int:
    """Return how many letters must be put in, left out, replaced or swapped with the next to get from one to the other.

    >>> distance("dedline", "deadline"), distance("lable", "label")
    (1, 1)
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(one):
        following = [i + 1]
        for j, right in enumerate(other):
            cost = min(row[j + 1] + 1, following[j] + 1, row[j] + (left != right))
            if i and j and left == other[j - 1] and one[i - 1] == right:
                cost = min(cost, before[j - 1] + 1)
            following.append(cost)
        before, row = row, following
    return row[-1]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is fewest changes away; ValueError where none is known."""
    return min(known, key=lambda each: (distance(name, each), each))
