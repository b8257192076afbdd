"""Faults in virtual time → whether the clocks were as found while each lasted.

Pages that are gone, frozen, damaged or without numbers, counters that begin again, and a card that refuses every
change for a while, also the one that puts its clocks back. A fault is kept when the clocks are as found from two
periods after it began (three where a page stands still: its first look is like any other) or after the card takes
changes again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from amble.core.errors import Refused
from amble.core.log import Governed
from amble.core.point import Clocks
from amble.core.ports import Device
from amble.services.govern.eyes import Eyes
from amble.services.govern.fetch import Gone
from amble.services.govern.hands import Hands
from amble.services.govern.head import Head
from amble.services.govern.maps import recognise
from amble.services.govern.opening import NoRunner
from amble.services.govern.page import names_of
from amble.services.govern.rehearsal import Batcher, device_of
from amble.services.govern.watching import Journal, Sight, Told, govern
from bench.govern.plants import Case

__all__ = ["KINDS", "Faults", "injected"]

KINDS = ("gone", "frozen", "nan", "renamed", "damaged", "empty", "restarted", "stuck")
_WAITS = "nv_inference_pending_request_count"


@dataclass
class Faults:
    """A server whose page and card go wrong by lot. ``wrong``: kind and how long it had lasted [s]."""

    server: Batcher
    lot: random.Random
    kind: str = ""
    since_s: float = 0.0
    until_s: float = 0.0
    next_s: float = 30.0
    count: int = 0
    wrong: list[tuple[str, float]] = field(default_factory=list)
    _frozen: str = ""

    def page(self) -> str:
        """Return the page, or what a fault makes of it."""
        now_s, text = self.server.now_s(), self.server.page()
        if self.kind and now_s >= self.until_s and self.kind != "stuck":
            self.kind = ""
        if not self.kind and now_s >= self.next_s:
            self.kind = self.lot.choice(KINDS)
            self.since_s, self.until_s = now_s, now_s + self.lot.uniform(3.0, 8.0)
            self.next_s = self.until_s + self.lot.uniform(4.0, 30.0)
            self.count += 1
            self._frozen = "\n".join(f"{_WAITS} 1" if line.startswith(_WAITS) else line for line in text.splitlines())
        return self._made(text)

    def apply(self, clocks: Clocks) -> None:
        """Set clocks, unless the card is stuck."""
        if self.kind == "stuck" and self.server.now_s() < self.until_s:
            raise Refused("the card takes no changes")
        self.server.apply(clocks)

    def available(self) -> tuple[Clocks, ...]:
        """Return the settings."""
        return self.server.available()

    def current(self) -> Clocks:
        """Return what runs."""
        return self.server.current()

    def looked(self, told: Told) -> None:
        """Note whether the clocks are as found while they must be."""
        now_s = self.server.now_s()
        limit_s = 3.0 if self.kind == "frozen" else 2.0
        began_s = self.until_s if self.kind == "stuck" else self.since_s
        due = self.kind not in ("", "restarted") and now_s - began_s > limit_s
        if due:
            self.server.sleep(0.02)
            if self.server.current() != self.server.plant.settings[0]:
                self.wrong.append((self.kind, now_s - began_s))
        if self.kind == "stuck" and due:
            self.kind = ""

    def _made(self, text: str) -> str:
        match self.kind:
            case "gone" | "stuck":
                raise Gone("no route")
            case "frozen":
                return self._frozen
            case "nan":
                return text.replace('le="+Inf",model_name="m"} ', 'le="+Inf"} NaN #')
            case "renamed":
                return text.replace("amble_request_duration", "amble_answer_duration")
            case "damaged":
                return text + '\namble_requests_total{outcome="} 3'
            case "empty":
                return ""
            case "restarted":
                return "\n".join(
                    line if line.startswith("#") else f"{line.rpartition(' ')[0]} 0" for line in text.splitlines()
                )
        return text


def injected(case: Case, seed: int) -> Faults:
    """Govern a case while things go wrong; return what happened."""
    server = case.server()
    assert isinstance(server, Batcher), "a batching server"
    text = server.page()
    eyes = Eyes.open(recognise(names_of(text)), case.objectives, text)
    head = Head(case.objectives, eyes.edges_s, eyes.judged_s, case.slowness, case.period_s, 0.0, seed)
    faults = Faults(server, random.Random(seed))  # noqa: S311
    device: Device = replace(device_of(server, NoRunner()), actuator=faults)
    hands: Any = Hands([device], server.plant.settings)
    about = Governed(
        "rehearsed", tuple(map(str, case.objectives)), eyes.edges_s, eyes.judged_s, server.plant.settings,
        case.slowness, case.period_s, 0.0, seed, hands.found,
    )  # fmt: skip
    journal = Journal(about, "rehearsed", "rehearsed", None, 60.0)
    govern(
        [Sight(faults.page, eyes)], [head], hands, server, until=lambda now_s: now_s >= case.duration_s,
        journals=[journal], on_period=faults.looked,
    )  # fmt: skip
    return faults
