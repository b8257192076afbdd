"""A function and items that need nothing of one another → the results, in the order of the items.

What a lever or a job hands its independent work to: here one after another in this process, elsewhere on many machines.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

__all__ = ["OnProgress", "Spread", "in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")
OnProgress = Callable[[str, int, int], None]


class Spread(Protocol):
    """Does a function on every item. What is not asked for any more is not done, or is given up."""

    def __call__(
        self, function: Callable[[Item, OnProgress], Result], items: Sequence[Item], on_progress: OnProgress
    ) -> Generator[Result, None, None]:
        """Yield the results in the order of the items.

        Function and items may travel, so that they hold data alone. ``on_progress`` is told how far the work is, by
        the function itself where there is one at a time. An error of the function is raised where its result is due.
        """
        ...


def in_order(
    function: Callable[[Item, OnProgress], Result], items: Sequence[Item], on_progress: OnProgress
) -> Generator[Result, None, None]:
    """Do one after another, in this process, each when its result is asked for."""
    return (function(each, on_progress) for each in items)
