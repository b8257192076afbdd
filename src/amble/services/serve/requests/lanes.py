"""One device → engines side by side, so that no model waits for a batch of one that takes more than ten times as long.

An engine runs one batch at a time. Models of unlike length have engines of their own: below 3 ms, below 30 ms, and the
rest, each in a thread, and a quicker one goes first wherever two want the same core: the scheduler takes the core away
from the longer batch in its midst, and gives it some of the time all the same (about a tenth where it is wanted all the
time). Within an engine it is earliest deadline first, as ever.

Only where a device has neither a meter that tells nor clocks that can be set: of two batches at once nobody could say
whose a joule was, nor whose clocks should run. There all models share one engine.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from amble.core.errors import Refused
from amble.core.ports import Device
from amble.services.serve.process import niceness_of, set_niceness
from amble.services.serve.pulse import Do, Pulse, Sample
from amble.services.serve.starving import Starving
from amble.stages.control.batcher import Refusal, Request
from amble.stages.control.engine import Engine, Lane, Sink, Totals

__all__ = ["FINISHING_S", "LONGER_S", "MEASURING_S", "SHORTEST_S", "Lanes", "added", "alone"]

LONGER_S = (3e-3, 30e-3)
"""Times [s] of a single row from which on a model belongs to the next engine."""
FINISHING_S = 30.0
"""Time [s] for what waits for a model that is unloaded."""
_LOOK_S = 0.005
SHORTEST_S = 5.0
"""Time [s] that anything may take."""
MEASURING_S = 120.0
"""The same of one step of measuring a model that is being loaded."""
_NICER = 5  # for each quicker engine that has models


@dataclass(slots=True, eq=False)
class _Track:
    """An engine, what wakes it, its thread, and the models that it has."""

    engine: Engine
    pulse: Pulse
    thread_id: int = 0
    models: dict[str, float] = field(default_factory=dict)  # and how long [s] a batch may take
    nicer: int = 0
    over: bool = False
    starving: Starving = field(default_factory=Starving)


class Lanes:
    """Engines by the length of their models, which look like one."""

    def __init__(self, device: Device, sink: Sink, *, noting: bool = False) -> None:
        """Take the device over; nothing is set before ``run``."""
        count = 1 if alone(device) else 1 + len(LONGER_S)
        self._tracks = [_Track(Engine(device, (), sink, noting=noting), Pulse(device)) for _ in range(count)]
        self._of: dict[str, _Track] = {}
        self._lock = threading.Lock()
        self.told: Totals | None = None  # by whoever computes elsewhere, in place of what is counted here

    @property
    def totals(self) -> Totals:
        """Return what all have counted."""
        if self.told is not None:
            return self.told
        return added(track.engine.totals for track in self._tracks)

    @property
    def first(self) -> Sample | None:
        """Return the first sample of meter and clocks."""
        return self._tracks[0].pulse.first

    @property
    def last(self) -> Sample | None:
        """Return the newest sample of meter and clocks."""
        return self._tracks[0].pulse.last

    @property
    def do(self) -> Do:
        """Return what does some work in the thread of the longest models, which keeps the fewest waiting."""
        return self._tracks[-1].pulse.do

    def load(self, lane: Lane, one_s: float, patience_s: float) -> None:
        """Begin to serve a model whose single row takes so long [s]; one of its name stays where it is.

        A batch of it that takes longer than ``patience_s`` [s] hangs.
        """
        with self._lock:
            place = min(sum(one_s >= limit_s for limit_s in LONGER_S), len(self._tracks) - 1)
            track = self._of.setdefault(lane.model, self._tracks[place])
            track.models[lane.model] = patience_s
            track.engine.load(lane)
            self._yield()

    def unload(self, model: str) -> None:
        """Stop serving a model once what waits for it has been taken; what then still waits is refused.

        For any thread but an engine's own. Whoever calls it gives nothing more to this model.
        """
        track, until_s = self._of.get(model), time.monotonic() + FINISHING_S
        while track is not None and not track.over and track.engine.waiting(model) and time.monotonic() < until_s:
            time.sleep(_LOOK_S)
        with self._lock:
            track = self._of.pop(model, self._tracks[0])
            track.models.pop(model, None)
        track.engine.unload(model)

    def offer(self, request: Request) -> Refusal | None:
        """Queue a request and wake who computes it, or refuse it at once and say why; from any thread."""
        track = self._of.get(request.model, self._tracks[0])
        refusal = track.engine.offer(request)
        if refusal is None:
            track.pulse.ring()
        return refusal

    def withdraw(self, request: Request) -> bool:
        """Take back a request that still waits; False when it is too late for that."""
        return self._of.get(request.model, self._tracks[0]).engine.withdraw(request)

    def breathe(self, model: str) -> None:
        """Leave the core to who has an answer to send, where nothing waits for this model; in its engine's thread."""
        track = self._of.get(model, self._tracks[0])
        if not track.engine.waiting(model):
            track.pulse.breathe()

    def overdue(self, *, shortest_s: float = SHORTEST_S) -> str | None:
        """Say which engine has been busy with one thing for longer than anything it has can take; None: none has.

        Whatever it is may take ``shortest_s`` [s]. It goes by the longest of its models, since any of them may be what
        runs; time in which it is kept from its core does not count. From one thread, several times a second.
        """
        now_s = time.monotonic()
        for track in self._tracks:
            passed_s, allowed = track.pulse.passed_s, dict(track.models)
            if passed_s is None:
                continue
            still_s = now_s - passed_s - track.starving.since(passed_s, (os.getpid(), track.thread_id), now_s)
            if still_s > (MEASURING_S if track.pulse.working else max([shortest_s, *allowed.values()])):
                return f"what runs for {', '.join(sorted(allowed)) or 'nobody'} has not ended for {still_s:.0f} s"
        return None

    def run(self) -> Totals:
        """Compute until ``close``; raises what one of them raised, after all have ended."""
        errors: list[BaseException] = []
        others = [threading.Thread(target=self._run, args=(track, errors)) for track in self._tracks[1:]]
        for each in others:
            each.start()
        self._run(self._tracks[0], errors)
        for each in others:
            each.join()
        if errors:
            raise errors[0]
        return self.totals

    def close(self) -> None:
        """Finish what there is and return from ``run``, from any thread."""
        for track in self._tracks:
            track.pulse.close()

    def stop(self) -> None:
        """Refuse what waits and return from ``run`` after the batches that run; from any thread."""
        for track in self._tracks:
            track.engine.stop()
            track.pulse.ring()

    def abandon(self) -> None:
        """Refuse all work on the device, now and later: nobody computes any more."""
        for track in self._tracks:
            track.pulse.abandon()

    def _run(self, track: _Track, errors: list[BaseException]) -> None:
        with self._lock:
            track.thread_id = threading.get_native_id()
            self._yield()
        try:
            track.engine.run(track.pulse)
        except BaseException as error:  # raised in the thread of ``run``
            errors.append(error)
            self.stop()
            self.close()
        finally:
            track.over = True
            track.pulse.rest()

    def _yield(self) -> None:
        """Let the longer go after the quicker; without rights there is no way back, so only where there are both."""
        quicker = 0
        for track in self._tracks:
            wanted = _NICER * quicker
            if track.thread_id and track.models and wanted > track.nicer:
                set_niceness(niceness_of(track.thread_id) + wanted - track.nicer, track.thread_id)
                track.nicer = wanted
            quicker += bool(track.models)


def alone(device: Device) -> bool:
    """Tell whether a device takes one batch at a time: it tells joules, or has clocks that can be set."""
    if device.meter.read().energy_j is not None:
        return True
    available = device.actuator.available()
    if len(available) < 2:
        return False
    try:
        with device.held(available[-1]):
            return True
    except Refused:
        return False


def added(found: Iterable[Totals]) -> Totals:
    """Add up what engines have counted; energy is unknown where one of them does not know it."""
    whole = Totals()
    for each in found:
        for name in ("answered", "late", "batches", "changes", "unchanged"):
            setattr(whole, name, getattr(whole, name) + getattr(each, name))
        for name in ("active_j", "idle_j"):
            so_far, own = getattr(whole, name), getattr(each, name)
            setattr(whole, name, None if so_far is None or own is None else so_far + own)
        for cause, count in each.refused.items():
            whole.refused[cause] = whole.refused.get(cause, 0) + count
    return whole
