"""Asks of clients → clocks set, leases kept, everything put back: all decisions of the guard, without a socket.

Theory of operation. A device is free, held, or *owed*: its clocks must go back and could not yet. A hold belongs to one
connection. It ends when that connection asks so, ends itself, or has not asked for its lease's time; then what was
found is put back, and what cannot be put back at once (a lost card) is tried again every time the guard wakes. The
actuators are leased ones (`devices/lease.py`): what was found is in a file before anything changes, and should the
guard itself be killed, a watchdog of it does the same. Time and clients are told to it, so that years of faults can be
tried in seconds.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import Actuator
from amble.devices.guarded.protocol import MOST_LEASE_S, Answer, Ask, Held, decode, encode
from amble.services.guard.rules import Rule, Rules

__all__ = ["Guard", "Owned", "Peer"]

_LOG = logging.getLogger(__name__)


class Owned(Actuator, Protocol):
    """An actuator that puts back what it found: ``Clocks()`` applied to it does so."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, as the kernel says."""

    pid: int
    uid: int


@dataclass(slots=True)
class _Hold:
    client: int
    peer: Peer
    clocks: Clocks
    lease_s: float
    until_s: float


class Guard:
    """Lends clocks. ``open_device`` gives a device's leased actuator; ``now_s`` tells the time [s]."""

    def __init__(self, rules: Rules, open_device: Callable[[str], Owned], now_s: Callable[[], float]) -> None:
        self._rules = rules
        self._open = open_device
        self._now_s = now_s
        self._actuators: dict[str, Owned] = {}
        self._holds: dict[str, _Hold] = {}
        self._owed: set[str] = set()

    def answer(self, client: int, peer: Peer, line: bytes) -> bytes:
        """Answer one line of a client. Whatever it holds, nothing but an answer comes out."""
        try:
            return encode(self._answer(client, peer, decode(line, Ask)))
        except Refused as reason:
            return encode(Answer(False, str(reason)))

    def gone(self, client: int) -> None:
        """A connection has ended: put back what it held."""
        for device in [name for name, hold in self._holds.items() if hold.client == client]:
            _LOG.info("%s: its client ended", device)
            self._put_back(device)

    def wake(self) -> float | None:
        """End what is over and try again what is owed → in how many seconds to wake again; None: no need."""
        now_s = self._now_s()
        for device in [name for name, hold in self._holds.items() if hold.until_s <= now_s]:
            _LOG.warning("%s: process %d did not ask for its lease's time", device, self._holds[device].peer.pid)
            self._put_back(device)
        for device in tuple(self._owed):
            self._put_back(device)
        if self._owed:
            return _AGAIN_S
        return min((max(0.0, hold.until_s - now_s) for hold in self._holds.values()), default=None)

    def close(self) -> None:
        """Put everything back."""
        for device in (*self._holds, *self._owed):
            self._put_back(device)

    @property
    def owed(self) -> frozenset[str]:
        """Return the devices whose clocks must go back and could not yet."""
        return frozenset(self._owed)

    def _answer(self, client: int, peer: Peer, ask: Ask) -> Answer:
        if ask.do == "status":
            return Answer(True, held=self._held(peer))
        rule = self._rules.of(peer.uid, ask.device)
        if rule is None:
            raise Refused(f"user {peer.uid} may not set its clocks; an administrator can allow it in the guard's list")
        hold = self._holds.get(ask.device)
        if hold is not None and hold.client == client:
            hold.until_s = self._now_s() + hold.lease_s
        match ask.do:
            case "available":
                settings = self._actuator(ask.device).available()
                return Answer(True, available=tuple(each for each in settings if rule.admits(each)))
            case "current":
                return Answer(True, clocks=self._actuator(ask.device).current())
            case "hold":
                return self._hold(client, peer, ask, rule)
            case _:
                return self._keep(ask, hold is not None and hold.client == client)

    def _keep(self, ask: Ask, mine: bool) -> Answer:
        """Renew a lease, which has just been done, or release it."""
        if ask.do == "renew" and not mine:
            raise Refused("the lease is over and its clocks were put back; ask for them anew")
        if ask.do == "release" and mine:
            self._put_back(ask.device)
        return Answer(True)

    def _hold(self, client: int, peer: Peer, ask: Ask, rule: Rule) -> Answer:
        hold = self._holds.get(ask.device)
        if hold is not None and hold.client != client:
            raise Refused(f"its clocks are held by process {hold.peer.pid}; wait for it")
        if ask.device in self._owed:
            raise Refused("its clocks could not be put back yet; see the guard's log")
        if ask.clocks is None or ask.clocks == Clocks() or not 0 < ask.lease_s <= MOST_LEASE_S:
            raise Refused(f"hold needs clocks and a lease of at most {MOST_LEASE_S:g} s")
        if not rule.admits(ask.clocks):
            raise Refused(f"{ask.clocks} is outside of what the guard's list allows user {peer.uid}")
        actuator = self._actuator(ask.device)
        self._holds[ask.device] = _Hold(client, peer, ask.clocks, ask.lease_s, self._now_s() + ask.lease_s)
        try:
            actuator.apply(ask.clocks)
        except Exception as error:
            self._put_back(ask.device)
            raise error if isinstance(error, Refused) else Refused(f"cannot be set: {error}") from error
        with contextlib.suppress(KeyError):  # setting takes time
            self._holds[ask.device].until_s = self._now_s() + ask.lease_s
        return Answer(True, clocks=actuator.current())

    def _put_back(self, device: str) -> None:
        self._holds.pop(device, None)
        try:
            self._actuators[device].apply(Clocks())
        except (Refused, OSError) as error:
            if device not in self._owed:
                _LOG.error("%s: cannot put its clocks back yet: %s", device, error)
            self._owed.add(device)
            return
        self._owed.discard(device)

    def _actuator(self, device: str) -> Owned:
        if device not in self._actuators:
            self._actuators[device] = self._open(device)
        return self._actuators[device]

    def _held(self, peer: Peer) -> tuple[Held, ...]:
        now_s = self._now_s()
        seen = (
            self._holds.items()
            if peer.uid == 0
            else [each for each in self._holds.items() if self._rules.of(peer.uid, each[0]) is not None]
        )
        return tuple(
            Held(device, hold.peer.pid, hold.peer.uid, str(hold.clocks), max(0.0, hold.until_s - now_s))
            for device, hold in seen
        )


_AGAIN_S = 0.2
