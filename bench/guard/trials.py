"""Guards over fake clock files on virtual time, and what can go wrong with them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import lease
from amble.devices.guarded.protocol import Answer, Ask, decode, encode
from amble.devices.knobs import BoundedKnob, Bounds, FileActuator, Kind
from amble.devices.lease import LeasedActuator, Owner
from amble.services.guard.guard import Guard, Peer
from amble.services.guard.rules import Rule, Rules

LEVELS_HZ = (300e6, 600e6, 900e6, 1200e6)
DEVICE = "sysfs:gpu"
PEER = Peer(4321, 1000)
NOBODY = Owner(2**22 + 1, "1", lease._boot())


@dataclass
class Faulty:
    """A knob that fails on demand: refuses, writes half of what it should, or is not there."""

    knob: BoundedKnob
    fault: str = ""

    @property
    def kind(self) -> Kind:
        return self.knob.kind

    @property
    def levels(self) -> tuple[float, ...]:
        return self.knob.levels

    def read(self) -> float:
        return self.knob.read()

    def found(self) -> tuple[tuple[str, str], ...]:
        if self.fault == "lost":
            raise Refused("the card is gone")
        return self.knob.found()

    def hold(self, level: float) -> None:
        if self.fault == "refused":
            raise Refused("no right")
        if self.fault == "half":
            self.knob.nodes[0].low.write_text(f"{level:.0f}\n")
            raise Refused("half of it")
        self.knob.hold(level)


@dataclass
class Machine:
    """A machine with one device, its guard, and time that is told."""

    folder: Path
    now_s: float = 0.0
    clients: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.folder / name for name in ("min_freq", "max_freq", "cur_freq")]
        for path, clock_hz in zip(paths, (300e6, 1200e6, 1200e6), strict=True):
            path.write_text(f"{clock_hz:.0f}\n")
        self.bounds = Bounds(*paths)
        self.knob = Faulty(BoundedKnob("core", LEVELS_HZ, (self.bounds,), 1.0))
        self.disk_full = False
        self.start()

    def start(self) -> None:
        """Start a guard, as after a crash or a boot."""
        rules = Rules({(PEER.uid, DEVICE): Rule(DEVICE, (PEER.uid,), core_mhz=(300, 900))})
        self.guard = Guard(rules, self.open, lambda: self.now_s)

    def open(self, device: str) -> LeasedActuator:
        return LeasedActuator(
            FileActuator([self.knob]), device, self.state, owner=lambda: NOBODY, watch=lambda path, owner: owner
        )

    @property
    def state(self) -> Path:
        """Where leases go; on a full disk that is a place nothing can be written to."""
        return Path("/dev/full/state") if self.disk_full else self.folder / "state"

    def ask(self, client: int, ask: Ask, peer: Peer = PEER) -> Answer:
        return decode(self.guard.answer(client, peer, encode(ask)), Answer)

    def hold(self, client: int, clock_hz: float = 600e6, lease_s: float = 3.0) -> Answer:
        return self.ask(client, Ask("hold", DEVICE, Clocks(core_hz=clock_hz), lease_s))

    def found(self) -> tuple[str, str]:
        return self.bounds.low.read_text().strip(), self.bounds.high.read_text().strip()

    def as_found(self) -> bool:
        return self.found() == ("300000000", "1200000000")

    def pass_s(self, duration_s: float) -> None:
        """Let time pass; the guard wakes when it wants to."""
        until_s = self.now_s + duration_s
        while self.now_s < until_s:
            wait_s = self.guard.wake()
            self.now_s = until_s if wait_s is None else min(until_s, self.now_s + max(wait_s, 1e-3))
        self.guard.wake()

    def crash(self) -> None:
        """Kill the guard: its watchdog puts back what its leases name, then a new one starts."""
        lease.restore(self.folder / "state")
        self.start()


FAULTS = ("end", "hang", "release", "refused", "half", "lost", "crash", "full", "two", "noise", "denied")


def trial(machine: Machine, rng: random.Random) -> str:
    """Hold clocks for a while and let something go wrong → what it was. Clocks must be as found a second later."""
    fault = rng.choice(FAULTS)
    client, other = next(machine.clients), next(machine.clients)
    asks = rng.randrange(1, 4)
    machine.disk_full = fault == "full"
    if fault == "full":
        machine.start()
    for at in range(asks):
        last = at == asks - 1
        machine.knob.fault = fault if fault in ("refused", "half") and last else ""
        answer = machine.hold(client, rng.choice(LEVELS_HZ[:3]), lease_s=rng.uniform(0.2, 3.0))
        expected = not (fault == "full" or machine.knob.fault)
        assert answer.ok == expected, (fault, answer)
        machine.pass_s(rng.uniform(0.0, 0.15))
    machine.knob.fault = ""
    _go_wrong(machine, fault, client, other, rng)
    machine.disk_full = False
    if fault == "full":
        machine.start()
    return fault


def _go_wrong(machine: Machine, fault: str, client: int, other: int, rng: random.Random) -> None:
    match fault:
        case "end":
            machine.guard.gone(client)
        case "hang":
            machine.pass_s(3.1)
            assert not machine.ask(client, Ask("renew", DEVICE)).ok
        case "release":
            assert machine.ask(client, Ask("release", DEVICE)).ok
        case "crash":
            machine.crash()
        case "two":
            assert not machine.hold(other).ok
            machine.guard.gone(other)
            assert not machine.as_found()
            machine.guard.gone(client)
        case "noise":
            machine.guard.answer(client, PEER, rng.randbytes(rng.randrange(200)))
            machine.guard.gone(client)
        case "denied":
            assert not machine.hold(client, 1200e6).ok
            assert not machine.ask(other, Ask("hold", DEVICE, Clocks(600e6)), replace(PEER, uid=7)).ok
            machine.guard.gone(client)
        case "lost":
            gone = machine.bounds.high
            text = gone.read_text()
            gone.unlink()
            machine.guard.gone(client)
            assert machine.guard.owed == {DEVICE}
            machine.pass_s(rng.uniform(0.0, 2.0))
            gone.write_text(text)
        case _:
            machine.guard.gone(client)
    machine.pass_s(1.0)
