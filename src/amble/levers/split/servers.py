"""What a user states of a server's speed → the time of each operator there."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

from amble.core.errors import Refused

__all__ = ["read_times", "times_faster"]

_FACTOR = re.compile(r"(\d+(?:\.\d*)?|\.\d+)x")


def times_faster(text: str) -> float | None:
    """Read ``8x``; None for anything else.

    >>> times_faster("8x")
    8.0
    """
    match = _FACTOR.fullmatch(text)
    if not match:
        return None
    factor = float(match[1])
    if factor <= 0:
        raise Refused(f"--server {text}: a server has some speed; write 8x for one eight times as fast as the device")
    return factor


def read_times(path: Path | str, operators: Sequence[str]) -> tuple[float, ...]:
    """Read the columns ``operator`` and ``latency_s`` of a CSV file; Refused unless each operator has one time."""
    try:
        with Path(path).open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--server {path} cannot be read: {error}") from error
    times: dict[str, float] = {}
    for number, row in enumerate(rows, start=2):
        name, text = row.get("operator"), row.get("latency_s")
        if name is None or text is None:
            raise Refused(f"--server {path}, line {number}: the columns operator and latency_s are wanted")
        times[name] = _time(path, number, text)
    missing = [name for name in operators if name not in times]
    if missing:
        raise Refused(f"--server {path} has no time for {missing[0]!r} ({len(missing)} operators are missing)")
    return tuple(times[name] for name in operators)


def _time(path: Path | str, number: int, text: str) -> float:
    try:
        time_s = float(text)
    except ValueError:
        time_s = math.nan
    if not 0 <= time_s < math.inf:
        raise Refused(f"--server {path}, line {number}: latency_s is {text!r}, not a time in seconds")
    return time_s
