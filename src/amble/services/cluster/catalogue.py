"""What the devices of a cluster serve -> one repository, as its door tells of it; changes go round device by device.

All devices serve the same: a model's version is the same files everywhere, or nothing is served. While a change goes
round, each device takes no new work, answers what it has, changes, and comes back before the next one goes. A request
that names no version may meanwhile be answered by either, and its answer says which.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from amble.core.errors import Refused
from amble.runtimes.remote.fault import Fault
from amble.services.cluster.reports import Gone, Served
from amble.services.cluster.upstreams import Upstream
from amble.services.serve.models.model import Model
from amble.services.serve.models.repository import Repository

__all__ = ["Catalogue", "agreed"]

_LOG = logging.getLogger(__name__)
_QUIET_S = 30.0


def agreed(described: Mapping[str, Sequence[Served]]) -> tuple[Served, ...]:
    """Return what all devices serve, by the first one's description. Refused where they serve different things."""
    first, *others = described
    mine = {(each.name, each.version): each for each in described[first]}
    for other in others:
        theirs = {(each.name, each.version): each for each in described[other]}
        for name, version in mine.keys() ^ theirs.keys():
            has, lacks = (first, other) if (name, version) in mine else (other, first)
            raise Refused(
                f"the devices disagree: {has} serves {name!r} in version {version} and {lacks} does not; "
                "put the same models on every machine"
            )
        for key, served in mine.items():
            if theirs[key].digest != served.digest:
                raise Refused(
                    f"the devices disagree about model {served.name!r}, version {served.version}: its files are "
                    f"{served.digest[:12]}… for {first} and {theirs[key].digest[:12]}… for {other}; "
                    "put the same file on every machine"
                )
    return tuple(described[first])


@dataclass(slots=True)
class Catalogue(Repository):
    """The repository at a cluster's door. ``known`` is what was agreed on, ``upstreams`` who serves it."""

    upstreams: Sequence[Upstream] = ()
    known: tuple[Served, ...] = ()
    rolling: bool = field(init=False, default=False)
    _out: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with what was agreed on."""
        self._adopt(self.known)

    def names(self) -> tuple[str, ...]:
        """Return the names of all that is or was served."""
        return tuple(dict.fromkeys([*(each.name for each in self.known), *self._out]))

    def is_latest(self, model: Model) -> bool:
        """Tell whether this is the version that a request without one means."""
        versions = self._served.get(model.name)
        return versions is not None and next(iter(versions.values())) is model

    def fits(self, served: Sequence[Served]) -> str:
        """Say in what a device that has started anew differs from the others; empty where it does not."""
        if self.rolling:
            return ""
        try:
            agreed({"the others": self.known, "this device": served})
        except Refused as reason:
            return str(reason)
        return ""

    async def start(self, name: str, config: str | None = None) -> None:
        """Load a model, or load it anew, on one device after the other; Fault when one of them cannot."""
        if name in self._served and config is None and not self.admission.open_for_all:
            return  # the doors open: the devices have loaded it
        async with self._changing:
            await self._round(name, config, load=True)
            self._out.pop(name, None)

    async def stop(self, name: str) -> None:
        """Unload a model on all devices; Fault when it is not served."""
        async with self._changing:
            self.model(name)
            await self._round(name, None, load=False)
            self._out[name] = "unloaded"

    def index(self) -> list[dict[str, str]]:
        """List what can be served, and its state."""
        listed = [{"name": each.name, "version": each.version, "state": "READY", "reason": ""} for each in self.known]
        out = [name for name in self._out if name not in self._served]
        return listed + [
            {"name": name, "version": "", "state": "UNAVAILABLE", "reason": self._out[name]} for name in out
        ]

    async def _round(self, name: str, config: str | None, *, load: bool) -> None:
        """Have every device that is up change, one after the other; those that are down are told when they are back."""
        up = [upstream for upstream in self.upstreams if upstream.up]
        if not up:
            raise Fault(503, "no device is up: try again later")
        self.rolling = True
        try:
            for place, upstream in enumerate(up):
                last = place == len(up) - 1
                if last and place:
                    self._adopt(tuple(up[0].served.values()))
                await self._changed(upstream, name, config, load=load, alone=len(up) == 1)
            self._adopt(tuple(up[0].served.values()))
        finally:
            self.rolling = False

    async def _changed(self, upstream: Upstream, name: str, config: str | None, *, load: bool, alone: bool) -> None:
        """Have one device change while it has no work; a device that is alone changes at work."""
        upstream.open = alone
        try:
            if not alone:
                await _quiet(upstream)
            fault = await upstream.link.change(name, config, load=load)
            if fault is not None:
                raise Fault(fault.status, f"{upstream.name}: {fault.text}")
            upstream.serves(await upstream.link.describe())
            _LOG.info("%s %s %s", upstream.name, "has loaded" if load else "has unloaded", name)
        except Gone as gone:
            raise Fault(503, f"{upstream.name} died while it changed its models: {gone}; do it again") from gone
        finally:
            upstream.open = True

    def _adopt(self, known: tuple[Served, ...]) -> None:
        """Tell of these models from now on."""
        self.known = known
        served: dict[str, dict[str, Model]] = {}
        for each in known:
            before = self._served.get(each.name, {}).get(each.version)
            model = each.model()
            same = before is not None and before.found == model.found and before.versions == model.versions
            served.setdefault(each.name, {})[each.version] = before if same and before is not None else model
        self._served = served


async def _quiet(upstream: Upstream) -> None:
    """Wait until a device has no work, for some time at most."""
    try:
        async with asyncio.timeout(_QUIET_S):
            while upstream.rows:
                await asyncio.sleep(0.005)
    except TimeoutError:
        _LOG.warning("%s changes its models while it still has work", upstream.name)
