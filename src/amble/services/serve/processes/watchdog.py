"""The parent's eye on its children: who hangs is killed, and then replaced like any that died."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from amble.services.serve.processes.beats import Beats, verdict
from amble.services.serve.processes.member import Member
from amble.services.serve.starving import Starving

__all__ = ["Watchdog"]

_LOG = logging.getLogger(__name__)
_EVERY_S = 0.5
_LATE_S = 1.0  # so much later than meant, it was itself held up


class Watchdog:
    """Looks at children in a thread of its own, until ``stop``. A child's row is its place among ``members``."""

    def __init__(self, members: Callable[[], Sequence[Member]], beats: Beats) -> None:
        self._members = members
        self._beats = beats
        self._starving: dict[int, Starving] = {}
        self._over = threading.Event()
        self._watched_s = self._looked_s = time.monotonic()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="amble-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more: what ends is not to be replaced."""
        self._over.set()

    def look(self, now_s: float) -> None:
        """Kill who hangs at this time [s]."""
        if now_s - self._looked_s > _EVERY_S + _LATE_S:
            self._watched_s = now_s
        self._looked_s = now_s
        for row, member in enumerate(self._members()):
            running = member.running
            if running is None or member.hung or self._over.is_set():
                continue
            beat, pid = self._beats.of(row), running.pid
            thread = (pid, pid if beat is None else beat.thread_id)
            mark = None if beat is None else beat.at_s
            kept_s = self._starving.setdefault(row, Starving()).since(mark, thread, now_s)
            why = verdict(beat, max(member.since_s, self._watched_s), kept_s, now_s)
            if why is not None and member.running is running:  # it has not been replaced meanwhile
                member.hung, member.up = True, False
                _LOG.error("%s hangs: %s; ending it (process %d)", member.name, why, pid)
                running.kill()

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            self.look(time.monotonic())
