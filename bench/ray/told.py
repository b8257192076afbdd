"""What is told of devices on Ray: from `ray`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Result, between

SOURCES = {"ray": "ray@host"}


def _over_plain(result: Result, way: str) -> str:
    return between(result.values(f"p50 of {way} over plain Ray Serve's"), 1)


def _broken(result: Result, *, door: bool) -> str:
    """Count the requests that got an error while the door was killed, or while something else was."""
    killed = [each for each in result.where(part="killed") if (each["killed"] == "door") is door]
    return f"{sum(each['sent'] - each['answered'] - each['lost_in_silence'] for each in killed):,}"


NUMBERS: Numbers = {
    "ray.door": partial(_over_plain, way="amble's door"),
    "ray.proxy": partial(_over_plain, way="amble behind Serve's proxy"),
    "ray.silent": lambda r: str(sum(r.column("lost_in_silence", part="killed"))),
    "ray.sent": lambda r: f"{sum(r.column('sent', part='killed')):,}",
    "ray.broken_door": partial(_broken, door=True),
    "ray.broken_else": partial(_broken, door=False),
}
TABLES: Numbers = {}
