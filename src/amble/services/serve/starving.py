"""How long a thread wanted to run and was not let: on a machine that is too busy, who is late does not hang."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Starving"]

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_STATE, _USER, _SYSTEM = 0, 11, 12  # fields of /proc/PID/task/TID/stat behind the name


class Starving:
    """Watches one thread at a time, of this or of another process, by looking now and then.

    A thread that can run at two looks and has used less than half of the time between them was kept from its core. One
    that sleeps waits for something, and one that is stopped for somebody: that is not starving.
    """

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = root
        self._mark: object = None
        self._last: tuple[float, float, bool] | None = None  # when, processor time, whether it could run
        self._kept_s = 0.0

    def since(self, mark: object, thread: tuple[int, int], now_s: float) -> float:
        """Return for how long [s] a thread (process, thread) was kept from running since ``mark`` is what it is."""
        if (mark, thread) != self._mark:
            self._mark, self._last, self._kept_s = (mark, thread), None, 0.0
        found = self._read(thread)
        if found is None:
            return self._kept_s
        used_s, able = found
        if self._last is not None:
            passed_s, ran_s = now_s - self._last[0], used_s - self._last[1]
            if able and self._last[2] and ran_s < passed_s / 2:
                self._kept_s += passed_s - ran_s
        self._last = (now_s, used_s, able)
        return self._kept_s

    def _read(self, thread: tuple[int, int]) -> tuple[float, bool] | None:
        """Return a thread's processor time [s], and whether it can run; None where nobody can tell."""
        try:
            text = (self._root / str(thread[0]) / "task" / str(thread[1]) / "stat").read_text()
        except OSError:
            return None
        words = text.rpartition(")")[2].split()
        return (int(words[_USER]) + int(words[_SYSTEM])) * _TICK_S, words[_STATE] == "R"
