"""Faults in virtual time → whether the clocks were as found while each lasted, and whether a false saving was stated.

Pages that are gone, frozen, damaged or without numbers, renamed series, counters that begin again; a card that refuses
every change for a while, also the one that puts its clocks back; one that is lost altogether, its meter too; one that
sets a clock and then says that it did not; one that runs other clocks than were asked for; a log that cannot be
written. A fault is kept when the clocks are as found from two periods after it shows: the first look at a page that
stands still is like any other, a full disk shows when the log is saved, and a stuck or lost card is looked at once it
takes changes again. A card that runs other clocks by itself must have been let go; one that sets half of a change is
wrong where it was let go and does not run as found.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.log import Governed, Log
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

PAGES = ("gone", "frozen", "nan", "renamed", "damaged", "empty", "restarted", "disk")
CARDS = ("stuck", "lost", "half", "unkept")
KINDS = (*PAGES, *CARDS)
_WAITS = "nv_inference_pending_request_count"
_MOST_OF_CARDS = 2  # after the third refusal hands rest for good, and nothing could go wrong any more
_SAVED_S = 5.0
_LATER_S = {"frozen": 1.0, "disk": _SAVED_S + 1.0}  # until the fault can be seen


@dataclass
class Faults:
    """A server whose page, card and disk go wrong by lot. ``wrong``: kind and how long it had lasted [s]."""

    server: Batcher
    lot: random.Random
    kind: str = ""
    since_s: float = 0.0
    until_s: float = 0.0
    next_s: float = 30.0
    count: int = 0
    gap_s: float = 26.0
    folder: Path | None = None
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[tuple[str, float]] = field(default_factory=list)
    hands: Hands | None = None
    log: Log | None = None
    _frozen: str = ""

    def page(self) -> str:
        """Return the page, or what a fault makes of it."""
        now_s, text = self.server.now_s(), self.server.page()
        if self.kind and now_s >= self.until_s and self.kind not in ("stuck", "lost"):
            self._mend()
        if not self.kind and now_s >= self.next_s:
            self._break(now_s)
            self._frozen = "\n".join(f"{_WAITS} 1" if line.startswith(_WAITS) else line for line in text.splitlines())
        return self._made(text)

    def apply(self, clocks: Clocks) -> None:
        """Set clocks, unless the card is stuck or lost; half a change is made, and refused."""
        if self.kind in ("stuck", "lost") and self.server.now_s() < self.until_s:
            raise Refused("the card takes no changes")
        self.server.apply(clocks)
        if self.kind == "half" and clocks != self.server.plant.settings[0]:
            raise Refused("the card set one clock and refused the other")

    def available(self) -> tuple[Clocks, ...]:
        """Return the settings."""
        return self.server.available()

    def current(self) -> Clocks:
        """Return what runs."""
        if self.kind == "lost" and self.server.now_s() < self.until_s:
            raise Refused("the card is lost")
        return self.server.plant.settings[-1] if self.kind == "unkept" else self.server.current()

    def read(self) -> Reading:
        """Return time and energy, which is unknown while the card is lost."""
        lost = self.kind == "lost" and self.server.now_s() < self.until_s
        return Reading(self.server.now_s(), None) if lost else self.server.read()

    def looked(self, told: Told) -> None:
        """Note whether the clocks are as found while they must be."""
        now_s = self.server.now_s()
        limit_s = 2.0 + _LATER_S.get(self.kind, 0.0)
        until_mended = self.kind in ("stuck", "lost")
        began_s = self.until_s if until_mended else self.since_s
        due = self.kind not in ("", "restarted") and now_s - began_s > limit_s
        if due:
            self.server.sleep(0.02)
            asked = Clocks() if self.hands is None else self.hands.asked
            let_go = asked == Clocks()
            found = self.server.current() == self.server.plant.settings[0]
            kept = {"unkept": let_go, "half": found or not let_go}.get(self.kind, found)
            if not kept:
                self.wrong.append((self.kind, now_s - began_s))
        if until_mended and due:
            self.kind = ""

    def _break(self, now_s: float) -> None:
        of_cards = sum(self.counts.get(kind, 0) for kind in CARDS)
        kinds = [*PAGES, *(CARDS if of_cards < _MOST_OF_CARDS else ())]
        self.kind = self.lot.choice([each for each in kinds if each != "disk" or self.folder is not None])
        self.since_s, self.until_s = now_s, now_s + self.lot.uniform(3.0, 8.0)
        self.next_s = self.until_s + self.lot.uniform(4.0, 4.0 + self.gap_s)
        self.count += 1
        self.counts[self.kind] = self.counts.get(self.kind, 0) + 1
        if self.kind == "disk" and self.folder is not None:
            self.folder.rename(self.folder.with_suffix(".away"))
            self.folder.write_text("no folder")

    def _mend(self) -> None:
        if self.kind == "disk" and self.folder is not None:
            self.folder.unlink()
            self.folder.with_suffix(".away").rename(self.folder)
        self.kind = ""

    def _made(self, text: str) -> str:
        match self.kind:
            case "gone" | "stuck" | "lost":
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


def injected(case: Case, seed: int, *, control: float = 0.0, gap_s: float = 26.0) -> Faults:
    """Govern a case while things go wrong, at most ``gap_s`` + 4 [s] apart; return what happened, with its log."""
    server = case.server()
    assert isinstance(server, Batcher), "a batching server"
    text = server.page()
    eyes = Eyes.open(recognise(names_of(text)), case.objectives, text)
    head = Head(case.objectives, eyes.edges_s, eyes.judged_s, case.slowness, case.period_s, control, seed)
    faults = Faults(server, random.Random(seed), gap_s=gap_s)  # noqa: S311
    device: Device = replace(device_of(server, NoRunner()), actuator=faults, meter=faults)
    hands: Any = Hands([device], server.plant.settings)
    faults.hands = hands
    about = Governed(
        "rehearsed", tuple(map(str, case.objectives)), eyes.edges_s, eyes.judged_s, server.plant.settings,
        case.slowness, case.period_s, control, seed, hands.found,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        faults.folder = Path(folder) / "logs"
        faults.folder.mkdir()
        journal = Journal(about, "rehearsed", "rehearsed", faults.folder / "log.json", _SAVED_S)
        govern(
            [Sight(faults.page, eyes)], [head], hands, server, until=lambda now_s: now_s >= case.duration_s,
            journals=[journal], on_period=faults.looked,
        )  # fmt: skip
    faults.log = journal.log(hands.changes)
    return faults
