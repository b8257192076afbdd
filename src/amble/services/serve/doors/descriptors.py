"""File descriptors in use → a line in the log before none is left: the kernel then drops connections in silence."""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["in_use", "told", "watched"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 1.0
_AGAIN_S = 60.0
_MUCH = 0.9
_OWN = Path("/proc/self/fd")


def in_use() -> tuple[int | None, int]:
    """Return how many descriptors are open (None where that is not told) and how many may be."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return len(os.listdir(_OWN)), most
    except FileNotFoundError:
        return None, most
    except OSError:  # looking takes a descriptor, and there is none
        return most, most


def told(look: Callable[[], tuple[int | None, int]]) -> bool:
    """Write to the log when nearly all descriptors are in use."""
    count, most = look()
    if count is None or count < _MUCH * most:
        return False
    _LOG.error("%d of %d file descriptors are in use: connections will be dropped; raise LimitNOFILE", count, most)
    return True


@contextmanager
def watched() -> Iterator[None]:
    """Look once a second while the block runs, in a thread of its own."""
    over = threading.Event()

    def look() -> None:
        quiet_until_s = 0.0
        while not over.wait(_LOOK_S):
            if time.monotonic() >= quiet_until_s and told(in_use):
                quiet_until_s = time.monotonic() + _AGAIN_S

    thread = threading.Thread(target=look, name="amble-descriptors", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
