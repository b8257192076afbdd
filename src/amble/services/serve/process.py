"""Settings of the whole process that a server needs: who may keep interpreter and core, freed memory, and garbage.

Without the first a batch's answer waits up to 5 ms for the other thread. Where threads share a core it then waits for
the scheduler's slice of the next batch, some ms again, so the thread that talks to clients goes first where that is
allowed (root, or a limit on nice). Without kept memory the kernel clears the pages of every large body anew, which cost
more than all the rest of a request (measured: 1.5 against 0.1 ms for 600 kB). Garbage is looked for more rarely, as
requests leave no cycles behind.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from amble.runtimes.remote import limits

__all__ = ["most_connections", "niceness_of", "set_niceness", "tuned"]

_SWITCH_S = 0.0005
_PROMPT = -10  # of the calling thread's niceness; threads that it starts inherit it
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt
_KEPT_BYTES = 128 << 20
_LARGEST_BYTES = 32 << 20  # the most that glibc takes for the second
_FILES = resource.RLIMIT_NOFILE
_WANTED_FILES = 1 << 16
_KEPT_FILES = 256  # for what is no connection of a client
_GARBAGE = (20_000, 20, 50)  # thresholds of the three generations


class _Held:
    """What the process was set to before the first of its servers; the last one to end puts it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num = 0
        self._restore: Callable[[], None] = lambda: None

    def take(self) -> None:
        """Set the process for servers, unless it is."""
        with self._lock:
            if self._num == 0:
                self._restore = _set_for_servers()
            self._num += 1

    def give(self) -> None:
        """Put everything back, unless another server still runs."""
        with self._lock:
            self._num -= 1
            if self._num == 0:
                self._restore()


_HELD = _Held()


@contextmanager
def tuned() -> Iterator[int]:
    """Keep the settings while the block runs → the niceness for threads that compute, which is what it was.

    The calling thread becomes prompt. Servers of one process may end in any order. What malloc was told stays, where
    there is glibc.
    """
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    _HELD.take()
    set_niceness(max(-20, niceness + _PROMPT))
    try:
        yield niceness
    finally:
        set_niceness(niceness)
        _HELD.give()


def _set_for_servers() -> Callable[[], None]:
    """Change what the whole process shares; return what puts it back."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
    interval_s, thresholds, files = sys.getswitchinterval(), gc.get_threshold(), resource.getrlimit(_FILES)
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(*_GARBAGE)
    resource.setrlimit(_FILES, (max(files[0], min(_WANTED_FILES, files[1])), files[1]))

    def restore() -> None:
        resource.setrlimit(_FILES, files)
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval_s)

    return restore


def most_connections() -> int:
    """Return how many connections clients may have: half of the file descriptors, less some for the rest."""
    allowed, _ = resource.getrlimit(_FILES)
    return max(16, min(limits.CONNECTIONS, (allowed - _KEPT_FILES) // 2))


def set_niceness(niceness: int, thread_id: int | None = None) -> None:
    """Set the calling thread's niceness, or another's, where that is allowed and threads have their own (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread_id or threading.get_native_id(), niceness)


def niceness_of(thread_id: int) -> int:
    """Return the niceness of a thread of this process."""
    try:
        return os.getpriority(os.PRIO_PROCESS, thread_id)
    except OSError:
        return 0
