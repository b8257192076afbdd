"""What is told of a day in virtual time: from `day`."""

from __future__ import annotations

from bench.kit.told import Numbers, plain

SOURCES = {"day": "day@sim"}


NUMBERS: Numbers = {
    "day.minutes": lambda r: plain(r.value("wall time") / 60),
}
TABLES: Numbers = {}
