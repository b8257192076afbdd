"""What is told of the server on several cores: from `serve_cores`."""

from __future__ import annotations

from bench.kit.told import Numbers, Result, plain

SOURCES = {"serve_cores": "serve_cores@host"}


def _shares(result: Result) -> str:
    """Return the speed-up from one core to two over that of bare processes, of each network."""
    return " and ".join(plain(each["share"], 2) for each in result.records if "share" in each)


def _many(result: Result) -> str:
    """Return the rate of the most cores, simulated, over that of as many bare processes, of each network."""
    found = [each for each in result.records if "of_bare" in each]
    most = max(each["cores"] for each in found)
    return " and ".join(plain(each["of_bare"], 2) for each in found if each["cores"] == most)


NUMBERS: Numbers = {"serve_cores.shares": _shares, "serve_cores.many": _many}
TABLES: Numbers = {}
