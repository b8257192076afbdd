"""What takes clocks from a device right now, by name and with its remedy; and a runner that looks while it works.

GPUs tell reasons through NVML. Boards and this machine's CPU tell the state of what cools them: a *cooling device* of
Linux that slows something down (a fan does not) is above state 0 while a thermal zone is too hot.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Runner, Tensors, Timings
from amble.devices.knobs import read_text

__all__ = ["Reason", "WatchedRunner", "cooling"]

_THERMAL = "sys/class/thermal"
_BESIDE = ("_trip_point", "_weight")
_NO_THROTTLE = ("fan", "alert")  # cooling devices that take no clock
_COOL = "cool it: a fan at full speed (jetson_clocks --fan), a lower power mode or limit, or rests between runs"
_PERIOD_S = 0.02


@dataclass(frozen=True, slots=True)
class Reason:
    """Why clocks are lower than asked, and what to do about it."""

    says: str
    remedy: str


class WatchedRunner:
    """Looks for reasons while a runner profiles: each setting's timings say whether clocks were taken, and why.

    It looks every ``period_s`` [s] from a thread of its own; with None only at the end, as where time stands still
    between runs. ``seen`` are all reasons of its life, in the order in which they appeared.
    """

    def __init__(
        self, runner: Runner, reasons: Callable[[], tuple[Reason, ...]], *, period_s: float | None = _PERIOD_S
    ) -> None:
        self._runner = runner
        self._reasons = reasons
        self._period_s = period_s
        self.seen: tuple[Reason, ...] = ()

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a graph or one segment of it."""
        return self._runner.run(graph, point, inputs)

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time each operator of a whole graph; ``throttled`` and the notes say what took clocks meanwhile."""
        found: dict[Reason, None] = {}
        with self._looking(found):
            timings = self._runner.profile(graph, point, repeats)
        self.seen = tuple(dict.fromkeys((*self.seen, *found)))
        notes = tuple(f"{point.clocks}: {each.says} took clocks from this work" for each in found)
        return replace(timings, throttled=timings.throttled or bool(found), notes=(*timings.notes, *notes))

    @contextlib.contextmanager
    def _looking(self, found: dict[Reason, None]) -> Iterator[None]:
        """Look until the block ends, and once more then: work may be over before the first look."""
        stop = threading.Event()

        def look(period_s: float) -> None:
            while not stop.wait(period_s):
                found.update(dict.fromkeys(self._now()))

        every = () if self._period_s is None else (self._period_s,)
        threads = [threading.Thread(target=look, args=(each,), daemon=True, name="amble throttling") for each in every]
        for thread in threads:
            thread.start()
        try:
            yield
            last = self._now()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        found.update(dict.fromkeys(last))

    def _now(self) -> tuple[Reason, ...]:
        """Return what takes clocks away now; nothing where the device does not tell."""
        with contextlib.suppress(Refused):
            return self._reasons()
        return ()


def cooling(root: Path = Path("/")) -> Callable[[], tuple[Reason, ...]] | None:
    """Return what tells what is slowed down under a root's thermal zones; None where nothing there can be slowed."""
    found = [
        (zone, device)
        for zone in sorted((root / _THERMAL).glob("thermal_zone*"))
        for device in sorted(zone.glob("cdev[0-9]*"))
        if not device.name.endswith(_BESIDE) and _takes_clocks(device)
    ]
    if not found:
        return None
    return lambda: tuple(dict.fromkeys(each for pair in found if (each := _reason(*pair)) is not None))


def _takes_clocks(device: Path) -> bool:
    with contextlib.suppress(Refused):
        kind = read_text(device / "type").lower()
        return not any(word in kind for word in _NO_THROTTLE)
    return False


def _reason(zone: Path, device: Path) -> Reason | None:
    """Return why a cooling device is at work; None while it is not, or does not tell."""
    with contextlib.suppress(Refused, ValueError):
        if int(read_text(device / "cur_state")) > 0:
            return Reason(f"heat of zone {read_text(zone / 'type')} ({read_text(device / 'type')})", _COOL)
    return None
