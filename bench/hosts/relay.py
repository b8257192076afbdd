"""Two TAP devices → frames between them, each direction shaped by a `Pipe`; a process of its own.

    python -m bench.hosts.relay FD FD

The first line on stdin is a JSON list of two shapes (from the first device to the second, and back). A later line
replaces them: packets under way keep their times. ``null`` for a shape cuts that direction: what it is given is lost.
One line is answered on stdout for each that was read. Ends with stdin.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import select
import sys
import time
from dataclasses import dataclass, field

from bench.hosts.pipe import Pipe, Shape

__all__ = ["ahead_of_others", "main"]

_FRAME_BYTES = 14  # the Ethernet header, which a rate does not count
_MOST_BYTES = 65536
_IDLE_S = 1.0


@dataclass(slots=True)
class _Relay:
    """Frames under way: (due, number, device that it leaves by, frame)."""

    devices: tuple[int, int]
    pipes: list[Pipe | None] = field(default_factory=lambda: [None, None])
    under_way: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    count: int = 0
    begun_s: float = field(default_factory=time.monotonic)

    def shape(self, line: str) -> None:
        """Take shapes; a direction whose shape is as before goes on with its queue and draws."""
        for place, each in enumerate(json.loads(line)):
            pipe = self.pipes[place]
            shape = None if each is None else Shape.read(each)
            if shape is None or pipe is None or pipe.shape != shape:
                self.pipes[place] = None if shape is None else Pipe(shape)

    def take(self, place: int) -> None:
        """Read all frames that wait at a device."""
        while True:
            try:
                frame = os.read(self.devices[place], _MOST_BYTES)
            except BlockingIOError:
                return
            pipe = self.pipes[place]
            due_s = None if pipe is None else pipe.send(self.now_s(), max(1, len(frame) - _FRAME_BYTES))
            if due_s is not None:
                self.count += 1
                heapq.heappush(self.under_way, (due_s, self.count, 1 - place, frame))

    def give(self) -> float:
        """Write the frames that are due; return the time [s] until the next."""
        while self.under_way:
            left_s = self.under_way[0][0] - self.now_s()
            if left_s > 0:
                return left_s
            _, _, place, frame = heapq.heappop(self.under_way)
            try:
                os.write(self.devices[place], frame)
            except (BlockingIOError, OSError):  # the device is down, or full: lost, as on a wire
                continue
        return _IDLE_S

    def now_s(self) -> float:
        """Return the time since it began."""
        return time.monotonic() - self.begun_s


def ahead_of_others() -> None:
    """Run before what else is ready, where that is permitted: a relay that waits for a core is a worse link."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def main(words: list[str]) -> None:
    """Relay until stdin ends."""
    ahead_of_others()
    first, second = (int(each) for each in words)
    relay = _Relay((first, second))
    for each in relay.devices:
        os.set_blocking(each, False)
    while True:
        left_s = relay.give()
        ready, _, _ = select.select([*relay.devices, sys.stdin], [], [], left_s)
        for place, each in enumerate(relay.devices):
            if each in ready:
                relay.take(place)
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            relay.shape(line)
            print("ready", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
