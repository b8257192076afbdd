"""A map file, or a page → which series of a server say what: arrivals, queue, latency, tokens.

A map is YAML: ``server``, ``recognised_by`` (series of which one is enough), ``series`` (what counts arrivals,
finished requests, waiting and running ones, prompt and output tokens), ``latencies`` (histograms, with their ``unit``)
and ``without`` (why a latency is missing, and what to do). ``names`` are tried in order: newer versions first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec
import yaml

from amble.core.errors import Refused
from amble.services.govern.objective import KINDS

__all__ = ["ROLES", "Probe", "ServerMap", "Source", "built_in", "load_map", "probe", "recognise"]

ROLES = ("arrivals", "finished", "waiting", "running", "prompt_tokens", "output_tokens")
_UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_EXAMPLE = (
    "server: mine; series: {finished: {names: [my_requests_total]}, waiting: {names: [my_queue]}}; "
    "latencies: {latency: {names: [my_latency_seconds], unit: s}}"
)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One quantity: names to try, labels it must have, the unit of a latency, and what is added to a gauge if there."""

    names: tuple[str, ...]
    where: dict[str, str] = {}
    unit: str = "s"
    plus: Source | None = None

    @property
    def unit_s(self) -> float:
        """Return the length of the unit [s]."""
        return _UNITS_S[self.unit]


class ServerMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the series of one server mean."""

    server: str
    series: dict[str, Source]
    latencies: dict[str, Source] = {}
    recognised_by: tuple[str, ...] = ()
    noted: str = ""
    without: dict[str, str] = {}

    def wanted(self, kinds: Collection[str]) -> frozenset[str]:
        """Return the names of all samples that are needed to judge these latencies."""
        sources = [*self.series.values(), *(each.plus for each in self.series.values() if each.plus)]
        plain = {name for source in sources for name in source.names}
        histograms = {name for kind in kinds if kind in self.latencies for name in self.latencies[kind].names}
        return frozenset(plain | {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")})


@dataclass(frozen=True, slots=True)
class Probe:
    """What a page has of what a map names: quantity → series, and what is missing with its remedy."""

    server: str
    noted: str
    found: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@cache
def built_in() -> tuple[ServerMap, ...]:
    """Return the maps that come with amble, by name."""
    folder = files(__package__).joinpath("maps")
    texts = sorted((each.name, each.read_text()) for each in folder.iterdir() if each.name.endswith(".yaml"))
    return tuple(_parsed(text, name) for name, text in texts)


def load_map(path: Path | str) -> ServerMap:
    """Read a user's map; Refused, with the key, when it is not one."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read the map {path}: {getattr(error, 'strerror', None) or error}") from error
    return _parsed(text, str(path))


def recognise(names: Collection[str]) -> ServerMap:
    """Return the built-in map for a page with these series; Refused with what a map would need if there is none."""
    present = {_family(name) for name in names} | set(names)
    matching = [each for each in built_in() if present & set(each.recognised_by)]
    if matching:  # amble's own page also has Triton's names
        return next((each for each in matching if each.server == "amble"), matching[0])
    guesses = sorted(name for name in names if name.endswith("_bucket"))[:3]
    hint = f"; histograms on the page: {', '.join(guesses)}" if guesses else "; the page has no histogram"
    known = ", ".join(each.server for each in built_in())
    raise Refused(
        f"the page is of no known server ({known}); write a map and pass --map FILE, as in '{_EXAMPLE}'{hint}"
    )


def probe(names: Collection[str], server: ServerMap) -> Probe:
    """Say which quantities of a map a page has, and what is missing."""
    present = set(names)
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for role, source in server.series.items():
        name = next((each for each in source.names if each in present), None)
        _put(role, name, f"no series {' or '.join(source.names)} yet", found, missing)
    for kind in ("latency", "ttft", "itl", "queue"):
        source_of = server.latencies.get(kind)
        options = source_of.names if source_of else ()
        name = next((each for each in options if f"{each}_bucket" in present), None)
        reason = server.without.get(kind) or (
            f"no histogram {' or '.join(options)} yet" if options else "this server has no histogram of it"
        )
        _put(kind, name, reason.strip(), found, missing)
    return Probe(server.server, server.noted, found, missing)


def _put(what: str, name: str | None, reason: str, found: dict[str, str], missing: dict[str, str]) -> None:
    if name is None:
        missing[what] = reason
    else:
        found[what] = name


def _family(name: str) -> str:
    for end in ("_bucket", "_sum", "_count"):
        name = name.removesuffix(end)
    return name


def _parsed(text: str, where: str) -> ServerMap:
    try:
        server = msgspec.convert(yaml.safe_load(text), ServerMap)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise Refused(
            f"{where} is not a map of a server: {' '.join(str(error).split())}; write '{_EXAMPLE}'"
        ) from error
    if unknown := sorted(server.series.keys() - set(ROLES)):
        raise Refused(f"{where}: series.{unknown[0]} is unknown; there are {', '.join(ROLES)}")
    for kind, source in server.latencies.items():
        if kind not in KINDS:
            raise Refused(f"{where}: latencies.{kind} is unknown; there are {', '.join(KINDS)}")
        if source.unit not in _UNITS_S:
            raise Refused(f"{where}: latencies.{kind}.unit {source.unit!r} is unknown; there are {', '.join(_UNITS_S)}")
    return server
