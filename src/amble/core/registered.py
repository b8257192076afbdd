"""Entry points of packages that add to amble: a group → what they named, by its name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from amble.core.errors import Refused

__all__ = ["DEVICES", "GOVERNORS", "names", "registered"]

DEVICES, GOVERNORS = "amble.devices", "amble.governors"
T = TypeVar("T")


def names(group: str) -> tuple[str, ...]:
    """Return what is registered in a group by name; nothing is imported."""
    return tuple(sorted({each.name for each in _all(group, tuple(sys.path))}))


def registered(group: str, name: str, own: Mapping[str, T], fits: Callable[[object], bool]) -> T | None:
    """Return what is known as ``name``: amble's ``own`` first, then what others registered; None for nothing.

    Refused where a package brings what does not fit, cannot be imported, or takes a name that is taken.
    """
    others = tuple(each for each in _all(group, tuple(sys.path)) if each.name == name)
    if others and (name in own or len({each.value for each in others}) > 1):
        brought = ", ".join(sorted({_package(each) for each in others}))
        taken = "amble's own" if name in own else "each other's"
        raise Refused(f"{name!r} is named twice: {brought} would take {taken} name in {group}; uninstall one of them")
    if not others:
        return own.get(name)
    try:
        found = others[0].load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise Refused(f"{name!r} of {_package(others[0])} cannot be imported: {why}; mend or uninstall it") from error
    if not fits(found):
        what = f"a {type(found).__name__}, which is nothing for {group}"
        raise Refused(f"{name!r} of {_package(others[0])} is {what}; mend or uninstall it")
    fitting: T = found
    return fitting


@lru_cache(maxsize=16)
def _all(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return a group's entry points; looked for once, as it takes many milliseconds, while ``path`` stays the same."""
    return tuple(entry_points(group=group))


def _package(each: EntryPoint) -> str:
    return each.dist.name if each.dist else each.value
